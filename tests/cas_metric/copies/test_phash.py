"""Packed hashes are ImageHash's hashes, and popcounts its differences."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from tests.cas_metric.copies.pictures import labels
from tests.support.image_files import png16_bytes

from cas_metric.copies import phash
from cas_metric.errors import InputError
from cas_metric.images import load_image, to_uint8
from cas_metric.phantoms import DOMAINS, make_phantom


def pictures() -> list[np.ndarray]:
    real = [data.retina(), data.immunohistochemistry(), data.microaneurysms()]
    drawn = [
        make_phantom(domain, label, i, size).image
        for domain in DOMAINS
        for size in (64, 200)
        for i, label in labels(2, domain)
    ]
    deep = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    return [*real, *drawn, to_uint8(deep), real[0][:300:3, :500:2], np.zeros((9, 9), np.uint8)]


@pytest.fixture(scope="module")
def hashes():
    return [(imagehash.phash(Image.fromarray(p)), phash.phash(p)) for p in pictures()]


def test_words_hold_the_bits_of_imagehash(hashes):
    for theirs, ours in hashes:
        bits = [(int(ours) >> (63 - k)) & 1 for k in range(64)]
        assert bits == theirs.hash.ravel().astype(int).tolist()


def test_distances_are_those_of_imagehash(hashes):
    words = np.array([ours for _, ours in hashes], dtype=np.uint64)
    expected = [[int(a - b) for b, _ in hashes] for a, _ in hashes]
    np.testing.assert_array_equal(phash.hamming(words, words), expected)


def test_sixteen_bit_files_are_hashed_as_their_eight_bit_picture(tmp_path):
    grey = data.retina()[::4, ::4, 1]
    path = tmp_path / "deep.png"
    path.write_bytes(png16_bytes(grey[:, :, None].astype(np.uint16) * 257))
    expected = imagehash.phash(Image.fromarray(grey))
    assert phash.phash(to_uint8(load_image(path).pixels)) == phash.pack(expected)


words = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40)


@given(words, words, st.integers(0, 64))
def test_search_equals_the_naive_loop(left, right, threshold):
    a, b = np.array(left, dtype=np.uint64), np.array(right, dtype=np.uint64)
    table = np.array([[(x ^ y).bit_count() for y in right] for x in left])
    found = phash.nearest(a, b)
    np.testing.assert_array_equal(found.distance, table.min(axis=1))
    np.testing.assert_array_equal(found.position, table.argmin(axis=1))
    pairs = phash.pairs_within(a, b, threshold)
    np.testing.assert_array_equal(pairs[:, :2], np.argwhere(table <= threshold))
    np.testing.assert_array_equal(pairs[:, 2], table[table <= threshold])


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    many = rng.integers(0, 2**63, 50, dtype=np.uint64)
    whole = phash.pairs_within(many, threshold=26)
    monkeypatch.setattr(phash, "_BLOCK_PAIRS", 120)
    np.testing.assert_array_equal(phash.pairs_within(many, threshold=26), whole)
    assert (whole[:, 0] < whole[:, 1]).all()
    assert len(whole)


def test_the_closest_of_a_set_with_itself_are_others():
    words = np.array([0, 1, 3, 7, 15], np.uint64)
    found = phash.pairs_within(words, threshold=2, limit=1)
    assert found[:, :2].tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    np.testing.assert_array_equal(
        phash.pairs_within(words, threshold=2, limit=9), phash.pairs_within(words, threshold=2)
    )


def test_symmetries_are_the_eight_of_the_square_and_of_its_negative():
    picture = data.retina()[::8, ::8]
    seen = list(phash.symmetries(picture))
    assert len(seen) == len(phash.SYMMETRIES) == 16
    np.testing.assert_array_equal(seen[0], picture)
    np.testing.assert_array_equal(seen[2], picture[::-1, ::-1])
    np.testing.assert_array_equal(seen[4], picture[:, ::-1])
    np.testing.assert_array_equal(seen[12], 255 - picture[:, ::-1])
    assert len({one.tobytes() for one in seen}) == 16


@pytest.mark.parametrize(
    ("choice", "places"),
    [
        ("none", (0,)),
        ("mirror", (0, 4)),
        ("rotate90", (0, 1, 2, 3)),
        ("mirror,rotate90", tuple(range(8))),
        ("invert", (0, 8)),
        ("all", tuple(range(16))),
    ],
)
def test_variants_are_what_the_changes_and_their_combinations_give(choice, places):
    assert phash.variants_of(choice) == places


def test_an_unknown_change_is_refused_by_name():
    with pytest.raises(InputError, match="no variants 'flip'"):
        phash.variants_of("mirror, flip")
