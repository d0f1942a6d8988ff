"""Cells as they come out of files: what no name, label or prompt needs."""

from __future__ import annotations

import re
from typing import Final

#: Characters that no name, label or prompt needs: NUL, terminal controls, halves of surrogates.
UNWANTED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def unwanted_character(text: str) -> str:
    """The first character of ``text`` that is refused, as an escape; empty if there is none."""
    found = UNWANTED.search(text)
    return f"\\x{ord(found[0]):02x}" if found else ""
