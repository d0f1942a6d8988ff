"""What is of one origin: patients and equal files, joined in any chain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cas_metric.scoring.embeddings import ImageSet


def images(digests: list[str], errors: list[str] | None = None) -> ImageSet:
    count = len(digests)
    return ImageSet(np.zeros((count, 1), np.float32), tuple(digests), tuple(errors or [""] * count))


def test_an_equal_file_without_a_patient_is_of_the_patient() -> None:
    assert images(["aa", "aa", "bb"]).groups(["A", "", ""]) == ["patient A", "patient A", "bb"]


def test_files_that_cannot_be_read_join_nobody() -> None:
    found = images(["ee", "ee", "", ""], ["empty", "empty", "lost", "lost"]).groups([*"ABC", ""])
    assert found == ["patient A", "patient B", "patient C", ""]


@pytest.mark.parametrize("seed", range(5))
def test_origins_are_the_components_of_files_and_patients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    files, people = rng.integers(60, size=(2, 80))
    known = people < 40
    edges = (files[known], 60 + people[known])
    graph = coo_array((np.ones(known.sum()), edges), shape=(100, 100))
    components = connected_components(graph, directed=False)[1][files]
    digests = [f"{number:04x}" for number in files]
    patients = [f"p{number}" if number < 40 else "" for number in people]
    found = images(digests).groups(patients)
    pairs = set(zip(found, components.tolist(), strict=True))
    assert len(pairs) == len(set(found)) == len(set(components.tolist()))
    assert images(digests[::-1]).groups(patients[::-1]) == found[::-1]
