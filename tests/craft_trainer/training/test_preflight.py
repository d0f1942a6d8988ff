"""What can be known stops a run before its first stage: no model is loaded, nothing is written."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DPMSolverMultistepScheduler
from tests.craft_trainer.conftest import LABELS
from tests.support.tiny_families import build_flux, build_sana, build_sd3

from cas_metric.domains import load_domain
from cas_metric.encoders import load_encoder
from cas_metric.errors import CasError, PreflightError
from cas_metric.manifest import read_manifest, write_manifest
from cas_metric.scoring.probe import Probe
from craft_trainer.cost import doctor
from craft_trainer.data.dataset import read_examples
from craft_trainer.runtime import ranks
from craft_trainer.training import preflight, trainer

INVERSION = {"method": "textual_inversion", "steps": 1}
LORA = {"method": "lora", "steps": 1}
CRAFT = {"method": "craft", "steps": 1}


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Trains, expects the error, and that it came before any model and any file."""

    def loaded(*_: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(trainer, "load_base", loaded)

    def refused(config: Any, message: str, code: int = 2) -> None:
        with pytest.raises(CasError, match=message) as caught:
            trainer.train_stages(config, cache="none")
        assert caught.value.exit_code == code
        assert not (tmp_path / "run").exists() or not list((tmp_path / "run").rglob("*.*"))

    return refused


def test_a_base_model_that_is_not_here(settings: Any, untouched: Any, tmp_path: Path) -> None:
    missing = settings(LORA, base=str(tmp_path / "nowhere"), offline=True)
    untouched(missing, "cannot be had: there is no such folder", 4)


def test_a_critic_that_is_not_here(settings: Any, untouched: Any) -> None:
    stages = (INVERSION, LORA, CRAFT)
    nowhere = {"encoder": "nobody/no-such-encoder"}
    untouched(settings(*stages, critic=nowhere, offline=True), "no-such-encoder", 4)
    untouched(settings(*stages, critic={"encoder": "./no/folder"}), "no/folder", 4)


def test_a_third_stage_that_the_base_model_cannot_train(
    settings: Any, untouched: Any, tmp_path: Path
) -> None:
    flow = str(build_sd3(tmp_path / "sd3"))
    untouched(settings(LORA, LORA, {**CRAFT, "repeat_mode": "renoise"}, base=flow), "Euler steps")
    untouched(settings(INVERSION, LORA, base=flow), "textual inversion is not offered")


def test_a_token_that_nobody_learns(settings: Any, untouched: Any) -> None:
    third = {**CRAFT, "prompt": "{token}. {prompt}"}
    untouched(settings(LORA, LORA, third), "prompt of stage 3 .* has no learned token")


def test_prompts_that_a_later_stage_needs(
    settings: Any, untouched: Any, images: Path, tmp_path: Path
) -> None:
    rows = read_manifest(images).rows
    rows.loc[[1, 4], "prompt"] = ""
    folder = tmp_path / "train"
    folder.mkdir()
    for name in rows["image"]:
        (folder / name).write_bytes((images / name).read_bytes())
    write_manifest(rows, folder)
    data = {"train": str(folder), "resolution": 16, "domain": "phantom-chexpert"}
    inverted = {**INVERSION, "prompt": "{token}"}
    craft = {**CRAFT, "prompt": "{token}"}
    untouched(settings(inverted, craft, data=data), "(?s)1.png has no prompt.*4.png has no prompt")
    # Of a template alone: no reward is to be given up, and the text may stand in another column.
    with pytest.raises(PreflightError) as caught:
        trainer.train_stages(settings({**LORA, "prompt": "{prompt}"}, data=data))
    assert "column `prompt`; or leave {prompt} out" in caught.value.fix
    assert "reward" not in caught.value.fix


@pytest.mark.parametrize(
    ("optimizer", "package"), [("prodigy", "prodigyopt"), ("adamw8bit", "bitsandbytes")]
)
def test_an_optimizer_that_is_not_here(
    settings: Any, untouched: Any, monkeypatch: pytest.MonkeyPatch, optimizer: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    untouched(settings(INVERSION, LORA, {**CRAFT, "optimizer": optimizer}), f"package {package}")


def test_muon_of_an_older_torch(
    settings: Any, untouched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    untouched(settings(LORA, {**CRAFT, "optimizer": "muon"}), "muon is not in torch")


@pytest.mark.parametrize(
    ("lora", "message"),
    [({"dora": True}, "DoRA learns norms"), ({"targets": ".*conv1|.*to_q"}, "is a Conv2d")],
)
def test_what_muon_cannot_train(
    settings: Any, untouched: Any, lora: dict[str, Any], message: str
) -> None:
    stages = (LORA, {**CRAFT, "optimizer": "muon"})
    untouched(settings(*stages, lora={"rank": 2, "alpha": 6, **lora}), message)
    linear = settings(*stages, lora={"rank": 2, "alpha": 6, "targets": ".*to_q"})
    preflight.require_optimizers(linear, offline=True)


@pytest.mark.parametrize("scored", [True, False])
def test_held_out_images_that_a_later_look_cannot_use(
    settings: Any, untouched: Any, unseen: Path, evaluator: Path, tmp_path: Path, scored: bool
) -> None:
    rows = read_manifest(unseen).rows
    rows.loc[0, "prompt"] = ""
    rows.loc[1, "label"] = "Pneumonia"
    folder = shutil.copytree(unseen, tmp_path / "held-out")
    write_manifest(rows, folder)
    validation = {"every": 1, "manifest": str(folder)}
    if scored:
        validation["encoder"] = str(evaluator)
    config = settings(INVERSION, {**CRAFT, "prompt": "{token}. {prompt}"}, validation=validation)
    denoising = settings(
        {**INVERSION, "prompt": "{token}"}, {**LORA, "prompt": "{token}. {prompt}"},
        validation=validation,
    )  # fmt: skip
    untouched(config if scored else denoising, "(?s)0.png .* has no prompt.*'Pneumonia' .* trained")
    (check,) = list(doctor._held_out(denoising))[-1:]
    assert (check.status, "has no prompt" in check.detail) == ("fail", True)
    assert len(list(doctor._held_out(denoising))) == 2 - scored  # nothing guards it, besides


def test_a_craft_stage_without_any_reward(settings: Any) -> None:
    with pytest.raises(CasError, match="every reward is switched off"):
        settings(LORA, {**CRAFT, "rewards": {"vdc": 0, "ccs": 0, "dd": 0, "sfs": 0}})


@pytest.mark.parametrize("tracker", ["none", "tensorboard"])
def test_an_output_that_is_no_folder(
    settings: Any, untouched: Any, tmp_path: Path, tracker: str
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("a person's")
    for output in (file, file / "run"):
        untouched(
            settings(LORA, output=str(output), tracker=tracker),
            r"written to: .*\n.*choose another `output`",
        )
    assert file.read_text() == "a person's"


def test_a_probe_of_the_critic_that_a_later_stage_needs(
    settings: Any, untouched: Any, critic: Path, tmp_path: Path
) -> None:
    own = {"encoder": str(critic), "probe": str(tmp_path / "probe.safetensors")}
    untouched(settings(INVERSION, CRAFT, critic=own), "no such file, and it is to be the probe")
    flat = np.zeros((1, 4), np.float32)
    Probe(("Cardiomegaly",), "an encoder", flat, flat[:, 0], {}).save(own["probe"])
    untouched(settings(INVERSION, CRAFT, critic=own), "'Pleural Effusion' is none of critic.probe")
    known = load_encoder(str(critic))
    for dim, message in ((known.dim, "another encoder"), (known.dim + 1, "does not fit")):
        flat = np.zeros((2, dim), np.float32)
        Probe(LABELS, "an encoder", flat, flat[:, 0], {}).save(own["probe"])
        untouched(settings(INVERSION, CRAFT, critic=own), f"critic.probe: .*{message}")
    Probe(LABELS, known.fingerprint, flat[:, 1:], flat[:, 0], {}).save(own["probe"])
    preflight.require_own_spaces(settings(CRAFT, critic=own), offline=True)


def test_a_tracker_that_is_not_installed(
    settings: Any, untouched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "get_available_trackers", list)
    untouched(settings(LORA, tracker="wandb"), "tracker 'wandb' is not installed")
    untouched(settings(LORA, tracker="wandbb"), "tracker 'wandbb' is none that accelerate knows")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank_pattern": {".*to_q": 4, ".*attn7.*": 8}}, r"rank_pattern '.*attn7.*' .*attn2\.to_"),
        ({"alpha_pattern": {"to_w": 8}}, r"alpha_pattern 'to_w' is the name of none"),
        # It is there, and has no adapter.
        ({"rank_pattern": {"attn1.to_q": 4}}, r"rank_pattern 'attn1.to_q' is the name of none"),
        ({"targets": "to_q"}, r"lora.targets 'to_q'"),
    ],
)
def test_a_pattern_that_no_adapted_layer_has(
    settings: Any, untouched: Any, changes: dict[str, Any], message: str
) -> None:
    untouched(settings(INVERSION, LORA, lora={"rank": 2, **changes}), f"(?s){message}")
    fitting = settings(LORA, lora={"rank": 2, "rank_pattern": {"attn2.to_q": 4, ".*to_k": 3}})
    preflight.require_stages(fitting, offline=True)


def test_more_steps_than_the_base_model_has_timesteps(settings: Any, untouched: Any) -> None:
    for method in ({"method": "zero_shot"}, LORA):
        untouched(settings(method, sampling={"steps": 1001}), "steps 1001 is more than the 1000")
    preflight.require_stages(settings(LORA, sampling={"steps": 1000}), offline=True)
    own = {**CRAFT, "trajectory": {"steps": 2}, "prefix": {"solver": "dpmpp_2m", "steps": 900}}
    untouched(settings(own, sampling={"steps": 1000}), r"prefix\.steps 900 is more than the")


def test_settings_of_a_model_of_another_kind(
    settings: Any, untouched: Any, tmp_path: Path, base: Path
) -> None:
    flux = str(build_flux(tmp_path / "flux"))
    ancestral = {"steps": 3, "flow_sampler": "ancestral"}
    untouched(settings(LORA, sampling=ancestral), "flow_sampler is not offered for StableDiff")
    leading = {"steps": 3, "timestep_spacing": "leading"}
    untouched(settings(LORA, sampling=leading, base=flux), "timestep_spacing is not offered for Fl")
    free, nft = {"prefix": {"unguided": 1.0}}, {"method": "nft", "steps": 1}
    for stage in ({**CRAFT, **free}, {**nft, **free}):
        untouched(settings(stage, base=flux), "prefix.unguided is not offered for FluxPipeline")
    untouched(settings({**nft, "guidance": 3.0}, base=flux), "guidance of an nft stage is not")
    told = {**CRAFT, "trajectory": {"guidance": 3.0}}
    untouched(settings(told, base=flux), "trajectory.guidance is not offered for FluxPipeline")
    untouched(settings({**nft, "prefix": {"own_steps": 2}}), "prefix.own_steps is a setting of cr")
    for stage in (CRAFT, nft):
        preflight.require_stages(settings(stage, base=flux), offline=True)
    other = shutil.copytree(base, tmp_path / "edm")
    scheduler = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}
    (other / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    untouched(settings(LORA, base=str(other)), "is that of EDMEulerScheduler")
    scheduler = {"_class_name": "DDPMScheduler", "prediction_type": "sample"}
    (other / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    untouched(settings(LORA, base=str(other)), "prediction_type 'sample'")


def test_sana_has_whole_timesteps(settings: Any, untouched: Any, tmp_path: Path) -> None:
    sana = build_sana(tmp_path / "sana")
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    DPMSolverMultistepScheduler(**flow).save_pretrained(sana / "scheduler")
    data = settings(LORA).data.model_dump(mode="json") | {"resolution": 32}
    few, many = (
        settings(LORA, base=str(sana), data=data, sampling={"steps": steps}) for steps in (20, 400)
    )
    untouched(many, "sampling.steps 400 is more than the timesteps of the base model allow")
    preflight.require_stages(few, offline=True)


def test_encoders_without_a_text_tower(
    settings: Any, untouched: Any, critic: Path, unseen: Path
) -> None:
    blind = {"encoder": "phantom-dino"}
    told = "phantom-dino embeds images only: it cannot serve "
    untouched(settings(LORA, CRAFT, critic=blind), f"{told}ccs and vdc of a craft stage")
    second = {**CRAFT, "safeguards": {"critics": ["phantom-dino"]}}
    untouched(settings(LORA, second), f"{told}ccs and vdc of a craft stage")
    look = {"every": 1, "encoder": "phantom-dino", "manifest": str(unseen)}
    untouched(settings(LORA, validation=look), f"{told}the held-out evaluation")
    seeing = settings({**CRAFT, "rewards": {"vdc": 0, "ccs": 0}}, critic=blind)
    assert preflight.require_encoder("phantom-dino", seeing, offline=True) is not None


def test_a_contrast_with_a_class_that_has_no_checklist(
    settings: Any, untouched: Any, images: Path, tmp_path: Path
) -> None:
    pack = load_domain("phantom-chexpert").model_dump(mode="json", exclude_none=True)
    rival = next(one for one in pack["classes"] if one["name"] not in LABELS)
    rival["checklist"] = {}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({**pack, "name": "own"}, sort_keys=False))
    data = {"train": str(images), "resolution": 16, "domain": str(file)}
    contrast = {**CRAFT, "safeguards": {"ccs_contrast": True}}
    untouched(settings(LORA, contrast, data=data), f"ccs_contrast .*without one: {rival['name']}")
    examples = read_examples(images, str(file))
    preflight.require_ready(settings(LORA, CRAFT, data=data), examples)  # it lacks nothing else


def test_what_is_lacking_is_to_be_had_where_it_stands(
    settings: Any, images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(images, tmp_path / "own")
    (folder / "cas.yaml").unlink()
    rows = read_manifest(folder).rows
    rows["label"] = "one"
    write_manifest(rows, folder)
    data = {"train": str(folder), "resolution": 16}
    for off, said in (("dd", "checklist of every class in `data.domain`"), ("ccs", "second class")):
        with pytest.raises(PreflightError) as caught:
            trainer.train_stages(settings({**CRAFT, "rewards": {off: 0}}, data=data))
        assert said in caught.value.fix
        assert "or set the weight of the reward" in caught.value.fix
        assert "manifest" not in caught.value.fix


def test_a_score_that_nobody_offers(settings: Any, untouched: Any) -> None:
    untouched(settings(LORA, {"method": "nft", "steps": 1, "score": "caz"}), "no score 'caz'")


def test_a_side_that_the_base_model_cannot_draw(
    settings: Any, untouched: Any, images: Path
) -> None:
    data = {"train": str(images), "resolution": 18}
    for method in ({"method": "zero_shot"}, INVERSION):
        untouched(settings(method, data=data), "data.resolution 18 does not suit")


def test_a_solver_of_more_steps_than_there_are_timesteps(settings: Any, untouched: Any) -> None:
    few, many = ({"prefix": {"solver": "dpmpp_2m", "steps": steps}} for steps in (6, 1000))
    told = "prefix.steps 1000 is more than the"
    untouched(settings(LORA, {**CRAFT, **many}), f"{told} 667 timesteps")
    untouched(settings(LORA, {"method": "nft", "steps": 1, **many}), told)
    whole = {**CRAFT, **few, "gradient_steps": 3}
    untouched(settings(LORA, whole), "prefix.steps 6 is more than the 0 timesteps")
    preflight.require_stages(settings(LORA, {**CRAFT, **few}), offline=True)


def test_classes_that_would_share_a_token(
    settings: Any, untouched: Any, images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(images, tmp_path / "signs")
    (folder / "cas.yaml").unlink()
    rows = read_manifest(folder).rows
    rows["label"] = ["HER2+", "HER2-"] * 3
    write_manifest(rows, folder)
    config = settings(INVERSION, data={"train": str(folder), "resolution": 16})
    untouched(config, "'HER2[+]' and 'HER2-' would share the token <her2>")
    read = read_examples(folder, None)
    preflight.require_ready(settings(LORA, data=config.data.model_dump(mode="json")), read)


def test_an_adapter_that_the_start_does_not_fit(settings: Any) -> None:
    start = str(trainer.train_stages(settings(LORA), cache="none"))
    for changes, message in (({"rank": 3}, "or another rank"), ({"alpha": 3}, "with alpha 6")):
        config = settings(LORA, start=start, lora={"rank": 2, "alpha": 6, **changes})
        with pytest.raises(CasError, match=message):
            preflight.require_stages(config, offline=True)
    preflight.require_stages(settings(LORA, start=start), offline=True)
