"""Held-out evaluation: the numbers of `cas score`, exact resume, the best weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.craft_trainer.conftest import WATCHED
from tests.craft_trainer.training.test_trainer import ready
from tests.support.tiny_models import build_siglip
from tests.support.warm import Warm

from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files
from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import (
    FolderConfig,
    read_manifest,
    write_folder_config,
    write_manifest,
)
from cas_metric.scoring import pipeline as scoring
from craft_trainer.artifact.folder import load_trained
from craft_trainer.bases.loading import load_model
from craft_trainer.config.schema import Config, parse_config, to_yaml
from craft_trainer.config.validation import Guards
from craft_trainer.data import dataset as data
from craft_trainer.generation import generate_folder
from craft_trainer.guards import heldout, memorization, samples
from craft_trainer.rewards import targets
from craft_trainer.training import trainer

CPU = torch.device("cpu")


def prepared(config: Config, *critics: Path) -> heldout.HeldOut:
    train = data.read_examples(config.data.train, config.data.domain)
    with EmbeddingCache("none") as cache:
        return heldout.prepare(
            config,
            train,
            [load_encoder(critic, device="cpu") for critic in critics],
            cache,
            latent_cells=8,
            device=CPU,
            progress=trainer.silent,
        )


def journal(folder: Path, name: str = "heldout.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_scores_are_those_of_cas_score(watched: Any, images: Path, tmp_path: Path) -> None:
    config = watched()
    held_out = prepared(config)
    model = load_model(config.base, device=CPU)
    look, _ = held_out.look(model, held_out.examples.prompts, 0, None)
    folder = tmp_path / "generated"
    generate_folder(
        model,
        held_out.examples,
        held_out.examples.prompts,
        folder,
        seeds=[config.validation.seed],
        method="base",
        sampling=config.sampling,
        resolution=config.data.resolution,
        batch_size=2,
    )
    with EmbeddingCache("none") as cache:
        scores = scoring.score_manifests(
            read_manifest(folder),
            held_out.examples.manifest,
            encoder=held_out.evaluator,
            cache=cache,
            domain=load_domain("phantom-chexpert"),
            train=read_manifest(images),
        )
    rows = scores.rows.set_index("reference_id" if "reference_id" in scores.rows else "id")
    order = [f"{name}-seed0" for name in held_out.examples.manifest.rows["id"]]
    real = scores.real.set_index("id").loc[list(held_out.examples.manifest.rows["id"])]
    for name in ("vdc", "ccs", "dd", "dd_prob", "sfs", "cas"):
        np.testing.assert_allclose(look.scores[name], rows.loc[order, name], atol=2e-5)
        np.testing.assert_allclose(held_out.real.scores[name], real[name], atol=2e-5)


def test_prompts_are_spread_over_the_classes() -> None:
    assert heldout.spread(["b", "b", "b", "a", "c", "a"], 4) == [3, 0, 4, 5]
    assert heldout.spread(["b", "a"], 9) == [1, 0]


def test_the_critic_cannot_be_its_own_evaluator(watched: Any, critic: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be its own held-out evaluator"):
        watched(validation={"encoder": str(critic)})
    copy = build_siglip(tmp_path / "renamed")  # the same seed, hence the same weights
    with pytest.raises(InputError, match="the very weights of the critic"):
        prepared(watched(validation={"encoder": str(copy)}), critic)


def test_every_critic_is_known(watched: Any, settings: Any, critic: Path, tmp_path: Path) -> None:
    copy = build_siglip(tmp_path / "renamed", seed=3)  # as the evaluator
    with pytest.raises(InputError, match="the very weights of the critic"):
        prepared(watched(), critic, copy)
    coarse = build_siglip(tmp_path / "coarse", seed=5, patch_size=16)
    assert prepared(watched(), critic, coarse).cells == (8, 32 // 8, 32 // 16)
    stage = {"method": "craft", "steps": 1, "safeguards": {"critics": [str(coarse)]}}
    found = [one.fingerprint for one in ready(settings(stage)).method.critics]
    assert found == [load_encoder(one, device="cpu").fingerprint for one in (critic, coarse)]


def test_training_images_cannot_be_held_out(watched: Any, images: Path) -> None:
    with pytest.raises(InputError, match=r"3 of the 3 held-out images .* are training images"):
        prepared(watched(validation={"manifest": str(images)}))


def test_classes_that_were_never_trained_are_refused(watched: Any, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (9, 99, 9)).save(tmp_path / "x.png")
    row = {"image": "x.png", "label": "Nonsense", "prompt": "p"}
    write_manifest(pd.DataFrame([row]), tmp_path)
    with pytest.raises(PreflightError, match="Nonsense"):
        prepared(watched(validation={"manifest": str(tmp_path)}))


def test_copies_are_found_by_hash_and_by_features(watched: Any, images: Path) -> None:
    config = watched(guards={"memorization": {"encoder": "phantom-dino"}})
    held_out = prepared(config)
    train = data.read_examples(images, None)
    seen = samples.as_pixels(samples.load_squares(train, config.data.resolution))
    assert held_out.training.copies(seen) == 1.0
    assert held_out.training.copies(seen, real=True) == 1.0
    noise = np.random.default_rng(0).integers(0, 256, seen.shape, dtype=np.uint8)
    assert held_out.training.copies(noise, real=True) == 0.0
    # By definition no real held-out image is nearer than all real held-out images.
    assert held_out.real.statistics["copies"] == 0.0


def test_looks_are_logged_beside_the_rewards(watched: Any) -> None:
    config = watched()
    artifact = trainer.train_stages(config, cache="none")
    looks = journal(artifact.parent)
    assert [look["step"] for look in looks] == [0, 1, 2, 3, 4]
    assert all(len(look["scores"]["cas"]) == 3 for look in looks)
    curves = journal(artifact.parent, "metrics.jsonl")
    assert [row["step"] for row in curves] == [1, 2, 3, 4]
    assert looks[0]["reward"] is None
    assert [look["reward"] for look in looks[1:]] == [row["reward/r_cam"] for row in curves]
    sheet = artifact.parent / "samples" / "heldout-0000002.png"
    assert Image.open(sheet).size == (32, 16)
    summary = json.loads((artifact.parent / "guards.json").read_text())
    assert summary["looks"] == [0, 1, 2, 3, 4]
    assert summary["stopped"] is None


def test_a_killed_run_ends_with_the_same_looks_and_the_same_best_bits(
    watched: Any, warm: Warm, tmp_path: Path
) -> None:
    whole = trainer.train_stages(
        watched(output=str(tmp_path / "whole"), artifact="best"), cache="none"
    )
    config = watched(output=str(tmp_path / "killed"), artifact="best")
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    warm.killed(file, 4)
    resumed = trainer.train_stages(config, cache="none")
    for name in ("heldout.jsonl", "metrics.jsonl"):
        assert (resumed.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    ours, theirs = (load_file(x / "pytorch_lora_weights.safetensors") for x in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_artefact_can_be_the_best_weights(watched: Any) -> None:
    config = watched(artifact="best")
    artifact = trainer.train_stages(config, cache="none")
    looks = journal(artifact.parent)
    best = max(looks, key=lambda look: float(np.mean(look["scores"]["cas"])))
    (file,) = (artifact.parent / "best").glob("*.safetensors")
    assert file.name == f"step-{best['step']:07d}.safetensors"
    # What the artefact draws is what was drawn at the best look.
    held_out = prepared(config)
    model = load_trained(artifact, config, CPU)
    look, _ = held_out.look(model, held_out.examples.prompts, 0, None)
    np.testing.assert_allclose(look.scores["cas"], best["scores"]["cas"], atol=1e-5)


def test_a_held_out_encoder_needs_its_images(settings: Any, evaluator: Path) -> None:
    with pytest.raises(InputError, match="takes both `encoder` and `manifest`"):
        settings(WATCHED, validation={"every": 1, "encoder": str(evaluator)})
    values = json.loads(settings(WATCHED).model_dump_json())
    with pytest.raises(InputError, match="artifact: best needs"):
        parse_config({**values, "artifact": "best"})


def test_encoders_see_images_in_the_window_of_their_folder(
    watched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, folders = np.random.default_rng(1), {}
    for name in ("train", "held-out"):
        folder = folders[name] = tmp_path / name
        folder.mkdir()
        rows = []
        for number in range(4):
            grey = rng.integers(1000, 1100, (20, 20)).astype(np.uint16)
            Image.fromarray(grey).save(folder / f"{number}.png")
            label = ("Cardiomegaly", "Pleural Effusion")[number % 2]
            row = {"id": f"{number}", "image": f"{number}.png", "label": label, "prompt": "a film"}
            rows.append(row)
        write_manifest(pd.DataFrame(rows), folder)
        write_folder_config(folder, FolderConfig(domain="phantom-chexpert", window=(1000, 1100)))
    config = watched(
        data={"train": str(folders["train"]), "resolution": 16},
        validation={"manifest": str(folders["held-out"])},
    )
    config = config.model_copy(update={"guards": Guards(memorization={"encoder": "phantom-dino"})})
    seen: list[Any] = []

    def embed(paths: Any, *rest: Any, windows: Any = None, **options: Any) -> Any:
        seen.append(windows)
        return embed_image_files(paths, *rest, windows=windows, **options)

    for module in (targets, heldout, memorization):
        monkeypatch.setattr(module, "embed_image_files", embed)
    found = prepared(config)
    assert len(seen) == 5  # the evaluator's and the other encoder's of both sides, and partners
    assert all([window.bounds for window in one] == [(1000, 1100)] * len(one) for one in seen)
    reference = found.targets.reference
    plain = np.asarray(Image.open(folders["held-out"] / "0.png"), dtype=np.float64)
    shown = np.round((plain - 1000) / 100 * 255).astype(np.uint8)
    own = samples.embed_arrays(np.stack([shown] * 3, axis=-1)[None], found.evaluator)
    row = [path.name for path in found.examples.paths].index("0.png")
    assert float(reference[row].cpu() @ own[0].cpu()) > 0.99
