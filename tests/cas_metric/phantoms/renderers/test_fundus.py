"""The cup must be in the pixels, measured without the renderer's own geometry."""

import dataclasses

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from cas_metric.phantoms import generator
from cas_metric.phantoms.renderers.fundus import Fundus

ARTIST = Fundus()


def specs(label, count):
    for seed in range(count):
        yield ARTIST.sample(label, generator(ARTIST.domain, label, seed))


def well_lit(spec):
    """The same eye through a good camera: even light, sharp focus, no noise."""
    camera = {"light": 0, "vignette": 0, "blur": 0, "noise": 0, "reflection": 0, "exposure": 1}
    disc = {"pallor": 1.0, "rim": 0.9, "dx": -0.1, "dy": 0, "calibre": 0.75}
    return dataclasses.replace(spec, nuisance={**spec.nuisance, **camera, **disc})


def measured_ratio(spec, size=128):
    """Square root of the area of the brightest of three levels over that of the two brighter."""
    image = ARTIST.render(spec, size).astype(float)
    light = ndimage.gaussian_filter(image[..., 1] + image[..., 2], 1.0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    near = np.hypot(x, y) < 0.35
    rim, cup = threshold_multiotsu(light[near], 3)
    return np.sqrt((near & (light > cup)).sum() / (near & (light > rim)).sum())


def test_the_cup_to_disc_ratio_can_be_measured():
    truth, measured = [], []
    for label in ARTIST.classes:
        for spec in specs(label, 20):
            spec = well_lit(spec).with_finding(atrophy=0.0)
            truth.append(spec.finding["vcdr"])
            measured.append(measured_ratio(spec))
    assert np.corrcoef(truth, measured)[0, 1] > 0.85


def test_normal_cups_are_small_and_glaucomatous_ones_large():
    assert all(0.2 <= s.finding["vcdr"] <= 0.5 for s in specs("Normal", 60))
    assert all(s.finding["vcdr"] > 0.65 for s in specs("Glaucoma", 60))


def test_the_temporal_side_changes_with_the_eye():
    """Peripapillary atrophy is temporal: left in the image of a right eye."""
    for spec in specs("Glaucoma", 6):
        for eye in ("od", "os"):
            nuisance = {**well_lit(spec).nuisance, "eye": eye}
            pale = dataclasses.replace(spec, nuisance=nuisance).with_finding(atrophy=0.45)
            bare = pale.with_finding(atrophy=0.0)
            added = ARTIST.render(pale).astype(float) - ARTIST.render(bare)
            _, x = ndimage.center_of_mass(np.clip(added[..., 2], 10, None) - 10)
            disc = 31.5 + 32 * nuisance["dx"] * (-1 if eye == "od" else 1)
            assert (x < disc) == (eye == "od")


def test_a_notch_thins_the_rim_at_its_pole():
    for spec in specs("Glaucoma", 6):
        even = well_lit(spec).with_finding(notch="none", haemorrhage="none", vcdr=0.7, hcdr=0.65)
        for pole in ("superior", "inferior"):
            added = ARTIST.render(even.with_finding(notch=pole)).astype(float) - ARTIST.render(even)
            y, _ = ndimage.center_of_mass(np.clip(added[..., 2], 20, None) - 20)
            assert (y < 31.5) == (pole == "superior")


def test_a_misplaced_cup_lies_outside_its_disc():
    spec = well_lit(next(specs("Normal", 1)))
    wrong = ARTIST.misplace_finding(spec, np.random.default_rng(1))
    assert np.hypot(*wrong.finding["cup_shift"]) > 1
    added = ARTIST.render(wrong, 128).astype(float)[..., 2] - ARTIST.render(spec, 128)[..., 2]
    y, x = ndimage.center_of_mass(np.clip(added, 25, None) - 25)
    disc = np.array([63.5, 63.5 + 64 * (0.1 if spec.nuisance["eye"] == "od" else -0.1)])
    assert np.hypot(y - disc[0], x - disc[1]) > 64 * spec.nuisance["disc"] * 0.8


def test_prompts_name_the_signs_that_are_drawn():
    for spec in specs("Glaucoma", 40):
        prompt, finding = ARTIST.describe(spec), spec.finding
        assert ("haemorrhage" in prompt) == (finding["haemorrhage"] != "none")
        assert ("atrophy" in prompt) == bool(finding["atrophy"])
        assert ("bayoneting" in prompt) == (finding["vessels"] == "bayoneting")
        assert ("notch" in prompt) == (finding["notch"] != "none")
