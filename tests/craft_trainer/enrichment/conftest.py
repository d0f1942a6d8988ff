"""A server that describes images well, and images to describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.enriching import KEY, describe, make_train
from tests.support.mllm_server import MllmServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MllmServer]:
    with MllmServer(describe) as running:
        monkeypatch.setenv("CAS_MLLM_BASE_URL", running.url)
        monkeypatch.setenv("CAS_MLLM_API_KEY", KEY)
        monkeypatch.setattr("cas_metric.mllm.answering.backoff", lambda *_: 0.001)
        yield running


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return make_train(tmp_path / "train", 8)
