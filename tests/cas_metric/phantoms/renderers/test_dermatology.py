"""The skin photographs show what their specification says, by independent measurements."""

from __future__ import annotations

import dataclasses

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
from cas_metric.phantoms.renderers.dermatology import Dermatology

DERMATOLOGY = Dermatology()
CLEAN = {
    "noise": 0.0, "blur": 0.0, "hairs": 0, "mark": "none", "light": 0.0, "vignette": 0.0,
    "exposure": 1.0, "warmth": 0.0, "ruddiness": 0.0, "texture": 0.0, "site": "trunk",
}  # fmt: skip


def clean(label: str, seed: int, tone: str = "fair", **finding: object):
    """A phantom without nuisance, its middle in the middle of the frame."""
    spec = sampled(DERMATOLOGY, label, seed, **CLEAN, tone=tone)
    return spec.with_finding(place=[0.0, 0.0], vividness=1.0, **finding)


def drawn(spec, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The photograph and the same bare skin, in [0, 1]."""
    image = DERMATOLOGY.render(spec, size) / 255
    return image, DERMATOLOGY.render(DERMATOLOGY.remove_finding(spec), size) / 255


def radius(size: int = 128) -> np.ndarray:
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    return np.hypot(axis[None], axis[:, None])


def test_the_classes_are_those_of_the_pack():
    pack = load_domain("phantom-fitzpatrick17k")
    assert pack.embedded
    assert pack.class_names == DERMATOLOGY.classes == load_domain("fitzpatrick17k").class_names
    for label in pack.class_names:
        assert 15 <= len(pack.checklist_text(label).split()) <= 45


@pytest.mark.parametrize("label", DERMATOLOGY.classes)
def test_a_phantom_is_reproducible_and_the_same_scene_at_any_size(label):
    spec = sampled(DERMATOLOGY, label, 1, noise=0.0)
    small, large = DERMATOLOGY.render(spec, 64), DERMATOLOGY.render(spec, 128)
    np.testing.assert_array_equal(small, DERMATOLOGY.render(spec, 64))
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.uint8
    assert correlation(halved(large), small) > 0.95
    assert correlation(small, DERMATOLOGY.render(sampled(DERMATOLOGY, label, 2), 64)) < 0.95


@pytest.mark.parametrize("label", DERMATOLOGY.classes)
def test_prompts_are_short_positive_and_name_the_instance(label):
    specs = [sampled(DERMATOLOGY, label, seed) for seed in range(60)]
    prompts = [DERMATOLOGY.describe(spec) for spec in specs]
    for spec, prompt in zip(specs, prompts, strict=True):
        assert 8 <= len(prompt.split()) <= 40
        assert label.lower() in prompt
        assert f"{spec.nuisance['tone']} skin" in prompt.lower()
        assert spec.nuisance["site"] in prompt
        assert not {"no", "not", "without", "absent"} & set(prompt.lower().split())
    assert len(set(prompts)) > 40


@pytest.mark.parametrize("label", DERMATOLOGY.classes)
def test_planted_failures_change_the_sign_and_nothing_else(label):
    spec = sampled(DERMATOLOGY, label, 4)
    image = DERMATOLOGY.render(spec).astype(int)
    bare = DERMATOLOGY.render(DERMATOLOGY.remove_finding(spec)).astype(int)
    sign = np.abs(image - bare).max(2)
    assert (sign > 25).mean() > 0.015
    assert (sign == 0).mean() > 0.01, "skin, camera and noise outside the sign stay as they were"

    assert DERMATOLOGY.exaggerate_finding(spec, 0.0) == spec
    changes = []
    for severity in (0.5, 1.0):
        wild = DERMATOLOGY.render(DERMATOLOGY.exaggerate_finding(spec, severity)).astype(int)
        changes.append(np.abs(wild - bare).sum())
    assert np.abs(image - bare).sum() < changes[0] < changes[1]

    moved = DERMATOLOGY.misplace_finding(spec, np.random.default_rng(0))
    away = np.abs(DERMATOLOGY.render(moved).astype(int) - bare).max(2) > 25
    assert np.hypot(*moved.finding["place"]) > 0.7
    if away.any():
        overlap = (away & (sign > 25)).sum() / (away | (sign > 25)).sum()
        assert overlap < 0.6


@pytest.mark.parametrize("tone", ["medium", "brown", "dark"])
def test_vitiligo_is_brighter_than_the_skin_and_keeps_its_texture(tone):
    spec = clean("Vitiligo", 2, tone)
    spec = dataclasses.replace(spec, nuisance={**spec.nuisance, "texture": 1.4})
    image, bare = drawn(spec)
    patch = ndimage.binary_erosion(image.mean(2) - bare.mean(2) > 0.1, iterations=3)
    assert patch.mean() > 0.05
    assert (image[patch] > bare[patch] - 0.02).all()
    assert image[patch].std(0)[2] > 0.01
    assert (np.ptp(image[patch], axis=1) < 0.15).all(), "white, not coloured"


def separate(mask: np.ndarray) -> int:
    """Number of connected regions, without bridges and specks."""
    return int(ndimage.label(ndimage.binary_opening(mask, iterations=4))[1])


def bumps(mask: np.ndarray) -> int:
    """Number of round lesions, which may touch: maxima of the distance to the outline."""
    depth = ndimage.distance_transform_edt(ndimage.binary_opening(mask, iterations=3))
    peaks = (depth == ndimage.maximum_filter(depth, 17)) & (depth > 5)
    return int(ndimage.label(ndimage.binary_dilation(peaks, iterations=3))[1])


@pytest.mark.parametrize(
    ("label", "count"),
    [
        ("Prurigo Nodularis", bumps),
        ("Erythema Multiforme", bumps),
        ("Vitiligo", separate),
        ("Psoriasis", separate),
    ],
)
def test_lesions_can_be_counted(label, count):
    right = 0
    for seed in range(10):
        spec = clean(label, seed)
        image, bare = drawn(spec)
        lesions = ndimage.binary_fill_holes(np.abs(image - bare).max(2) > 0.12)
        right += count(lesions) == spec.finding["count"]
    assert right >= 8


def test_erythema_multiforme_is_dark_pale_red_from_the_centre_outwards():
    image, bare = drawn(clean("Erythema Multiforme", 3, count=1, extent=0.6))
    reach = radius() / 0.6
    centre, ring, outer = (
        image[(reach > low) & (reach < high)].mean(0)
        for low, high in ((0.0, 0.25), (0.48, 0.60), (0.80, 0.90))
    )
    assert centre.sum() < outer.sum() < ring.sum()
    assert outer[0] - outer[1] > 0.2, "red"
    assert centre[2] > centre[1], "purple"
    np.testing.assert_allclose(image[reach > 1.3], bare[reach > 1.3], atol=0.05)


def test_granuloma_annulare_spares_the_middle_of_its_ring():
    for seed in range(5):
        spec = clean("Granuloma Annulare", seed, count=1, variant="complete", extent=0.55)
        image, bare = drawn(spec)
        change = np.abs(image - bare).max(2)
        ring = change[np.abs(radius() - 0.55) < 0.05].mean()
        assert ring > 3 * change[radius() < 0.25].mean()


def test_colours_are_those_that_the_checklists_name():
    def mean(label, **finding):
        image, bare = drawn(clean(label, 5, **finding))
        sign = np.abs(image - bare).max(2) > 0.08
        return image[sign], bare[sign]

    violet, skin = (a.mean(0) for a in mean("Lichen Planus"))
    assert violet[2] > violet[1] + 0.05
    assert skin[2] < skin[1]
    plaque, _ = mean("Psoriasis")
    silver = (np.ptp(plaque, axis=1) < 0.12) & (plaque.mean(1) > 0.6)
    red = plaque[:, 0] - plaque[:, 1] > 0.25
    assert silver.mean() > 0.25
    assert red.mean() > 0.10
    melanoma, _ = mean("Melanoma", shades=["blue-grey"])
    assert np.median(melanoma.mean(1)) < 0.3
    assert (melanoma[:, 2] > melanoma[:, 0] + 0.05).mean() > 0.03, "blue-grey area"
    crust, _ = mean("Actinic Keratosis")
    yellow = (crust[:, 0] > crust[:, 2] + 0.3) & (crust[:, 1] > crust[:, 2] + 0.15)
    assert yellow.mean() > 0.1


def test_the_butterfly_is_symmetrical_and_melanoma_is_not():
    def asymmetry(spec):
        image, bare = drawn(spec)
        sign = np.abs(image - bare).max(2) > 0.08
        row, column = (round(c) for c in ndimage.center_of_mass(sign))
        sign = np.roll(sign, (64 - row, 64 - column), axis=(0, 1))
        return min((sign ^ flip).sum() / sign.sum() for flip in (sign[:, ::-1], sign[::-1]))

    upright = {"site": "face", "face_angle": 0.0, "face_x": 0.0, "face_y": 0.0}
    fixed = {**CLEAN, **upright, "tone": "fair"}
    rashes = [sampled(DERMATOLOGY, "Lupus Erythematosus", seed, **fixed) for seed in range(8)]
    butterflies = [asymmetry(rash.with_finding(variant="smooth")) for rash in rashes]
    moles = [asymmetry(clean("Melanoma", seed)) for seed in range(8)]
    assert np.mean(butterflies) < 0.8 * np.mean(moles)


def test_eczema_fades_and_psoriasis_ends_abruptly():
    def sharpness(label):
        image, bare = drawn(clean(label, 7, count=1))
        redness = ndimage.gaussian_filter((bare - image)[..., 1], 1.5)
        return np.hypot(*np.gradient(redness)).max() / np.abs(redness).max()

    assert sharpness("Psoriasis") > 1.5 * sharpness("Eczema")


def test_classes_are_told_apart_by_texture_and_not_by_thumbnail():
    images, labels = dataset(DERMATOLOGY, range(20))
    others, truth = dataset(DERMATOLOGY, range(5000, 5006))
    coarse = ridge_accuracy(thumbnails(images), labels, thumbnails(others), truth, 0.3)
    fine = ridge_accuracy(texture_statistics(images), labels, texture_statistics(others), truth)
    assert fine > 0.58
    assert coarse < 0.50
    assert fine > coarse + 0.2
