"""SSIM of all pairs equals scikit-image's, with and without pruning, on every path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.metrics import structural_similarity
from tests.cas_metric.copies.pictures import awkward_grey, phantom_grey, real_grey

from cas_metric.copies import ssim, ssim_search, ssim_torch
from cas_metric.copies.ssim_search import Search
from cas_metric.errors import InputError
from cas_metric.phantoms import DOMAINS


def oracle(left: np.ndarray, right: np.ndarray, data_range: float = 255.0) -> np.ndarray:
    return np.array(
        [
            [
                structural_similarity(
                    a.astype(np.float64), b.astype(np.float64), data_range=data_range
                )
                for b in right
            ]
            for a in left
        ]
    )


def images(source: str, size: int) -> np.ndarray:
    makers = {"real": real_grey, "phantom": phantom_grey, "awkward": awkward_grey}
    return makers[source](size)


@pytest.mark.parametrize("size", [16, 64, 97])
@pytest.mark.parametrize("source", ["real", "phantom", "awkward"])
def test_equals_scikit_image(source, size):
    stack = images(source, size)
    expected = oracle(stack, stack)
    assert np.abs(ssim.similarities(stack, stack) - expected).max() < 1e-9
    single = ssim.similarities(stack, stack, dtype=np.float32)
    assert np.abs(single - expected).max() < float32_error(source)


def float32_error(source: str) -> float:
    return ssim.TOLERANCE / 4 if source == "awkward" else 5e-6


def test_sixteen_bits_on_their_own_scale():
    rng = np.random.default_rng(1)
    stack = real_grey(48).astype(np.float64) * 257 + rng.integers(0, 257, (6, 48, 48))
    stack = np.minimum(stack, 65535)
    expected = oracle(stack, stack, 65535.0)
    assert np.abs(ssim.similarities(stack, stack, data_range=65535.0) - expected).max() < 1e-9
    scaled = ssim.similarities(stack / 257, stack / 257)
    assert np.abs(scaled - expected).max() < 1e-9


@pytest.mark.parametrize("size", [128, 256])
def test_every_domain_in_eight_and_sixteen_bits(size):
    eight = np.stack([phantom_grey(size, 1, domain)[0] for domain in DOMAINS])
    stack = np.concatenate([eight, real_grey(size)[:2]])
    noise = np.random.default_rng(3).integers(0, 257, stack.shape)
    deep = np.minimum(stack.astype(np.float64) * 257 + noise, 65535)
    for pictures, data_range in ((stack, 255.0), (deep, 65535.0)):
        expected = oracle(pictures[:1], pictures[1:], data_range)
        ours = ssim.similarities(pictures[:1], pictures[1:], data_range=data_range)
        assert np.abs(ours - expected).max() < 1e-6
        single = ssim.similarities(
            pictures[:1], pictures[1:], data_range=data_range, dtype=np.float32
        )
        assert np.abs(single - expected).max() < 5e-6


def test_sides_may_differ():
    rng = np.random.default_rng(2)
    stack = rng.uniform(0, 255, (3, 7, 60))
    assert np.abs(ssim.similarities(stack, stack) - oracle(stack, stack)).max() < 1e-9


@pytest.mark.parametrize("source", ["real", "phantom", "awkward"])
def test_torch_path_equals_scikit_image(source):
    stack = images(source, 64)
    found = ssim_torch.similarities(stack, stack, device="cpu")
    assert np.abs(found - oracle(stack, stack)).max() < float32_error(source)


@pytest.mark.parametrize(
    "search",
    [
        Search(),
        Search(prune=False),
        Search(workers=1),
        Search(device="cpu:0"),
        Search(threshold=0.4),
    ],
)
def test_nearest_is_the_maximum_over_all_pairs(search, monkeypatch):
    monkeypatch.setattr(ssim_search, "_OTHERS_TOGETHER", 5)
    monkeypatch.setattr(ssim_search, "_CHUNK_PIXELS", 64 * 64 * 7)
    queries, others = phantom_grey(64, 10), phantom_grey(64, 30)[10:]
    queries[3] = others[7]
    queries[5] = np.clip(others[2] + np.random.default_rng(0).normal(0, 2, (64, 64)), 0, 255)
    expected = oracle(queries, others)
    found = ssim_search.nearest(queries, others, search)
    np.testing.assert_allclose(found.value, expected.max(axis=1), atol=1e-9)
    np.testing.assert_array_equal(found.position, expected.argmax(axis=1))
    np.testing.assert_array_equal(found.above, np.argwhere(expected > search.threshold))
    np.testing.assert_allclose(found.above_value, expected[expected > search.threshold], atol=1e-9)
    assert found.work == 1 if not search.prune else found.work <= 1


def test_only_the_count_prunes_more_and_counts_the_same():
    queries, others = phantom_grey(64, 6), phantom_grey(64, 24)[6:]
    queries[1] = others[4]
    full = ssim_search.nearest(queries, others, Search(prune=False))
    few = ssim_search.nearest(queries, others, Search(maximum=False))
    np.testing.assert_array_equal(few.above, full.above)
    assert (few.position[1], few.value[1]) == (4, pytest.approx(1.0, abs=1e-12))
    assert np.isnan(np.delete(few.value, 1)).all()
    assert few.work < 0.9


def test_of_equal_similarities_the_first_counts():
    stack = phantom_grey(32, 4)
    found = ssim_search.nearest(stack[:1], stack[[1, 0, 0]])
    assert found.position.tolist() == [1]


small = arrays.arrays(
    np.uint8, st.tuples(st.just(2), st.integers(7, 40), st.integers(7, 40)), fill=st.just(0)
)


@settings(max_examples=60, deadline=None)
@given(small)
def test_bound_is_never_below_the_similarity(stack):
    left, right = stack[:1].astype(np.float32), stack[1:].astype(np.float32)
    bound = ssim.upper_bounds(ssim.moments(left), ssim.moments(right))[0, 0]
    assert bound >= oracle(left, right)[0, 0] - 1e-5


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.uint8, (6, 24, 24), elements=st.sampled_from([0, 3, 128, 131, 255])),
    st.floats(-0.2, 0.99),
)
def test_pruned_answer_equals_the_full_one(stack, threshold):
    queries, others = stack[:2].astype(np.float32), stack[2:].astype(np.float32)
    full = ssim_search.nearest(queries, others, Search(threshold=threshold, prune=False))
    pruned = ssim_search.nearest(queries, others, Search(threshold=threshold))
    for name in ("value", "position", "above", "above_value"):
        np.testing.assert_array_equal(getattr(pruned, name), getattr(full, name))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="not negative"):
        ssim.moments(np.full((1, 8, 8), -1.0))
    with pytest.raises(InputError, match="not negative"):
        ssim.moments(np.full((1, 8, 8), np.nan))
    with pytest.raises(InputError, match="at least 7"):
        ssim.moments(np.zeros((1, 6, 8)))
    with pytest.raises(InputError, match="equal sizes"):
        ssim_search.nearest(np.zeros((1, 8, 8)), np.zeros((1, 9, 8)))
