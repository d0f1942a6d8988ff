"""Printed numbers with what rounding hides, and the verdict on a claim about them."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

VERDICTS: Final = ("holds", "rounding", "weak", "mismatch", "impossible")

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
#: Slack for decimal fractions that binary floating point cannot hold.
_SLACK: Final = 1e-9


class Stated:
    """A number as printed: its value and how many decimals it was given with.

    Args:
        text: ``".417"``, ``"48.7"``, ``"-0.0111"``; a float keeps the decimals of its shortest
            form, so write numbers as text where trailing zeros matter.

    Raises:
        ValueError: If the text is no plain decimal number.
    """

    def __init__(self, text: str | float) -> None:
        self.text = str(text).strip().replace("−", "-")
        if not _NUMBER.fullmatch(self.text):
            raise ValueError(f"{text!r} is not a plain decimal number")
        self.value = float(self.text)
        self.decimals = len(self.text.partition(".")[2])

    @property
    def half_unit(self) -> float:
        """Largest rounding error of the printed number."""
        return 0.5 * 10.0**-self.decimals

    @property
    def low(self) -> float:
        """Smallest number that is printed like this."""
        return self.value - self.half_unit

    @property
    def high(self) -> float:
        """Largest number that is printed like this."""
        return self.value + self.half_unit

    def __repr__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": _NUMBER.pattern}, {"type": "number"}]}


class Finding(NamedTuple):
    """One thing that was recomputed.

    Attributes:
        table: Where it is printed.
        item: Which of its numbers.
        check: What was recomputed.
        verdict: One of :data:`VERDICTS`.
        stated: As printed.
        recomputed: What came out.
        note: Why it matters, where the verdict does not say it.
    """

    table: str
    item: str
    check: str
    verdict: str
    stated: str
    recomputed: str
    note: str = ""


def judge(stated: Stated, recomputed: float, low: float, high: float) -> str:
    """``holds``, ``rounding`` or ``mismatch``.

    Args:
        stated: The printed result.
        recomputed: Result from the printed inputs.
        low: Smallest result that the rounding of the inputs allows.
        high: Largest one.
    """
    if abs(recomputed - stated.value) <= stated.half_unit + _SLACK:
        return "holds"
    overlaps = low <= stated.high + _SLACK and high >= stated.low - _SLACK
    return "rounding" if overlaps else "mismatch"


def counts_for(stated: Stated, n: int, scale: float = 1.0) -> range:
    """Numbers k for which k / n is printed as ``stated``.

    The consistency test of Brown and Heathers (2017, "The GRIM test") for proportions.

    Args:
        stated: A share (``scale`` 1) or a percentage (``scale`` 100).
        n: The number of cases.
        scale: What a share of 1 is printed as.
    """
    first = -int(-(stated.low / scale * n - _SLACK) // 1)
    last = int((stated.high / scale * n + _SLACK) // 1)
    return range(max(first, 0), min(last, n) + 1)
