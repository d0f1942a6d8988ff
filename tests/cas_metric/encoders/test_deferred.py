"""An encoder that is known before it is loaded: the same one, and never a stale one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.tiny_models import build_siglip

from cas_metric.encoders import load_encoder, open_encoder
from cas_metric.errors import CasError

ATTRIBUTES = (
    *("name", "revision", "dim", "fingerprint", "token_limit", "image_size", "dtype"),
    *("text_policy", "device", "device_description"),
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "memory"))
    return build_siglip(tmp_path / "model")


def test_the_second_opening_loads_nothing_until_it_embeds(directory: Path) -> None:
    first = open_encoder(directory, device="cpu")
    assert first.loaded
    second = open_encoder(directory, device="cpu")
    assert not second.loaded
    for name in ATTRIBUTES:
        assert getattr(second, name) == getattr(first, name), name
    assert not second.loaded
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    with ThreadPoolExecutor(4) as pool:  # as decoding threads do, all at once
        inputs = list(pool.map(lambda _: second.official_preprocess([image]), range(4)))
    assert second.loaded
    assert all(torch.equal(one, inputs[0]) for one in inputs)
    batch = inputs[0].repeat(2, 1, 1, 1)
    assert torch.equal(second.embed_pixels(batch), first.embed_pixels(batch))
    assert torch.equal(
        second.embed_texts(["a b"]).embeddings, first.embed_texts(["a b"]).embeddings
    )
    assert second.count_tokens(["a b"]) == first.count_tokens(["a b"])
    assert second.show_tokens("a b") == first.show_tokens("a b")
    pixels = torch.rand(2, 3, 40, 40)
    assert torch.equal(second.embed_images(pixels), first.embed_images(pixels))
    assert torch.equal(second.preprocess(pixels), first.preprocess(pixels))


def test_other_files_or_options_are_another_encoder(directory: Path, tmp_path: Path) -> None:
    plain = open_encoder(directory, device="cpu")
    half = open_encoder(directory, device="cpu", dtype="bfloat16")
    chunks = open_encoder(directory, device="cpu", text_policy="chunk-mean")
    assert len({plain.fingerprint, half.fingerprint, chunks.fingerprint}) == 3
    other = build_siglip(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", directory)
    changed = open_encoder(directory, device="cpu")
    assert changed.loaded
    assert changed.fingerprint == load_encoder(other, device="cpu").fingerprint
    assert changed.fingerprint != plain.fingerprint


def change_behind_the_time_stamps(directory: Path, other: Path) -> None:
    weights = directory / "model.safetensors"
    status = weights.stat()
    shutil.copyfile(other / "model.safetensors", weights)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_files_that_change_behind_their_time_stamps_are_another_encoder(
    directory: Path, tmp_path: Path
) -> None:
    before = open_encoder(directory, device="cpu")
    change_behind_the_time_stamps(directory, build_siglip(tmp_path / "other", seed=1))
    after = open_encoder(directory, device="cpu")
    assert after.loaded
    assert after.fingerprint != before.fingerprint


def test_files_that_change_after_the_encoder_was_opened_are_refused(
    directory: Path, tmp_path: Path
) -> None:
    open_encoder(directory, device="cpu")
    opened = open_encoder(directory, device="cpu")
    change_behind_the_time_stamps(directory, build_siglip(tmp_path / "other", seed=1))
    with pytest.raises(CasError, match="have changed since the encoder was opened"):
        opened.embed_texts(["a"])


def test_the_content_counts_wherever_it_lies(directory: Path, tmp_path: Path) -> None:
    first = open_encoder(directory, device="cpu")
    moved = directory.parent / "elsewhere" / directory.name
    shutil.copytree(directory, moved)
    second = open_encoder(moved, device="cpu")
    assert not second.loaded
    assert second.fingerprint == first.fingerprint


def test_a_memory_that_cannot_be_read_or_written_costs_only_time(
    directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "memory").write_text("a file where a folder should be")
    first, second = (open_encoder(directory, device="cpu") for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert second.loaded


def test_a_damaged_memory_is_made_again(directory: Path, tmp_path: Path) -> None:
    first = open_encoder(directory, device="cpu")
    (remembered,) = (tmp_path / "memory" / "cas-metric" / "encoders").iterdir()
    for content in ("", "{}", '{"dim": 3, "unknown": 1}'):
        remembered.write_text(content)
        again = open_encoder(directory, device="cpu")
        assert again.loaded
        assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_facts_of_a_known_encoder_need_no_torch(
    device: str, directory: Path, tmp_path: Path
) -> None:
    known = open_encoder(directory, device=device)
    code = (
        "import sys; from cas_metric.encoders import open_encoder; "
        f"encoder = open_encoder({str(directory)!r}, device={device!r}); "
        f"print([getattr(encoder, name) for name in {ATTRIBUTES}]); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "memory")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == str([getattr(known, name) for name in ATTRIBUTES])
