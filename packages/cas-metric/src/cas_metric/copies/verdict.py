"""What was tested and what came out, in sentences that claim no more than that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cas_metric.copies.chance import detectors_of
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_THRESHOLD
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.tables import told_p

#: Below it a permutation p-value is called a difference (ours; the usual level).
LEVEL = 0.05


def memorization_verdict(
    methods: Sequence[Mapping[str, Any]], n_train: int, encoder: str = ""
) -> str:
    """What :func:`memorization_findings` says of all methods, in one paragraph.

    Args:
        methods: Figures as :func:`cas_metric.copies.analysis.analyse` makes them.
        n_train: Training images that could be read.
        encoder: Name of the feature space.
    """
    return " ".join(
        f"{one['method']}: {' '.join(memorization_findings(one, n_train, encoder))}"
        for one in methods
    )


def memorization_findings(one: Mapping[str, Any], n_train: int, encoder: str = "") -> list[str]:
    """One sentence or two a detector, and what follows from all of them.

    Args:
        one: Figures of a method.
        n_train: Training images that could be read.
        encoder: Name of the feature space.
    """
    if not one["n"]:
        return ["no image could be read."]
    found = [f"{one['phash_near']:,} lie within {PHASH_THRESHOLD} pHash bits"]
    if "ssim_above" in one:
        found.insert(0, f"{one['ssim_above']:,} exceed SSIM {SSIM_THRESHOLD}")
    if "phash_variant_near" in one:
        found.append(f"{one['phash_variant_near']:,} do mirrored, turned or inverted")
    images, blank = count(one["n"], "image"), one.get("blank", 0)
    said = [
        f"of {images}, each compared with all {n_train:,} training images, "
        f"{', '.join(found[:-1])}{' and ' * (len(found) > 1)}{found[-1]}."
        + (_beside_real(one["usual"]) if "usual" in one else ""),
        _aligned(one["aligned"]) if "aligned" in one else "",
        _points(one["points"]) if one.get("points", {}).get("hits") else "",
        f"{count(blank, 'image')} {'is' if blank == 1 else 'are'} blank." if blank else "",
        _features(one["neighbours"], encoder) if "neighbours" in one else "",
        _conclusion(one),
    ]
    return [sentence for sentence in said if sentence]


def overlap_warnings(
    generated: Sequence[str], train: Sequence[str], test: Sequence[str] = ()
) -> list[str]:
    """What makes the comparison void, or trivial, because the same files are on both sides.

    Args:
        generated: sha256 of the bytes of each generated image.
        train: The same of the training images.
        test: The same of real images that are said to be unseen.

    Examples:
        >>> overlap_warnings(["a", "b"], ["c"], ["c", "d"])
        ['1 of 2 test images is a training image, byte for byte: it is not unseen']
    """
    learned, found = set(train), []
    if generated and all(digest in learned for digest in generated):
        found.append("every generated image is a training image, byte for byte: one set twice?")
    if both := sum(digest in learned for digest in test):
        is_, they = (
            ("is a training image", "it is")
            if both == 1
            else (
                "are training images",
                "they are",
            )
        )
        found.append(
            f"{both} of {count(len(test), 'test image')} {is_}, byte for byte: {they} not unseen"
        )
    return found


def leakage_verdict(figures: Mapping[str, Any]) -> str:
    """What the two splits share.

    Args:
        figures: Of :class:`cas_metric.copies.leakage.Leakage`.
    """
    bits = figures["phash_threshold"]
    compared = f"{figures['n_test']:,} test and {figures['n_train']:,} training images"
    if figures["pairs"]:
        exact = figures["same_file"] + figures["same_pixels"]
        text = (
            f"Of {compared}, {count(exact, 'pair')} {'is' if exact == 1 else 'are'} the same "
            f"picture and {count(figures['near_duplicates'], 'pair')} within {bits} "
            f"pHash bits ({figures['near_duplicates_confirmed']:,} of them with SSIM above "
            f"{SSIM_THRESHOLD}){_further(figures)}; "
            f"{count(figures['test_images_affected'], 'test image')} "
            f"{'is' if figures['test_images_affected'] == 1 else 'are'} affected."
        )
    else:
        text = (
            f"Among {compared} no pair has the same bytes, the same pixels or pHashes within "
            f"{bits} bits."
        )
    if not figures["patients_known"]:
        return f"{text} Whether patients are shared is unknown: not both splits name them."
    if figures["shared_patients"]:
        images = count(figures["test_images_of_shared_patients"], "test image")
        return f"{text} {count(figures['shared_patients'], 'patient')} in both, with {images}."
    return f"{text} No patient is named in both."


def _further(figures: Mapping[str, Any]) -> str:
    """Altered copies that no hash shows."""
    many, same = figures.get("altered_copies", 0), figures.get("another_image", 0)
    text = f"; {count(many, 'further pair')} fit once aligned" if many else ""
    return text + (f"; {same:,} more as two images of a patient do" if same else "")


def count(many: int, noun: str) -> str:
    """A number with its noun."""
    return f"{many:,} {noun}{'' if many == 1 else 's'}"


def _conclusion(one: Mapping[str, Any]) -> str:
    """Which detectors say copying, after Holm's correction over all of them and all methods."""
    tested = {
        name: entry[f"{key}_adjusted"]
        for name, (entry, key) in detectors_of(one).items()
        if math.isfinite(entry.get(f"{key}_adjusted", math.nan))
    }
    if not tested:
        return ""
    shown = [f"{name} ({told_p(p)})" for name, p in tested.items() if p < LEVEL]
    over = f"Holm over {count(len(tested), 'detector')} a method"
    if shown:
        return f"Set off more often than by real images: {', '.join(shown)}; {over}."
    least = told_p(min(tested.values()), "least p")
    return f"No detector is set off more often than by real images ({least}; {over})."


