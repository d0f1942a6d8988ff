"""What ``--keep`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cas_metric.errors import InputError

#: Kinds of a rule, as they are written: ``alpha:0.1``.
KINDS: Final = ("alpha", "top", "risk")


@dataclass(frozen=True)
class Keep:
    """How images are chosen; what is None does not count.

    Attributes:
        alpha: Refuse those less aligned than all but this share of real images of their class.
        top: Keep this share of each method's images of each class.
        risk: Keep so that at most this share of all images is kept and bad; needs labelled images.
    """

    alpha: float | None = None
    top: float | None = None
    risk: float | None = None


def parse_keep(rules: Sequence[str]) -> Keep:
    """Read ``alpha:0.1``, ``top:0.5`` and ``risk:0.05``; all that are given must be met.

    Raises:
        InputError: Another word, no share, or a rule given twice.

    Examples:
        >>> parse_keep(["alpha:0.1", "top:0.5"])
        Keep(alpha=0.1, top=0.5, risk=None)
    """
    found: dict[str, float] = {}
    for rule in rules:
        kind, _, text = rule.partition(":")
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if kind not in KINDS or not 0 < share <= 1 or (share == 1 and kind != "top"):
            raise InputError(
                f"--keep {rule!r} is no rule",
                fix="write alpha:0.1, top:0.5 or risk:0.05",
            )
        if kind in found:
            raise InputError(f"--keep gives {kind} twice", fix="give it once")
        found[kind] = share
    return Keep(**found)
