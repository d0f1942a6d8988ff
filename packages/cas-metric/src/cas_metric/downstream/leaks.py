"""Ways in which test images may have got into training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cas_metric.downstream.pictures import LabelledPictures
    from cas_metric.manifest import Manifest


def same_files(held_out: LabelledPictures, others: Mapping[str, LabelledPictures]) -> list[str]:
    """Sets that hold test images, byte for byte: a sentence each.

    Args:
        held_out: Test pictures.
        others: What is trained on, by what it is called.
    """
    tests = set(held_out.files)
    counts = {name: len(tests & set(pictures.files)) for name, pictures in others.items()}
    return [
        f"{same} of {name} are test images, byte for byte: see `cas leakage`"
        for name, same in counts.items()
        if same
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