def _aligned(found: Mapping[str, Any]) -> str:
    """How many fit a training image once it is aligned, beside real images."""
    real = "real test" if found["against"] == "test" else "training"
    text = (
        f"{found['hits']:,} fit a training image once it is aligned (cropped, shifted, turned, "
        "mirrored, inverted or pasted in)"
    )
    if not found["real_images"]:
        return f"{text}; no real image calibrates this."
    text += f", and {found['real_hits']:,} of {count(found['real_images'], f'{real} image')}"
    return f"{text}.{_one_patient(found)}"


def _points(found: Mapping[str, Any]) -> str:
    """How many show the same scene, by matched keypoints."""
    real = "real test" if found["against"] == "test" else "training"
    return (
        f"{found['hits']:,} share more matched points with a training image than real images do "
        f"({found['real_hits']:,} of {count(found['real_images'], f'{real} image')}): the same "
        "lesion, patient or scene, a copy or another picture of it."
    )


def _one_patient(found: Mapping[str, Any]) -> str:
    """Whether the hits could be other pictures of a patient."""
    if not found["hits"]:
        return ""
    if "one_patient" not in found:
        return " Where a patient has several images, a hit may be another one of these."
    known = found["one_patient"]
    return (
        f" Two real images of one patient do in {known['pairs_above']:,} of "
        f"{count(known['pairs'], 'pair')}; {known['hits_beyond']:,} of the "
        f"{count(found['hits'], 'hit')} fit better than any of these, so that another picture of "
        "the patient does not explain them."
    )


def _beside_real(usual: Mapping[str, Mapping[str, Any]]) -> str:
    """How often real test images set off the same detectors."""
    told = [
        f"{name} {one['real_hits']:,} of {one['real_images']:,}"
        for name, one in usual.items()
        if one["hits"]
    ]
    return f" Of real test images, one a patient, do so: {'; '.join(told)}." if told else ""


def _features(figures: Mapping[str, Any], encoder: str) -> str:
    if "p_nearer_to_train" not in figures:
        return f"In {encoder}, distances to training images alone cannot tell copying: give --test."
    gap, p = figures["difference"]["estimate"], figures["p_nearer_to_train"]
    adjusted = figures.get("p_nearer_to_train_adjusted", p)
    if math.isnan(p):
        text = (
            f"In {encoder} the difference of their distances to training and to test images is "
            f"{signed(gap)}; it cannot be tested, since no patient of one set has a like in the "
            "other"
        )
    else:
        said = (
            "nearer to training than to test images than exchanging the two would explain"
            if adjusted < LEVEL
            else "not nearer to training than to test images beyond what exchanging the two "
            "explains"
        )
        text = f"In {encoder} they are {said} (difference {signed(gap)}, p = {p:.3g})"
    nearer = figures["nearer_than_real"]
    if nearer:
        verb = "lies" if nearer == 1 else "lie"
        text += f"; {nearer:,} of them {verb} nearer to training than any real test image does"
        if "nearer_expected" in figures:
            text += f", {_against_chance(figures)}"
    return f"{text}."


def _against_chance(figures: Mapping[str, Any]) -> str:
    expected, p = figures["nearer_expected"], figures["p_nearer_than_real_adjusted"]
    told = f"where {expected:.2g} would without copying (p = {p:.2g})"
    return told if p < LEVEL else f"{told}: no sign of copying"


def signed(value: float) -> str:
    """Four decimals with a true minus sign or a plus."""
    return fixed(value, 4, signed=True)
