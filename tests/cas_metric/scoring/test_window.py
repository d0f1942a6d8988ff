"""A display window decides what an encoder sees: from ``cas.yaml`` to embeddings and provenance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.support.clinical_crops import cas

from cas_metric.embedding.cache import EmbeddingCache, Entry, image_key
from cas_metric.embedding.passes import embed_image_files
from cas_metric.encoders import Encoder
from cas_metric.images import STEPS_TOLD, Window, count_steps, load_image

NARROW, WIDE = (800.0, 1400.0), (0.0, 4000.0)


def write_sixteen_bit(path: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    values = rng.integers(600, 1600, (24, 24)).astype(np.uint16)
    values[6 : 12 + number % 6] += 900
    Image.fromarray(values).save(path)


def write_dicom(path: Path, number: int) -> None:
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    values = np.roll(dataset.pixel_array, 9 * number, axis=1)
    dataset.PixelData = values.tobytes()
    dataset.save_as(path)


def folder_of(
    folder: Path, write: Callable[[Path, int], None], suffix: str, first: int, window: Any
) -> Path:
    folder.mkdir(parents=True)
    rows = []
    for number in range(4):
        write(folder / f"{number}{suffix}", first + number)
        label = ("left", "right")[number % 2]
        rows.append({"file_name": f"{number}{suffix}", "label": label, "prompt": f"a {label}"})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    if window is not None:
        (folder / "cas.yaml").write_text(f"window: [{window[0]}, {window[1]}]\n")
    return folder


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(write_sixteen_bit, ".png"), (write_dicom, ".dcm")],
    ids=["16-bit PNG", "DICOM"],
)
def test_two_windows_are_two_sets_of_images(
    write: Any,
    suffix: str,
    siglip_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    scores = {}
    for name, window in (("narrow", NARROW), ("wide", WIDE)):
        folders = [
            folder_of(tmp_path / name / side, write, suffix, first, window)
            for side, first in (("generated", 0), ("real", 40))
        ]
        arguments = ("score", *folders, "--encoder", siglip_directory, "--out", tmp_path / name)
        first = cas(*arguments)
        assert first.code == 0, first.err
        assert "embedded 8 images" in first.out  # nothing of the other window was taken
        kept = {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.*") if p.is_file()}
        again = cas(*arguments)
        assert "embedded 0 images, 8 from cache" in again.out
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        for side in ("generated", "real"):
            told = summary["provenance"]["inputs"][side]
            assert told["window"] == list(window)
            assert told["pixels"][f"window {window[0]:g} to {window[1]:g}"] == 4
        before = json.loads(kept.pop("summary.json"))
        assert before.pop("timing") != summary.pop("timing")
        assert before == summary  # steps are known on a hit
        for file, content in kept.items():
            assert (tmp_path / name / file).read_bytes() == content, file
        assert f"window {window[0]:g} to {window[1]:g}" in kept["report.html"].decode()
        scores[name] = pd.read_csv(tmp_path / name / "per_image.csv")
    assert (scores["narrow"]["vdc"] != scores["wide"]["vdc"]).all()


def test_each_side_is_shown_through_its_own_window(siglip_directory: Path, tmp_path: Path) -> None:
    generated = folder_of(tmp_path / "generated", write_sixteen_bit, ".png", 0, NARROW)
    real = folder_of(tmp_path / "real", write_sixteen_bit, ".png", 0, WIDE)
    options = ("--encoder", siglip_directory, "--cache", tmp_path / "cache")
    same = cas("score", generated, generated, *options, "--out", tmp_path / "same", "--json")
    other = cas("score", generated, real, *options, "--out", tmp_path / "other", "--json")
    assert json.loads(same.out)["methods"][0]["mean"]["sfs"] == pytest.approx(1)
    assert json.loads(other.out)["methods"][0]["mean"]["sfs"] < 0.9999
    assert json.loads(other.out)["timing"]["images_from_cache"] == 4  # the narrow ones


def test_an_embedding_is_that_of_the_windowed_pixels(
    siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    path = tmp_path / "deep.png"
    write_sixteen_bit(path, 1)
    windows = [None, Window(*NARROW), Window(*WIDE)]
    found = embed_image_files([path] * 3, siglip, cache, windows=windows, batch_size=4)
    assert found.embedded == 3
    assert found.steps == (
        ("16-bit scaled by 1/65535", "faint: all pixels between 2 and 10 of 255"),
        ("window 800 to 1400",),
        ("window 0 to 4000",),
    )
    inputs = siglip.official_preprocess([load_image(path, window=w).pixels for w in windows])
    expected = siglip.embed_pixels(inputs.repeat(2, 1, 1, 1)[:4])[:3]
    np.testing.assert_allclose(found.embeddings, expected.numpy(), atol=1e-6)
    assert np.abs(found.embeddings[1] - found.embeddings[2]).max() > 1e-3


def test_keys_tell_windows_apart_that_print_alike() -> None:
    windows = (None, Window(0, 1), Window(0, 1.0000001), Window(-1, 1))
    assert len({image_key(b"x" * 32, "encoder", window) for window in windows}) == len(windows)
    assert image_key(b"x", "e", Window(0, 1)) == image_key(b"x", "e", Window(0.0, 1.0))


def test_steps_come_back_from_the_cache_as_they_went_in(cache: EmbeddingCache) -> None:
    vector = np.arange(5, dtype=np.float32)
    entry = Entry(vector, steps=("colour profile 'Ü\\n' converted", "window 0 to 1"))
    cache.put_many([(b"k", entry), (b"plain", Entry(vector))])
    first, second = cache.get_many([b"k", b"plain"])
    assert first is not None
    assert second is not None
    assert first.steps == entry.steps
    assert second.steps == ()
    np.testing.assert_array_equal(first.vector, vector)


def test_what_is_told_of_the_steps_does_not_grow_with_the_images() -> None:
    records = [("inverted", f"window {number:04d}") for number in range(300)]
    told = count_steps(records)
    assert told["inverted"] == 300
    assert len(told) == STEPS_TOLD + 1
    assert told[f"{301 - STEPS_TOLD} other steps"] == 301 - STEPS_TOLD
    assert list(count_steps(reversed(records))) == list(told)


def test_features_of_the_distribution_verbs_see_the_window(
    siglip_directory: Path, tmp_path: Path
) -> None:
    generated = folder_of(tmp_path / "generated", write_sixteen_bit, ".png", 0, NARROW)
    real = folder_of(tmp_path / "real", write_sixteen_bit, ".png", 40, WIDE)
    options = ("--encoder", siglip_directory, "--cache", tmp_path / "cache", "--json")
    done = cas("fidelity", generated, real, "--neighbours", 1, *options)
    assert done.code == 0, done.err
    assert json.loads(done.out)["pixels"] == {
        "generated": {"window 800 to 1400": 4},
        "real": {"window 0 to 4000": 4},
    }
    done = cas("diversity", generated, "--real", real, "--no-lpips", *options)
    assert json.loads(done.out)["pixels"]["real"] == {"window 0 to 4000": 4}
