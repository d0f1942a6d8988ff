"""Text as it comes out of files: decoded strictly, cells checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cas_metric.errors import InputError

#: Characters that no name, label or prompt needs: NUL, terminal controls, halves of surrogates.
UNWANTED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without its byte-order mark.

    Raises:
        InputError: The file cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        cause = error.strerror or error
        raise InputError(f"{path}: {cause}", fix="check the path and its permissions") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: the text is UTF-16", fix="save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8",
            fix="save the file as UTF-8",
        ) from error


def unwanted_character(text: str) -> str:
    """The first character of ``text`` that is refused, as an escape; empty if there is none."""
    found = UNWANTED.search(text)
    return f"\\x{ord(found[0]):02x}" if found else ""
