"""Text of raters in tables that a spreadsheet may open: none of it is run as a formula."""

from __future__ import annotations

import re
from typing import Final

#: What a spreadsheet takes for the start of a formula, also behind apostrophes that a rater typed:
#: these count as text to be guarded, so that taking one off again is exact.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")


def guarded(text: str) -> str:
    """Text with an apostrophe before it where a spreadsheet would run it.

    Examples:
        >>> [guarded(text) for text in ("=1+1", "'=1+1", "fine", "'fine'")]
        ["'=1+1", "''=1+1", 'fine', "'fine'"]
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """What :func:`guarded` was given.

    Examples:
        >>> [unguarded(text) for text in ("'=1+1", "''=1+1", "fine", "'fine'", "=1+1")]
        ['=1+1', "'=1+1", 'fine', "'fine'", '=1+1']
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
