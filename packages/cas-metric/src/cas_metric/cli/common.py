"""What the verbs share: where results and progress go, and in which form."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def console_err() -> Console:
    """Console on stderr: progress and warnings. Results alone go to stdout."""
    return Console(stderr=True, highlight=False)


def console_out() -> Console:
    """Console on stdout: results for people."""
    return Console(highlight=False)


def emit_json(value: Any) -> None:
    """Write ``value`` to stdout as JSON: sorted keys, NaN and infinities as null."""
    json.dump(_finite(value), sys.stdout, indent=2, sort_keys=True, ensure_ascii=False)
    sys.stdout.write("\n")


def progress() -> Progress:
    """A progress bar with count, elapsed and remaining time, on stderr, gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console_err(),
        transient=True,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
