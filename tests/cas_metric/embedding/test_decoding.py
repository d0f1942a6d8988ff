"""One file's failure is its own, and all threads together keep to one budget of memory."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.image_files import png16_bytes

from cas_metric.embedding import decoding
from cas_metric.embedding.decoding import Decoded, decode, hash_files, ordered_map
from cas_metric.encoders.preprocessing import Preprocessing
from cas_metric.errors import InputError, MissingDependency
from cas_metric.images import MAX_ASPECT, MAX_BYTES, Window, decoding_cost, notes_of
from cas_metric.images.limits import BUDGET


def to_input(images):
    """The centre of pictures whose shorter side is resized to 32."""
    side, out = 32, []
    for image in images:
        scale = side / min(image.size)
        resized = image.resize([max(side, round(length * scale)) for length in image.size])
        out.append(torch.from_numpy(np.asarray(resized)[:side, :side].copy()).permute(2, 0, 1))
    return torch.stack(out).float()


PREPROCESSING = Preprocessing(to_input, 32, "crop", 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
ENCODER = SimpleNamespace(image_size=32, official_preprocess=PREPROCESSING.official)


def decoded(path, encoder=ENCODER, window=None):
    (state,) = hash_files([path], 1)
    return decode(path, state, window, encoder)


def picture(path, size=(60, 40)):
    Image.effect_noise(size, 80).save(path)
    return path


def test_pixels_and_the_record_arrive(tmp_path):
    found = decoded(picture(tmp_path / "a.png"))
    assert isinstance(found, Decoded)
    assert found.inputs.shape == (3, 32, 32)
    assert found.steps == ()


def test_notes_arrive_with_the_record(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    assert notes_of(decoded(tmp_path / "a.png").steps) == ("blank",)
    values = np.random.default_rng(0).integers(0, 4096, (40, 60, 1), dtype=np.uint16)
    (tmp_path / "b.png").write_bytes(png16_bytes(values))
    assert notes_of(decoded(tmp_path / "b.png").steps) == ("faint",)
    assert notes_of(decoded(tmp_path / "b.png", window=Window(0, 4095)).steps) == ()


def test_float_pixels_give_the_input_of_the_official_way(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (40, 60, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png16_bytes(values))
    expected = PREPROCESSING.official([(values / np.float32(65535)).astype(np.float32)])[0]
    assert torch.equal(decoded(tmp_path / "a.png").inputs, expected)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("can't allocate memory"), ValueError("odd"), RecursionError()],
)
def test_any_exception_is_the_failure_of_its_file(tmp_path, error):
    def fail(images):
        raise error

    path = picture(tmp_path / "a.png")
    reason = decoded(path, SimpleNamespace(image_size=32, official_preprocess=fail))
    assert isinstance(reason, str)
    assert reason.startswith(str(path))
    assert BUDGET.free == MAX_BYTES


@pytest.mark.parametrize(
    "error",
    [MissingDependency("pydicom", extra="dicom", purpose="x"), InputError("no"), MemoryError()],
)
def test_so_is_any_exception_of_a_reader(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(decoding, "load_image", fail)
    assert isinstance(decoded(picture(tmp_path / "a.png")), str)


def test_a_strip_fails_and_its_neighbours_do_not(tmp_path):
    paths = [picture(tmp_path / f"{n}.png") for n in range(3)]
    Image.new("1", (400_000, 8)).save(paths[1])
    results = list(ordered_map(decoded, paths, workers=2, ahead=4))
    assert [isinstance(result, Decoded) for result in results] == [True, False, True]
    assert "a strip, not a picture" in results[1]


def test_the_thinnest_accepted_picture_costs_what_it_is_resized_to(tmp_path):
    path = picture(tmp_path / "a.png", (8 * MAX_ASPECT, 8))
    assert isinstance(decoded(path), Decoded)
    resized = 32 * 32 * MAX_ASPECT
    assert decoding_cost(path, resized_to=32) >= decoding_cost(path) + 7 * resized
    greedy = SimpleNamespace(image_size=4096, official_preprocess=PREPROCESSING.official)
    assert "GiB of memory" in decoded(path, greedy)


def test_threads_share_the_budget(tmp_path, monkeypatch):
    """What is held at any time, by the bounds, is never more than the budget."""
    paths = [picture(tmp_path / f"{n}.png", (100 + 40 * n, 100)) for n in range(8)]
    monkeypatch.setattr(BUDGET, "total", 3 * decoding_cost(paths[-1], resized_to=32))
    monkeypatch.setattr(BUDGET, "free", BUDGET.total)
    lowest, lock = [], threading.Lock()

    def watch(images):
        with lock:
            lowest.append(BUDGET.free)
        return PREPROCESSING.official(images)

    encoder = SimpleNamespace(image_size=32, official_preprocess=watch)
    results = list(ordered_map(lambda path: decoded(path, encoder), 4 * paths, workers=8, ahead=16))
    assert all(isinstance(result, Decoded) for result in results)
    assert min(lowest) >= 0
    assert BUDGET.free == BUDGET.total
