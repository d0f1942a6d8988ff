"""The sections show what their specification says, by independent measurements."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from scipy import ndimage
from tests.support.phantoms import (
    correlation,
    dataset,
    halved,
    ridge_accuracy,
    sampled,
    texture_statistics,
    thumbnails,
)

from cas_metric.domains import load_domain
from cas_metric.phantoms.renderers.histology import Histology

HISTOLOGY = Histology()
CLEAN = {
    "noise": 0.0, "blur": 0.0, "artefact": "none", "haematoxylin": 1.0, "eosin": 1.0, "hue": 0.0,
    "eosin_hue": 0.0, "thickness": 1.0, "wedge": 0.0, "light": 0.0, "magnification": 1.0,
    "angle": 0.0,
}  # fmt: skip


def clean(label: str, seed: int, size: int = 256, **finding: object) -> np.ndarray:
    """A section without nuisance that the lesion fills, in [0, 1]."""
    spec = sampled(HISTOLOGY, label, seed, **CLEAN)
    spec = spec.with_finding(**{"place": [0.0, 0.0], "reach": 3.0, "chromatin": 1.0, **finding})
    return HISTOLOGY.render(spec, size) / 255


def nuclear(image: np.ndarray) -> np.ndarray:
    """Where haematoxylin is dense: blue-purple and dark."""
    return image[..., 0] < 0.52


def lumen(image: np.ndarray) -> np.ndarray:
    """Where nothing is stained: white."""
    return image.min(2) > 0.90


def over_seeds(measure, label: str, seeds: int = 6, **finding: object) -> float:
    return float(np.mean([measure(clean(label, seed, **finding)) for seed in range(seeds)]))


def test_the_classes_are_those_of_the_pack():
    pack = load_domain("phantom-breakhis")
    assert pack.embedded
    assert pack.class_names == HISTOLOGY.classes == load_domain("breakhis").class_names
    for label in pack.class_names:
        assert 15 <= len(pack.checklist_text(label).split()) <= 45


@pytest.mark.parametrize("label", HISTOLOGY.classes)
def test_a_phantom_is_reproducible_and_the_same_scene_at_any_size(label):
    spec = sampled(HISTOLOGY, label, 1, noise=0.0)
    small, large = HISTOLOGY.render(spec, 64), HISTOLOGY.render(spec, 128)
    np.testing.assert_array_equal(small, HISTOLOGY.render(spec, 64))
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.uint8
    assert correlation(halved(large), small) > 0.9
    assert correlation(small, HISTOLOGY.render(sampled(HISTOLOGY, label, 2), 64)) < 0.8


@pytest.mark.parametrize("label", HISTOLOGY.classes)
def test_prompts_are_short_positive_and_name_the_instance(label):
    prompts = [HISTOLOGY.describe(sampled(HISTOLOGY, label, seed)) for seed in range(80)]
    for prompt in prompts:
        assert 10 <= len(prompt.split()) <= 40
        assert label.lower() in prompt
        assert "H&E" in prompt
        assert not {"no", "not", "without", "absent"} & set(prompt.lower().split())
    assert len(set(prompts)) > 40


@pytest.mark.parametrize("label", HISTOLOGY.classes)
def test_planted_failures_change_the_lesion(label):
    spec = sampled(HISTOLOGY, label, 3, artefact="none")
    spec = spec.with_finding(place=[0.0, 0.0], reach=3.0)
    image = HISTOLOGY.render(spec).astype(int)
    normal = HISTOLOGY.render(HISTOLOGY.remove_finding(spec)).astype(int)
    change = np.abs(image - normal)
    assert change.mean() > 12

    assert HISTOLOGY.exaggerate_finding(spec, 0.0) == spec
    wild = HISTOLOGY.render(HISTOLOGY.exaggerate_finding(spec, 1.0)).astype(int)
    assert np.abs(wild - image).mean() > 8

    misplaced = HISTOLOGY.misplace_finding(spec, np.random.default_rng(0))
    moved = HISTOLOGY.render(misplaced).astype(int)
    axis = (np.arange(64) + 0.5) / 32 - 1
    x, y = misplaced.finding["place"]
    far = np.hypot(axis[None] - x, axis[:, None] - y) > 1.2
    np.testing.assert_array_equal(moved[far], normal[far])
    assert np.abs(moved - normal)[~far].mean() > 3


@pytest.mark.parametrize("label", HISTOLOGY.classes)
def test_the_colours_are_those_of_haematoxylin_and_eosin(label):
    for seed in range(8):
        image = HISTOLOGY.render(sampled(HISTOLOGY, label, seed)) / 255
        hue = colorsys.rgb_to_hsv(*image.mean((0, 1)))[0] * 360
        assert 215 < hue < 350, "between blue and pink"


def test_nuclei_are_dense_in_ductal_and_sparse_in_mucinous_carcinoma():
    def density(image):
        return nuclear(image).mean()

    ductal = over_seeds(density, "Ductal Carcinoma", density="crowded")
    lobular = over_seeds(density, "Lobular Carcinoma")
    mucinous = over_seeds(density, "Mucinous Carcinoma")
    assert ductal > 1.5 * lobular
    assert ductal > 1.5 * mucinous
    assert density(clean("Ductal Carcinoma", 0, chromatin=1.5)) > density(
        clean("Ductal Carcinoma", 0, chromatin=0.7)
    )


def test_nuclei_of_ductal_carcinoma_are_larger_and_less_even_than_those_of_lobular():
    def areas(label, **finding):
        sizes = []
        for seed in range(5):
            core = nuclear(clean(label, seed, **finding))
            regions, number = ndimage.label(core)
            sizes += list(ndimage.sum(core, regions, range(1, number + 1)))
        return np.array([size for size in sizes if size > 12])

    ductal = areas("Ductal Carcinoma", variant="solid")
    lobular = areas("Lobular Carcinoma", variant="linear")
    assert ductal.mean() > 1.5 * lobular.mean()
    assert ductal.std() / ductal.mean() > lobular.std() / lobular.mean()


def test_lumina_are_open_in_tubular_adenoma_and_scarce_in_ductal_carcinoma():
    def share(image):
        return lumen(image).mean()

    tubular = over_seeds(share, "Tubular Adenoma")
    assert tubular > 0.12
    assert tubular > 3 * over_seeds(share, "Ductal Carcinoma")
    wide = over_seeds(share, "Adenosis", variant="open")
    assert wide > 1.5 * over_seeds(share, "Adenosis", variant="compressed")


def test_tubules_are_larger_and_rounder_spaces_than_the_clefts_of_phyllodes():
    def largest_space(image):
        regions, number = ndimage.label(lumen(image))
        return ndimage.sum(lumen(image), regions, range(1, number + 1)).max()

    phyllodes = over_seeds(largest_space, "Phyllodes Tumor")
    assert phyllodes > 5 * over_seeds(largest_space, "Tubular Adenoma")
    assert over_seeds(lambda i: lumen(i).mean(), "Phyllodes Tumor") > 0.1


def test_islands_in_mucin_can_be_counted():
    right = 0
    for seed in range(12):
        image = clean("Mucinous Carcinoma", seed, variant="rounded", count=3)
        tumour = ndimage.binary_closing(image[..., 0] < 0.66, iterations=3)
        right += ndimage.label(ndimage.binary_opening(tumour, iterations=4))[1] == 3
    assert right >= 9


def test_mucin_is_pale_blue_and_the_collagen_of_fibroadenoma_paler_than_of_ductal_carcinoma():
    mucin = clean("Mucinous Carcinoma", 1)
    lake = mucin[(mucin.min(2) > 0.7)].mean(0)
    assert lake[2] > lake[0] > 0.7
    assert lake[2] - lake[1] < 0.2

    def collagen(image):
        stroma = (image[..., 0] > 0.8) & ~lumen(image)
        return image[stroma][:, 1].mean()

    assert over_seeds(collagen, "Fibroadenoma") > over_seeds(collagen, "Ductal Carcinoma") + 0.05


def test_papillary_fronds_have_pink_cores_between_dark_linings():
    for seed in range(5):
        image = clean("Papillary Carcinoma", seed, variant="broad")
        pink = (image[..., 0] > 0.75) & (image[..., 1] < 0.75) & ~lumen(image)
        dark = ndimage.binary_closing(image[..., 0] < 0.72, iterations=2)
        core = ndimage.binary_opening(pink, iterations=2)
        assert core.mean() > 0.03
        rim = ndimage.binary_dilation(core, iterations=6) & ~core
        assert (dark | core)[rim].mean() > 0.6


def test_cords_of_lobular_carcinoma_run_in_parallel():
    image = clean("Lobular Carcinoma", 2, variant="linear")
    rows = nuclear(image).astype(float)
    gy, gx = np.gradient(ndimage.gaussian_filter(rows, (3, 10)))
    assert (gy**2).sum() > 5 * (gx**2).sum(), "unrotated cords run along x"


def test_classes_are_told_apart_by_texture_and_not_by_thumbnail():
    images, labels = dataset(HISTOLOGY, range(20))
    others, truth = dataset(HISTOLOGY, range(5000, 5012))
    coarse = ridge_accuracy(thumbnails(images), labels, thumbnails(others), truth, 0.3)
    fine = ridge_accuracy(texture_statistics(images), labels, texture_statistics(others), truth)
    assert fine > 0.6
    assert coarse < 0.5
    assert fine > coarse + 0.2
