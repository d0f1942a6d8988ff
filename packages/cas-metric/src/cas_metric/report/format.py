"""How numbers are written in a report."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from cas_metric.statistics import rounding
from cas_metric.statistics.rounding import MISSING, fixed, percent

__all__ = ["MISSING", "between", "count", "is_number", "number", "share"]


def number(value: Any, digits: int = 3) -> str:
    """A score with ``digits`` decimals and a true minus sign; a dash where there is none."""
    return fixed(value, digits) if is_number(value) else MISSING


def share(value: Any) -> str:
    """A share of one as a percentage with one decimal; a dash where there is none."""
    return percent(value) if is_number(value) else MISSING


def count(value: Any) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{int(value):,}".replace(",", "\u202f") if is_number(value) else MISSING


def between(bounds: Any, write: Any = number) -> str:
    """An interval as ``low–high``, "to" where an end is negative; empty where there is none."""
    if not bounds or not all(is_number(bound) for bound in bounds):
        return ""
    return rounding.between(bounds, write)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number (not None, NaN, a flag or text)."""
    return not isinstance(value, (bool, str)) and value is not None and math.isfinite(float(value))
