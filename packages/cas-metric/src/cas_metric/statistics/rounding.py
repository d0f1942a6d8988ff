"""Numbers in words, the same in every table, figure and report.

Halves are rounded away from zero in decimal, as a reader of the digits does: 0.8125 becomes 0.813,
where formatting of binary floats gives 0.812.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

#: What stands where there is no number.
MISSING: Final = "–"
MINUS: Final = "−"


def fixed(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A number at ``digits`` decimals with a true minus sign; an en dash where there is none.

    Examples:
        >>> fixed(-0.8125), fixed(float("nan"))
        ('−0.813', '–')
    """
    if not math.isfinite(value):
        return MISSING
    rounded = _round(Decimal(repr(float(value))), digits)
    text = f"{abs(rounded):f}"
    if rounded < 0:
        return MINUS + text
    return f"+{text}" if signed else text


def points(value: float, digits: int = 1) -> str:
    """A share in points, without a sign of percent; scaled in decimal, as :func:`percent` does.

    Examples:
        >>> points(0.0045), fixed(100 * 0.0045, 1)  # the product is 0.44999999999999996
        ('0.5', '0.4')
    """
    return fixed(float(Decimal(repr(float(value))) * 100), digits)


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage; one that is not 0 or 1 is never printed as 0% or 100%.

    Examples:
        >>> percent(0.996), percent(0.996, 0), percent(0.9999)
        ('99.6%', '> 99%', '> 99.9%')
    """
    if not math.isfinite(value):
        return MISSING
    rounded = _round(Decimal(repr(float(value))) * 100, digits)
    step = Decimal(1).scaleb(-digits)
    if abs(rounded) == 100 and abs(value) < 1:
        return f"> {100 - step}%" if value > 0 else f"< {MINUS}{100 - step}%"
    if rounded == 0 and value != 0:
        return f"< {step}%" if value > 0 else f"> {MINUS}{step}%"
    return f"{MINUS if rounded < 0 else ''}{abs(rounded):f}%"


def between(bounds: Sequence[float], write: Callable[[Any], str] = fixed) -> str:
    """An interval as ``low–high``, with "to" where an end is negative; empty without one.

    Examples:
        >>> between([0.1, 0.2]), between([-0.1, 0.2])
        ('0.100–0.200', '−0.100 to 0.200')
    """
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    texts = write(low), write(high)
    plain = all(text[:1].isdigit() for text in texts)
    return (MISSING if plain else " to ").join(texts)


def bracketed(bounds: Sequence[float], write: Callable[[Any], str] = fixed) -> str:
    """An interval as ``[low, high]`` for running text and Markdown; a dash without one."""
    if not all(math.isfinite(bound) for bound in bounds):
        return MISSING
    return f"[{write(bounds[0])}, {write(bounds[1])}]"


def _round(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
