"""The sign of each class must be in the pixels, measured without the renderer's own geometry."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from cas_metric.phantoms import generator, make_phantom, renderer
from cas_metric.phantoms.renderers.radiograph import Radiograph

ARTIST = Radiograph()


def specs(label, count, first=0):
    for seed in range(first, first + count):
        yield ARTIST.sample(label, generator(ARTIST.domain, label, seed))


def grey(spec, size=64):
    return ARTIST.render(spec, size)[..., 0].astype(float)


def plain(spec):
    """The same patient, well positioned and exposed, without device and marker."""
    calm = {"device": "none", "marker": "none", "noise": 0.01, "dx": 0, "dy": 0, "angle": 0}
    calm |= {"collimation": 0, "exposure": 0, "contrast": 1, "gamma": 1}
    return dataclasses.replace(spec, nuisance={**spec.nuisance, **calm})


def measured_ctr(image):
    """Widest bright run through the middle over the widest chest, as on a light box."""
    smooth = ndimage.gaussian_filter(image[..., 0].astype(float), 1.5)
    side = len(smooth)
    threshold = threshold_otsu(smooth[side // 5 : 4 * side // 5, side // 6 : 5 * side // 6])
    hearts, chests = [], []
    for row in smooth[int(0.40 * side) : int(0.68 * side)] > threshold:
        dark = np.flatnonzero(~row)
        left, right = dark[dark < side // 2], dark[dark > side // 2]
        if not row[side // 2] or not len(left) or not len(right):
            continue
        hearts.append(right.min() - left.max())
        walls = np.flatnonzero(row)
        outer_left, outer_right = walls[walls < left.max()], walls[walls > right.min()]
        if len(outer_left) and len(outer_right):
            chests.append(outer_right.min() - outer_left.max())
    return np.percentile(hearts, 90) / np.percentile(chests, 95)


def test_the_cardiothoracic_ratio_can_be_measured():
    spec_ratios, ratios = [], []
    for label in ("No Finding", "Cardiomegaly"):
        for spec in specs(label, 15):
            spec_ratios.append(spec.finding["ctr"])
            ratios.append(measured_ctr(ARTIST.render(plain(spec), 128)))
    assert np.corrcoef(spec_ratios, ratios)[0, 1] > 0.8
    assert np.median(ratios[:15]) < 0.5 < np.median(ratios[15:])


@pytest.mark.parametrize("label", ["No Finding", "Pneumonia", "Pleural Effusion"])
def test_hearts_of_other_classes_are_below_half_of_the_chest(label):
    assert all(spec.finding["ctr"] < 0.5 for spec in specs(label, 50))


def test_pneumonia_whitens_the_named_side_and_zone():
    heights = {"upper": [], "mid": [], "lower": []}
    for spec in specs("Pneumonia", 30):
        spec = plain(spec)
        added = np.clip(grey(spec) - grey(ARTIST.remove_finding(spec)), 0, None)
        added[added < 8] = 0  # sensor noise differs between the two renderings
        y, x = ndimage.center_of_mass(added)
        # The patient's left is on the right of the image.
        assert (x > 31.5) == (spec.finding["side"] == "left")
        heights[spec.finding["zone"]].append(y)
    assert max(heights["upper"]) < max(heights["mid"]) < max(heights["lower"])
    assert np.mean(heights["upper"]) < np.mean(heights["mid"]) < np.mean(heights["lower"])


def test_effusion_fills_the_costophrenic_angle_of_its_side():
    for spec in specs("Pleural Effusion", 30):
        if spec.finding["volume"] == "large":
            continue  # pushes the heart into the other lung
        spec = plain(spec)
        added = grey(spec) - grey(ARTIST.remove_finding(spec))
        base = added[40:56]
        filled = {"right": base[:, 6:16].max() > 30, "left": base[:, 48:58].max() > 30}
        side = spec.finding["side"]
        expected = {name: side in (name, "bilateral") for name in filled}
        assert filled == expected


def test_a_larger_effusion_whitens_more():
    area = {}
    for spec in specs("Pleural Effusion", 40):
        spec = plain(spec)
        if spec.finding["side"] != "bilateral":
            added = grey(spec) - grey(ARTIST.remove_finding(spec))
            area.setdefault(spec.finding["volume"], []).append((added > 25).sum())
    assert max(area["small"]) < min(area["large"])
    assert np.mean(area["small"]) < np.mean(area["moderate"]) < np.mean(area["large"])


def test_misplaced_unilateral_findings_change_sides():
    for label in ("Pneumonia", "Pleural Effusion"):
        for spec in specs(label, 10):
            wrong = ARTIST.misplace_finding(spec, np.random.default_rng(0))
            if spec.finding["side"] != "bilateral":
                assert {wrong.finding["side"], spec.finding["side"]} == {"left", "right"}
            else:
                assert wrong.finding["apical"]


def test_a_misplaced_heart_lies_on_the_patients_right():
    spec = plain(next(specs("Cardiomegaly", 1)))
    wrong = ARTIST.misplace_finding(spec, np.random.default_rng(0))
    rows = slice(28, 38)
    left_minus_right = lambda s: grey(s)[rows, 38:50].mean() - grey(s)[rows, 14:26].mean()  # noqa: E731
    assert left_minus_right(spec) > 10 > -10 > left_minus_right(wrong)


def test_prompts_name_the_device_and_nothing_pathological_in_normals():
    for spec in specs("No Finding", 40):
        prompt = ARTIST.describe(spec)
        assert ("pacemaker" in prompt) == (spec.nuisance["device"] == "pacemaker")
        assert not any(word in prompt for word in ("opacity", "effusion", "enlarged", "fluid"))


def test_a_thumbnail_is_not_enough():
    """Ridge regression on 8x8 thumbnails does far better than chance, and is far from perfect."""
    classes = renderer("chexpert").classes

    def thumbnails(first, count):
        images, labels = [], []
        for index, label in enumerate(classes):
            for seed in range(first, first + count):
                image = make_phantom("chexpert", label, seed).image[..., 0].astype(float)
                images.append(image.reshape(8, 8, 8, 8).mean((1, 3)).ravel())
                labels.append(index)
        return np.stack(images) / 255 - 0.5, np.array(labels)

    x, y = thumbnails(0, 120)
    x_test, y_test = thumbnails(10_000, 50)
    weights = np.linalg.solve(x.T @ x + np.eye(64), x.T @ np.eye(4)[y])
    accuracy = ((x_test @ weights).argmax(1) == y_test).mean()
    assert 0.4 < accuracy < 0.9
