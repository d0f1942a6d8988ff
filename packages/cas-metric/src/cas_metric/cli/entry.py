"""A command line: verbs that are imported on use, and how it ends.

``--help`` must not wait for torch; an error is one message with a fix and an exit code.
"""

from __future__ import annotations

import atexit
import difflib
import errno
import importlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from cas_metric.discovery import first_line, named_modules
from cas_metric.errors import CasError, InputError, RankStopped

#: What writing to a standard output raises that is full, or that nobody reads any more.
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


def verbs_in(package: str, program: str, order: Sequence[str] = ()) -> dict[str, tuple[str, str]]:
    """Verbs that the modules of an imported package define, told by their first lines alone.

    Args:
        package: E.g. ``cas_metric.cli``.
        program: Name of the command, which the first line of a verb's module begins with.
        order: Verbs that come first; others follow by name.

    Returns:
        Verb to its module and its one-line help.
    """
    folder = Path(str(importlib.import_module(package).__file__)).parent
    found = {
        module: (f"{package}.{module}", _sentence(line))
        for name, (module, line) in named_modules(folder).items()
        if name == f"{program} {module}"
    }
    first = [verb for verb in order if verb in found]
    return {verb: found[verb] for verb in (*first, *(v for v in found if v not in first))}


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}"


class LazyGroup(TyperGroup):
    """A group whose help needs no import of its verbs."""

    #: Verb to its module, which defines ``app``, and its one-line help, in the order of the help.
    verbs: ClassVar[Mapping[str, tuple[str, str]]] = {}
    #: Group of the entry points by which other packages bring verbs; empty for none.
    entry_points: ClassVar[str] = ""

    #: Whether the help is being written, for which a verb's name and line are enough.
    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the table of verbs."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the names of verbs, also without importing any."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is meant; of a name that is none, the nearest is named."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            ctx.fail(f"No such command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of a user's work, and then those of other packages."""
        return [*self.verbs, *self._installed()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a verb and hand out its command."""
        if cmd_name in self.verbs:
            module, line = self.verbs[cmd_name]
            return self._command(cmd_name, line, lambda: importlib.import_module(module))
        if point := self._installed().get(cmd_name):
            return self._command(cmd_name, _line_of(point), lambda: _load(point))
        return None

    def _command(self, name: str, line: str, load: Any) -> Any:
        if self._listing:
            return TyperCommand(name, help=line)
        command = typer.main.get_command(load().app)
        command.name = name
        _refuse_empty_paths(command)
        return command

    def _installed(self) -> dict[str, EntryPoint]:
        """Verbs of other packages, by name; none takes the place of one of ours."""
        from importlib.metadata import entry_points

        if not self.entry_points:
            return {}
        found = {point.name: point for point in entry_points(group=self.entry_points)}
        return {name: found[name] for name in sorted(found) if name not in self.verbs}


def _refuse_empty_paths(command: Any) -> None:
    """Have every path of a command refuse "", which would be the current directory.

    It is what an unset variable of a shell leaves, and nobody has named that folder.
    """
    for below in getattr(command, "commands", {}).values():
        _refuse_empty_paths(below)
    called = inspect.unwrap(command.callback) if command.callback is not None else None
    kinds = get_type_hints(called) if called is not None else {}
    for one in command.params:
        if _is_path(kinds.get(one.name)):
            one.process_value = partial(_named, one, one.process_value)


def _is_path(kind: Any) -> bool:
    """Whether an annotation is that of a path, of several or of none."""
    return kind is Path or any(map(_is_path, get_args(kind)))


def _named(param: Any, process: Callable[..., Any], ctx: Any, value: Any) -> Any:
    """What the command gets for the words of a path.

    Raises:
        InputError: One is "".
    """
    if "" in (value if isinstance(value, list | tuple) else [value]):
        is_option = param.opts[-1].startswith("-")
        raise InputError(
            f"{param.opts[-1] if is_option else param.metavar or param.name.upper()} is empty",
            fix="name a path; is a variable of the shell not set?",
        )
    return process(ctx, value)


def _load(point: EntryPoint) -> Any:
    """The module that an entry point names.

    Raises:
        InputError: It cannot be imported.
    """
    try:
        return importlib.import_module(point.module)
    except ImportError as error:
        package = point.dist.name if point.dist else point.module
        raise InputError(
            f"the verb {point.name!r} of the package {package} cannot be imported: {error}",
            fix=f"install {package} again, or remove it",
        ) from error


def _line_of(point: EntryPoint) -> str:
    """The one-line help of another package's verb, without importing it."""
    if point.dist is None:
        return point.module
    path = Path(str(point.dist.locate_file(point.module.replace(".", "/") + ".py")))
    return _sentence(first_line(path)[1]) or f"From the package {point.dist.name}."


def run(app: Callable[[], object], program: str) -> None:
    """Run a command line; never returns where it failed.

    Args:
        app: The :class:`typer.Typer`.
        program: Its name, which messages begin with.

    Raises:
        SystemExit: With the exit code of the error.
    """
    _in_utf8()
    # Only one tokenizer call is in flight at a time here, and forked decoding workers would warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A shell's `>&-` leaves none, which nothing that prints expects.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        _told(app, program)
    except SystemExit as ended:
        _leave_group(ended.code)
        raise


def _in_utf8() -> None:
    """Start again in Python's UTF-8 mode, where the locale gives names of files another encoding.

    They, and tables, prompts and reports, are UTF-8 whatever LC_ALL says; by it, an accent is a
    character that can neither be printed nor saved. Python sees to it in the C locale alone, and
    only if no variable tells it otherwise.
    """
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that it starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):  # PYTHONIOENCODING, and the code pages of Windows
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="backslashreplace")


def _told(app: Callable[[], object], program: str) -> None:
    """Run it; what fails becomes a message and an exit code."""
    try:
        _require_names(sys.argv[1:])
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


def _require_names(words: Sequence[str]) -> None:
    """Refuse an empty folder: a path of "" is the current directory, which nobody has named.

    Raises:
        InputError: An unset variable of a shell stands after ``--out`` or ``--cache``.
    """
    for option in ("--out", "--cache"):
        if f"{option}=" in words or (option, "") in pairwise(words):
            raise InputError(
                f"{option} is empty", fix="name a folder; is a variable of the shell not set?"
            )


def _leave_group(code: object) -> None:
    """End a rank of several at once, after its exit handlers.

    The threads of a process group can outlive it, and one that still runs while the interpreter
    is taken down aborts the process: its exit code would be that of a crash.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _help_of(program: str) -> str:
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return f"`{program} {verb} --help`" if verb else f"`{program} --help`"


def _leave_stdout() -> None:
    """Let Python's own flush at the end go nowhere, so that it cannot fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no file behind it
        return
