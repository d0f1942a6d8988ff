"""A server that answers, a cache and a photo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.mllm_server import MllmServer, Say
from tests.support.questions import GOOD, KEY

from cas_metric.mllm import AnswerCache


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MllmServer]:
    with MllmServer(Say(GOOD)) as running:
        for name in ("CAS_MLLM_BASE_URL", "CAS_MLLM_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "cache")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "patient-1234.jpg"
    pixels = np.random.default_rng(3).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    Image.fromarray(pixels).save(path, exif=exif)
    return path
