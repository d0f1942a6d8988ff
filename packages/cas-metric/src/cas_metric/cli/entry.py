"""How a command line ends: an error is one message with a fix and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Final

import typer

from cas_metric.errors import CasError, RankStopped

#: What writing to a standard output raises that is full, or that nobody reads any more.
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


def run(app: Callable[[], object], program: str) -> None:
    """Run a command line; never returns where it failed.

    Args:
        app: The :class:`typer.Typer`.
        program: Its name, which messages begin with.

    Raises:
        SystemExit: With the exit code of the error.
    """
    # Only one tokenizer call is in flight at a time here, and forked decoding workers would warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what is still buffered may not fit either
    except RankStopped as stopped:  # rank 0 speaks for all
        sys.exit(stopped.exit_code)
    except CasError as error:
        fix = "" if error.fix else f"\n  fix: {_help_of(program)} says what is expected"
        typer.echo(f"{program}: {error}{fix}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        _leave_stdout()
        if error.errno == errno.EPIPE:  # `| head` has read enough
            sys.exit(1)
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        typer.echo(
            f"{program}: the results cannot be written to standard output: {error.strerror}\n"
            "  fix: free space where it is redirected to, or write files with --out",
            err=True,
        )
        sys.exit(CasError.exit_code)


def _help_of(program: str) -> str:
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return f"`{program} {verb} --help`" if verb else f"`{program} --help`"


def _leave_stdout() -> None:
    """Let Python's own flush at the end go nowhere, so that it cannot fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no file behind it
        return
