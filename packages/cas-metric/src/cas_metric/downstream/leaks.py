"""Ways in which test images may have got into training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cas_metric.downstream.pictures import LabelledPictures
    from cas_metric.manifest import Manifest


def same_images(held_out: LabelledPictures, others: Mapping[str, LabelledPictures]) -> list[str]:
    """Sets that hold test images, byte for byte or pixel for pixel: a sentence each.

    Args:
        held_out: Test pictures.
        others: What is trained on, by what it is called.
    """
    files, seen = set(held_out.files), set(_contents(held_out))
    sentences = []
    for name, pictures in others.items():
        same = [file in files for file in pictures.files]
        alike = [
            not known and picture in seen
            for known, picture in zip(same, _contents(pictures), strict=True)
        ]
        if any(same):
            sentences.append(
                f"{sum(same)} of {name} are test images, byte for byte: see `cas leakage`"
            )
        if any(alike):
            sentences.append(
                f"{sum(alike)} of {name} are other files with the pixels of test images: see "
                "`cas leakage`"
            )
    return sentences


def _contents(pictures: LabelledPictures) -> list[bytes]:
    """A digest of every picture as the classifier sees it; of one of a single colour, its own."""
    return [
        hashlib.blake2b(one, digest_size=16).digest() if np.ptp(one) else file.encode()
        for one, file in zip(pictures.pixels, pictures.files, strict=True)
    ]


def same_patients(train: Manifest, test: Manifest) -> list[str]:
    """A sentence where patients of the test images are named among the training images."""
    both = set(test.rows["patient"]) & set(train.rows["patient"]) - {""}
    if not both:
        return []
    images = int(test.rows["patient"].isin(both).sum())
    return [
        f"{images} of {len(test)} test images are of patients of the training images "
        f"({len(both)} by their `patient`, such as {min(both)}): the scores are not those of new "
        "patients"
    ]


def made_for_tests(train: Manifest, test: Manifest, methods: Mapping[str, Manifest]) -> list[str]:
    """Methods whose images refer to test images: a sentence each.

    Ids such as ``0001`` occur in many data sets. Where labels contradict those of the test images
    of these ids and no prompt is theirs, the references are of another set.

    Args:
        train: Real training images.
        test: Real test images.
        methods: Synthetic images by method.
    """
    tests = set(test.rows["id"]) - {""} - set(train.rows["id"])
    known = test.rows.drop_duplicates("id").set_index("id")[["label", "prompt"]]
    sentences = []
    for name, one in methods.items():
        made = one.rows[one.rows["reference"].isin(tests)]
        theirs = known.loc[made["reference"]]
        contradicted = (made["label"].to_numpy() != theirs["label"].to_numpy()).any()
        told = made["prompt"].to_numpy()
        if len(made) and (not contradicted or ((told == theirs["prompt"]) & (told != "")).any()):
            sentences.append(
                f"{len(made)} images of {name} were made for test images (their `reference`): what "
                "their prompts tell of the test images reaches the classifier"
            )
    return sentences
