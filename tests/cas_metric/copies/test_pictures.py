"""Every file is read once and faithfully: digests, hash and grey square."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image
from tests.support.image_files import png16_bytes

from cas_metric.copies.pictures import grey_square, read_pictures
from cas_metric.errors import InputError
from cas_metric.manifest import read_manifest

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "set" / "a"
    target.mkdir(parents=True)
    Image.fromarray(PIXELS).save(target / "0.png")
    Image.fromarray(PIXELS).save(target / "1.png", compress_level=1)
    Image.fromarray(PIXELS[:, ::-1]).save(target / "2.png")
    (target / "3.png").write_bytes(b"no picture")
    (target / "4.png").write_bytes(png16_bytes(PIXELS[:, :, :1].astype(np.uint16) * 257))
    return target.parent


def test_what_is_read(folder):
    seen = []
    found = read_pictures(
        read_manifest(folder), size=16, variants="mirror", progress=lambda *a: seen.append(a)
    )
    assert found.rows.tolist() == [0, 1, 2, 4]
    assert found.grey.shape == (4, 16, 16)
    assert found.digests[0] != found.digests[1]
    assert found.contents[0] == found.contents[1] != found.contents[2]
    assert found.words[0, 1] == found.words[2, 0] != found.words[0, 0]
    bits = imagehash.phash(Image.fromarray(PIXELS)).hash
    assert int(found.words[0, 0]) == int("".join("01"[b] for b in bits.ravel().astype(int)), 2)
    assert list(found.errors) == [str(folder / "a" / "3.png")]
    assert seen == [(k, 5) for k in range(1, 6)]
    eight = grey_square(np.repeat(PIXELS[:, :, :1], 3, axis=2), 16)
    np.testing.assert_allclose(found.grey[3], eight, atol=1e-3)


def test_grey_of_grey_is_itself_and_deep_values_survive():
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_allclose(grey_square(grey, 16), grey[:, :, 0], atol=1e-4)
    deep = np.full((9, 9, 3), 1000.4 / 65535, np.float32)
    np.testing.assert_allclose(grey_square(deep, 9), 255 * 1000.4 / 65535, rtol=1e-5)


def test_wrong_settings_are_refused(folder):
    with pytest.raises(InputError, match="at least 7"):
        read_pictures(read_manifest(folder), size=6)
    with pytest.raises(InputError, match="no variants"):
        read_pictures(read_manifest(folder), size=16, variants="upside down")
