"""Seeded splits: by given counts a class, or with whole groups (patients, slides) on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cas_metric.datasets.base import Collection, Partition, Positions
from cas_metric.errors import InputError

#: Train and test images of one class.
Quota = tuple[int, int]


def paper_quotas(
    labels: Sequence[str], paper: Mapping[str, Quota], *, keep_all: bool
) -> dict[str, Quota]:
    """How many images of each class go to each side.

    Args:
        labels: Label of every image at hand.
        paper: The paper's counts.
        keep_all: Whether the training side takes all that the test side leaves, or only as many
            as in the paper.

    Returns:
        The paper's counts where the class has enough images. Where it has not, the test side
        still gets the paper's count if it is at most half of them, else the class is divided in
        the paper's proportion, at least one image on each side.

    Raises:
        InputError: A class has fewer than two images.
    """
    counts = Counter(labels)
    quotas = {}
    for label, (train, test) in paper.items():
        available = counts[label]
        if available < 2:
            raise InputError(
                f"{label!r} has {available} images, too few to train and test on",
                fix="check that the data set is complete",
            )
        if available >= train + test and not keep_all:
            quotas[label] = (train, test)
        elif available >= train + test or available >= 2 * test:
            quotas[label] = (available - test, test)
        else:
            share = min(max(round(available * test / (train + test)), 1), available - 1)
            quotas[label] = (available - share, share)
    return quotas


def draw(labels: Sequence[str], quotas: Mapping[str, Quota], seed: int) -> Partition:
    """Draw the quota of every class without replacement; positions come back sorted."""
    rng = np.random.default_rng(seed)
    every = np.asarray(labels, dtype=object)
    train, test = [], []
    for label, (n_train, n_test) in quotas.items():
        drawn = rng.permutation(np.flatnonzero(every == label))
        train.append(drawn[:n_train])
        test.append(drawn[n_train : n_train + n_test])
    return Partition(np.sort(np.concatenate(train)), np.sort(np.concatenate(test)))


def split_groups(labels: Sequence[str], groups: Sequence[str], seed: int) -> Partition:
    """Halve the images of every class as well as whole groups allow.

    Groups are taken from the largest to the smallest, ties in seeded random order; each goes to
    the side that lacks more of its classes.

    Args:
        labels: Label of every image.
        groups: Group of every image, which must not be divided: patient, slide.
        seed: Seeds the order.

    Raises:
        InputError: A class lies in one group only, so it cannot be on both sides.
    """
    totals = Counter(labels)
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    names = list(members)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order = sorted(shuffled, key=lambda group: len(members[group]), reverse=True)
    held = (Counter[str](), Counter[str]())
    sides: tuple[list[int], list[int]] = ([], [])
    for group in order:
        counts = Counter(labels[position] for position in members[group])
        # How much fuller the training side is, weighted by what this group would add to it.
        lead = sum(
            n * (held[0][label] - held[1][label]) / totals[label] for label, n in counts.items()
        )
        side = 0 if lead <= 0 else 1
        held[side].update(counts)
        sides[side].extend(members[group])
    for label in totals:
        if not (held[0][label] and held[1][label]):
            raise InputError(
                f"all images of {label!r} lie in one group, so no disjoint split can hold the "
                "class on both sides",
                fix="use --split paper, or add images of other patients",
            )
    train, test = (np.sort(np.array(side, dtype=np.int64)) for side in sides)
    return Partition(train, test)


def official(collection: Collection) -> Partition:
    """The sides that the publisher assigns."""
    side = collection.records["official"].to_numpy()
    return Partition(np.flatnonzero(side == "train"), np.flatnonzero(side == "test"))


def few_shot(positions: Positions, labels: Sequence[str], shots: int, seed: int) -> Positions:
    """``shots`` images of each class (Appendix F); with one seed, fewer are a part of more.

    Args:
        positions: Training rows.
        labels: Label of every row of the collection, so that ``labels[positions[i]]`` is one's.
        shots: Images a class.
        seed: Seeds the draw.

    Raises:
        InputError: A class has fewer than ``shots`` training images, or ``shots`` is below 1.
    """
    if shots < 1:
        raise InputError(f"--shots is {shots}", fix="ask for at least one image a class")
    rng = np.random.default_rng(seed)
    of_row = np.asarray([labels[position] for position in positions], dtype=object)
    chosen = []
    for label in sorted(set(of_row)):
        members = rng.permutation(positions[of_row == label])
        if len(members) < shots:
            raise InputError(
                f"{shots} shots were asked for, but {label!r} has {len(members)} training images",
                fix=f"use at most --shots {len(members)}",
            )
        chosen.append(members[:shots])
    return np.sort(np.concatenate(chosen))
