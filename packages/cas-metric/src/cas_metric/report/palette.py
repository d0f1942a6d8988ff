"""Colours that stay apart for colour-blind readers, on paper and on both screen themes.

The hues are those of Okabe and Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/.
On white, their light members fall below the 3:1 contrast that WCAG 2.2 asks of graphics, so the
light theme uses darker shades of the same hues, and the dark theme lighter ones. Dash patterns
repeat the distinction without colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Ink:
    """How one method is drawn: colour on light and on dark ground, dash pattern, marker."""

    light: str
    dark: str
    dash: tuple[float, ...]
    marker: str


INKS: Final = (
    Ink("#0072b2", "#56b4e9", (), "o"),
    Ink("#c44f00", "#f4894a", (6.0, 2.5), "s"),
    Ink("#00805d", "#2cc49a", (2.0, 2.0), "^"),
    Ink("#a8477f", "#e79ac6", (8.0, 2.0, 2.0, 2.0), "D"),
    Ink("#946200", "#f0b43c", (4.0, 4.0), "v"),
    Ink("#1f1f1f", "#f2f2f2", (1.0, 1.5), "P"),
    Ink("#5b5f00", "#e6dc4a", (10.0, 3.0), "X"),
)

#: Real images, and the floor, are references rather than methods: grey, solid and dashed.
REAL: Final = Ink("#6b7280", "#9aa4b2", (), "o")
FLOOR: Final = Ink("#6b7280", "#9aa4b2", (3.0, 3.0), "o")


def ink(index: int) -> Ink:
    """The ink of the method at ``index``; hues repeat after seven."""
    return INKS[index % len(INKS)]
