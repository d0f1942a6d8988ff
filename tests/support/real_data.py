"""Real images and tables that the project may read and never holds: present for some, not for all.

``CAS_REAL_DATA`` and ``CAS_SHARED_CASES`` name the folders; without them ``../shared/data`` and
``../shared/cases`` beside the checkout are looked at. A test that needs one is skipped elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared"


def real_data(name: str) -> Path:
    """Folder of a real data set, such as ``isic2017``; skips the test where there is none."""
    return _folder("CAS_REAL_DATA", "data") / _checked("CAS_REAL_DATA", "data", name)


def shared_cases(name: str = "") -> Path:
    """The folder of odd inputs, or one file of it; skips the test where there is none."""
    return _folder("CAS_SHARED_CASES", "cases") / _checked("CAS_SHARED_CASES", "cases", name)


def _folder(variable: str, beside: str) -> Path:
    return Path(os.environ.get(variable) or _BESIDE / beside)


def _checked(variable: str, beside: str, name: str) -> str:
    if not (_folder(variable, beside) / name).exists():
        pytest.skip(f"no {name or beside} here: {variable} names no folder that holds it")
    return name
