"""What the tests of scoring share: a tiny encoder and a small data set, built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clinical_crops import Folders, write_folders
from tests.support.tiny_models import build_siglip

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder, load_encoder


@pytest.fixture(scope="session")
def siglip_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_siglip(tmp_path_factory.mktemp("siglip") / "tiny-siglip")


@pytest.fixture(scope="session")
def siglip(siglip_directory: Path) -> Encoder:
    return load_encoder(siglip_directory, device="cpu")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Never to be written to: take :func:`write_folders` for a set of one's own."""
    return write_folders(tmp_path_factory.mktemp("crops") / "data")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[EmbeddingCache]:
    with EmbeddingCache(tmp_path / "cache") as store:
        yield store
