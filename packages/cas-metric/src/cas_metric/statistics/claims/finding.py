"""Printed numbers with what rounding hides, and the verdict on a claim about them."""

from __future__ import annotations

import math
import re
from typing import Any, Final, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

VERDICTS: Final = ("holds", "rounding", "weak", "mismatch", "impossible")

#: A number as printed: an inequality, digits with or without thousands, a percent sign.
_NUMBER: Final = re.compile(
    r"(?P<relation>[<>≤≥]?)\s*(?P<number>[+-]?(\d{1,3}(,\d{3})+(\.\d*)?|\d+\.?\d*|\.\d+))\s*(?P<percent>%?)"
)
#: Slack for decimal fractions that binary floating point cannot hold.
_SLACK: Final = 1e-9


class Stated:
    """A number as printed: its value and how many decimals it was given with.

    Args:
        text: ``".417"``, ``"48.7"``, ``"-0.0111"``, ``"7,424"``, ``"<0.01"`` or ``"87.5%"`` (the
            number 87.5); a float keeps the decimals of its shortest form, so write numbers as text
            where trailing zeros matter.

    Raises:
        ValueError: If the text is no plain decimal number.
    """

    def __init__(self, text: str | float | Stated) -> None:
        self.text = str(text).strip().replace("−", "-")
        match = _NUMBER.fullmatch(self.text)
        if match is None:
            raise ValueError(f"{text!r} is not a plain decimal number")
        number = match["number"].replace(",", "")
        self.relation = match["relation"].replace("≤", "<").replace("≥", ">")
        self.value = float(number)
        self.decimals = len(number.partition(".")[2])
        self.percent = bool(match["percent"])

    @property
    def half_unit(self) -> float:
        """Largest rounding error of the printed number."""
        return 0.5 * 10.0**-self.decimals

    @property
    def low(self) -> float:
        """Smallest number that is printed like this."""
        if self.relation:
            return -math.inf if self.relation == "<" else self.value
        return self.value - self.half_unit

    @property
    def high(self) -> float:
        """Largest number that is printed like this."""
        if self.relation:
            return math.inf if self.relation == ">" else self.value
        return self.value + self.half_unit

    def as_share(self) -> Stated:
        """A percentage as the share that it is, rounded as it was; a share as it is."""
        if not self.percent:
            return self
        share = f"{self.value / 100:.{self.decimals + 2}f}"
        return Stated(f"{self.relation}{share}")

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
    if stated.low - _SLACK <= recomputed <= stated.high + _SLACK:
        return "holds"
    overlaps = low <= stated.high + _SLACK and high >= stated.low - _SLACK
    return "rounding" if overlaps else "mismatch"


def counts_for(stated: Stated, n: int, scale: float = 1.0, *, cut: bool = False) -> range:
    """Numbers k for which k / n is printed as ``stated``.

    The consistency test of Brown and Heathers (2017, "The GRIM test") for proportions.

    Args:
        stated: A share (``scale`` 1) or a percentage (``scale`` 100).
        n: The number of cases.
        scale: What a share of 1 is printed as.
        cut: The number was cut off after its last decimal rather than rounded.
    """
    low, high = (
        (stated.value, stated.value + 2 * stated.half_unit)
        if cut
        else (
            max(stated.low, 0.0),
            min(stated.high, scale),
        )
    )
    first = math.ceil(low / scale * n - _SLACK)
    last = math.floor(high / scale * n + (-_SLACK if cut else _SLACK))
    return range(max(first, 0), min(last, n) + 1)
