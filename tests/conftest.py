"""What holds for the whole suite."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Spare collections what imports left, which lives to the end: a training takes two of them."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter end as always: extensions count what they could not free."""
    gc.unfreeze()
