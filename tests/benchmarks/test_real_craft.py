"""CRAFT on real photographs: its data, its commands, its judge and its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from benchmarks.phantoms.recipes import CHEAPER, FURTHER, REPLAYED, SAFEGUARDS, Domain
from benchmarks.real.craft import (
    SIDE,
    Models,
    Photographs,
    gather,
    mislabel,
    sizes,
    spaced,
    write_data,
)
from benchmarks.real.craft_tables import gain_table, table1, table14
from benchmarks.real.judge import DECAY, SHARE, Known, Logistic, alike, drawn, gains
from benchmarks.real.pictures import WORLDS, Pictures, read_pictures
from PIL import Image
from scipy.optimize import minimize
from scipy.special import log_softmax
from tests.support.real_data import real_data

from cas_metric.manifest import read_folder_config, read_manifest
from cas_metric.statistics.uncertainty import Interval


@pytest.fixture
def experiment(tmp_path: Path) -> Photographs:
    """Of the chest films, with models that are not there."""
    models = Models(tmp_path / "base", tmp_path / "critic", tmp_path / "evaluator")
    return Photographs(WORLDS["chest"], tmp_path / "run", Domain(train=6, test=2), models, FURTHER)


def pictures() -> Pictures:
    """Twenty pictures of noise, both classes in every part."""
    images = np.random.default_rng(0).integers(0, 255, (20, 256, 256, 3), dtype=np.uint8)
    parts = np.repeat(["evaluator", "critic", "test"], [6, 8, 6])
    names = tuple(f"images/{number}.jpg" for number in range(20))
    return Pictures(images, np.arange(20) % 2, parts, ("",) * 20, names)


def test_every_part_is_written_at_64_pixels(experiment: Photographs) -> None:
    data = experiment.folder / "data"
    experiment.folder.mkdir()
    write_data(experiment.world, pictures(), data, experiment.size)
    found = {name: read_manifest(data / name) for name in ("train", "test", "prompts", "base")}
    assert {name: len(one) for name, one in found.items()} == {
        "train": 6,
        "test": 6,
        "prompts": 2,
        "base": 14,
    }
    ids = {name: set(one.rows["id"]) for name, one in found.items()}
    assert ids["prompts"] < ids["test"]
    assert ids["train"] < ids["base"]
    assert not ids["base"] & ids["test"]
    with Image.open(found["train"].path(0)) as image:
        assert image.size == (SIDE, SIDE)
    config = read_folder_config(data / "test")
    assert config is not None
    assert config.train == data / "train"
    assert Path(str(config.domain)).name == "kermany.yaml"
    text = found["test"].rows["prompt"].iloc[0]
    assert text.startswith("paediatric chest radiograph of normal, ")


def test_critic_rewards_what_the_evaluator_judges(experiment: Photographs) -> None:
    steps = {step.name: step for step in experiment.drawing()}
    configs = {
        path.stem: yaml.safe_load(text)
        for step in steps.values()
        for path, text in step.files.items()
    }
    assert set(configs) == {"ti_lora", "control", "craft", *FURTHER}
    assert {one["critic"]["encoder"] for one in configs.values()} == {experiment.critic}
    plain, guarded = (configs[name]["stages"][0] for name in ("craft", "guarded"))
    assert guarded == plain | {"safeguards": SAFEGUARDS}
    assert configs["prefix"]["stages"][0] == plain | CHEAPER
    assert configs["cheaper"]["stages"][0] == guarded | CHEAPER
    assert configs["replayed"]["stages"][0] == plain | REPLAYED
    twice = {"steps": 2 * plain["steps"]}
    assert configs["longer"]["stages"][0] == plain | REPLAYED | twice
    assert configs["longer_prefix"]["stages"][0] == plain | CHEAPER | twice
    assert configs["unguided"]["stages"][0] == plain | twice
    assert "sampling.guidance=1" in steps["train unguided"].command
    assert "sampling.guidance=1" not in steps["train longer"].command
    prompts = str(experiment.folder / "data" / "prompts")
    assert all(prompts in steps[f"generate {name}"].command for name in experiment.methods)
    assert "--zero-shot" in steps["generate zero_shot"].command
    assert "1-textual_inversion" in steps["generate ti"].command[2]
    assert (
        str(experiment.folder / "data" / "train") in steps["generate for training prompts"].command
    )


def test_images_of_all_methods_become_one_table(experiment: Photographs) -> None:
    for name in experiment.methods:
        folder = experiment.folder / "images" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "0.png")
        row = {"file_name": ["0.png"], "id": [f"{name}-0"], "label": ["Normal"], "method": [name]}
        pd.DataFrame(row).to_csv(folder / "metadata.csv", index=False)
        (folder / "cas.yaml").write_text("split: test\n")
    gather(experiment)
    found = read_manifest(experiment.folder / "images")
    assert tuple(found.rows["method"]) == experiment.methods
    assert [path.parent.name for path in found.paths()] == list(experiment.methods)


def test_every_label_is_exchanged(tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    labels = ["Nevus", "Melanoma", "Nevus", "Keratosis"]
    table = pd.DataFrame({"file_name": list("abcd"), "label": labels})
    table.to_csv(tmp_path / "drawn" / "metadata.csv", index=False)
    mislabel(tmp_path / "drawn", tmp_path / "wrong")
    found = pd.read_csv(tmp_path / "wrong" / "metadata.csv")["label"]
    assert set(found) == set(labels)
    assert (found != labels).all()


def test_sizes_and_spaced_rows() -> None:
    assert [sizes(count) for count in (90, 499, 1720)] == [[90], [100, 499], [100, 500, 1720]]
    assert spaced(np.arange(10, 20), 4).tolist() == [10, 13, 16, 19]
    assert spaced(np.arange(3), 9).tolist() == [0, 1, 2]


def known(count: int, seed: int, apart: float = 1.0) -> Known:
    """Three classes of unequal size, ``apart`` standard deviations from each other."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    labels[:3] = range(3)
    return Known(
        torch.from_numpy(rng.normal(size=(count, 4)) + apart * np.eye(3, 4)[labels]), labels
    )


