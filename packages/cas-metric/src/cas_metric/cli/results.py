"""How a verb hands over what it found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cas_metric.cli.common import console_err, emit_json
from cas_metric.errors import EXIT_SOME_FAILED, CasError

if TYPE_CHECKING:
    from cas_metric.verbs.result import Result


def finish(result: Result, out: Path | None, *, as_json: bool) -> None:
    """Save a result, print it, and exit with 3 where images failed.

    A result that has a folder of its own is always saved, and says where; others are saved where a
    directory is given.

    Args:
        result: Of a verb.
        out: Directory for the files, or None.
        as_json: Print the summary as JSON rather than the text.
    """
    from cas_metric.verbs.result import FolderResult

    kept = result if isinstance(result, FolderResult) else None
    folder = out or (kept.folder if kept else None)
    if folder is not None:
        _save(result, folder, as_json)
    for warning in result.warnings:
        console_err().print(f"warning: {warning}", soft_wrap=True)
    if as_json:
        emit_json({**result.summary, "run": str(folder)} if kept else result.summary)
    else:
        typer.echo(result.text)
        if kept and kept.closing:
            typer.echo(kept.closing.replace("{folder}", str(folder)))
    for note in result.notes:
        console_err().print(note, soft_wrap=True)
    if result.failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def _save(result: Result, folder: Path, as_json: bool) -> None:
    """Save a result; one whose place cannot be had is shown, lest the work be lost."""
    try:
        result.save(folder)
    except CasError:
        emit_json(result.summary) if as_json else typer.echo(result.text)
        raise


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
