"""How a verb hands over what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cas_metric.cli.common import emit_json


def deliver(result: Any, text: str, *, out: Path | None, name: str, as_json: bool) -> None:
    """Print a result and, where a directory is given, write ``name``.json and ``name``.md into it.

    Args:
        result: Plain values.
        text: The same for people, as Markdown.
        out: Directory for the files, or None.
        name: Their name without the ending.
        as_json: Print JSON rather than text.
    """
    if out is not None:
        from cas_metric.files import to_json, write_bytes

        write_bytes(out / f"{name}.json", to_json(result).encode())
        write_bytes(out / f"{name}.md", text.encode())
    if as_json:
        emit_json(result)
    else:
        typer.echo(text)
