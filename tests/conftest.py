"""What the tests of both packages share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.support.warm import Warm


def pytest_collection_finish() -> None:
    """Let no later collection of garbage go through what thousands of modules have brought along.

    A collection takes half a second then, and a training asks for one after each stage.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that look for leaks at the end shall find none."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Starts processes that have imported both packages already."""
    process = Warm(tmp_path_factory.mktemp("warm"))
    yield process
    process.close()