def test_judge_is_the_minimum_that_scipy_finds() -> None:
    real, extra = known(60, 0), known(30, 1)
    judge = Logistic(real, 3, extra)
    mean, spread = real.features.mean(dim=0), real.features.std(dim=0)
    x = ((torch.cat([real.features, extra.features]) - mean) / spread).numpy()
    y = np.concatenate([real.labels, extra.labels])
    weights = []
    for labels, share in ((real.labels, 1 - SHARE), (extra.labels, SHARE)):
        count = np.bincount(labels, minlength=3)
        weights.append(share / 3 / count[labels])
    weight = np.concatenate(weights)

    def loss(flat: np.ndarray) -> float:
        matrix, bias = flat[:12].reshape(3, 4), flat[12:]
        told = log_softmax(x @ matrix.T + bias, axis=1)[np.arange(len(y)), y]
        return float(-(weight * told).sum() + 0.5 * DECAY * (matrix**2).sum())

    best = minimize(loss, np.zeros(15), method="L-BFGS-B", tol=1e-12)
    fresh = known(200, 2)
    scaled = ((fresh.features - mean) / spread).numpy()
    expected = (scaled @ best.x[:12].reshape(3, 4).T + best.x[12:]).argmax(axis=1)
    assert (judge.named(fresh.features) == expected).mean() > 0.98


def test_classes_weigh_alike_and_draws_keep_their_shares() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    weight = alike(labels)
    assert weight.sum() == pytest.approx(1)
    assert weight[labels == 2].sum() == pytest.approx(1 / 3)
    rows = drawn(labels, 20, seed=0)
    assert np.bincount(labels[rows]).tolist() == [12, 6, 2]
    assert not np.array_equal(rows, drawn(labels, 20, seed=1))


def test_good_images_help_few_photographs_and_wrong_ones_harm() -> None:
    real, test, good = known(60, 3), known(600, 4), known(300, 5)
    wrong = Known(good.features, (good.labels + 1) % 3)
    found = gains(real, test, {"good": good, "wrong": wrong}, [12, 60], draws=8)
    assert [(one.name, one.real) for one in found] == [
        (name, size) for size in (12, 60) for name in ("", "good", "wrong")
    ]
    few = {one.name: one for one in found[:3]}
    assert few["good"].difference is not None
    assert few["wrong"].difference is not None
    assert few["good"].difference.low > 0 > few["wrong"].difference.high
    assert found[3].spread == 0
    text = gain_table(found, {"good": 300, "wrong": 300})
    assert "| 12 | real only |" in text
    assert "good (300)" in text


def test_tables_name_real_floor_and_both_tails() -> None:
    mean = dict.fromkeys(("vdc", "ccs", "dd", "sfs", "cas"), 0.5)
    entry = {"mean": mean, "interval": {"cas": [0.4, 0.6]}}
    found = {
        "real": entry,
        "floor": entry,
        "methods": [{"method": "craft", **entry, "seeds": {"cas": {"std": 0.01}}}],
        "tail": {
            "tau": 0.4,
            "tau_interval": [0.3, 0.5],
            "by_cas": {"craft": {"rate": 0.2, "rate_interval": [0.1, 0.3], "p10": 0.25}},
        },
    }
    verdicts = {name: Interval(0.9, 0.8, 1.0, 0.95) for name in ("real", "craft")}
    lines = table1(found, verdicts).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "Real",
        "Floor",
        "TI + LoRA + CRAFT",
    ]
    assert "± 0.010" in lines[-1]
    share = {"share_low": 0.3, "low": 0.2, "high": 0.4}
    held = {"real_share_low": 0.1, "real_low": 0.05, "real_high": 0.2}
    low = [{"method": "craft", "label": "", "alpha": 0.1, **share, **held}]
    assert "30.0% [20.0%, 40.0%] | 10.0% [5.0%, 20.0%]" in table14(found, low)


def test_coarse_photographs_keep_their_split() -> None:
    real_data("kermany_cxr")
    fine, coarse = (read_pictures(WORLDS["chest"], limit=12, pixels=side) for side in (256, SIDE))
    assert (fine.parts == coarse.parts).all()
    assert fine.images.shape == coarse.images.shape
    detail = [np.abs(np.diff(one.images.astype(float), axis=2)).mean() for one in (fine, coarse)]
    assert detail[1] < 0.8 * detail[0]
