"""Keeping a key out of everything that is read, shown or written.

A server may send the key back: in an error, in a header that it quotes, in what a model says. JSON,
HTML and URLs have ways of their own to write a character, and each is undone somewhere on the way
to a file; so the key is looked for in all of them, at any depth of escaping, and in base64 and hex.
"""

from __future__ import annotations

import base64
import html
import re
from typing import Any, Final

HIDDEN: Final = "***"
#: Shorter keys ("EMPTY", as local servers want it) are no secret, and their text occurs by chance.
SECRET_LENGTH: Final = 8


class Secret:
    r"""A key, which ``repr`` does not show.

    Args:
        key: Printable ASCII; may be empty.

    Examples:
        >>> Secret("sk-secret/1").hide('{"said": "\u0073k-secret\/1"}')
        '{"said": "***"}'
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._forms = _forms(key) if len(key) >= SECRET_LENGTH else None

    def __repr__(self) -> str:
        return HIDDEN if self.key else "''"

    def hide(self, text: str) -> str:
        """``text`` with :data:`HIDDEN` in place of the key, however it is written."""
        return self._forms.sub(HIDDEN, text) if self._forms else text

    def hide_all(self, value: Any) -> Any:
        """The same in every text of plain values, keys of objects included."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, list):
            return [self.hide_all(item) for item in value]
        if isinstance(value, dict):
            return {self.hide(str(name)): self.hide_all(item) for name, item in value.items()}
        return value


def _forms(key: str) -> re.Pattern[str]:
    """All ways to write a key."""
    encoded = [_written(form) for form in (key, key[::-1])]
    encoded += [re.escape(part) for part in (*_base64(key), key.encode().hex())]
    return re.compile("|".join(encoded), re.IGNORECASE)


def _written(key: str) -> str:
    """Each character as itself or escaped for JSON, Python, a URL or HTML.

    Depth of escaping is bounded, so that no text takes long to search.
    """
    return "".join(
        rf"(?:\\{{0,8}}{re.escape(c)}|\\{{1,8}}(?:u00|u\{{0{{0,4}}|x){ord(c):02x}\}}?"
        rf"|%(?:25){{0,4}}{ord(c):02x}|&(?:amp;){{0,4}}#(?:0{{0,5}}{ord(c)}|x0{{0,5}}{ord(c):x});?"
        rf"|{re.escape(html.escape(c))})"
        for c in key
    )


def _base64(key: str) -> list[str]:
    """What base64 makes of the key inside of a longer text, at each of its three alignments."""
    found = []
    for offset in range(3):
        code = base64.b64encode(b"\0" * offset + key.encode()).decode().rstrip("=")
        # The first and the last characters also hold bits of what stands around the key.
        core = code[(offset * 8 + 5) // 6 : (offset + len(key)) * 8 // 6]
        found += [core, core.replace("+", "-").replace("/", "_")]
    return found
