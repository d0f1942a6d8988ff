"""Reports for people: one HTML file a run, and figures for publication."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cas_metric.report.document import write_report
    from cas_metric.report.leakage import write_leakage_report
    from cas_metric.report.memorization import write_memorization_report

__all__ = ["write_leakage_report", "write_memorization_report", "write_report"]

#: Name to the module that defines it: a figure needs none of the reports.
_HOMES: Final = {
    "write_leakage_report": "leakage",
    "write_memorization_report": "memorization",
    "write_report": "document",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
