"""One exception family. A message names the file or value, the cause and the fix.

The command line turns every :class:`CasError` into one readable message and the exit code of
its class; a traceback reaching a user is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class CasError(Exception):
    """Base of every error that a user can act upon.

    Args:
        problem: What is wrong, naming the file, column or value.
        fix: What to do about it, in the imperative; empty where the problem says it.

    Examples:
        >>> print(CasError("a.png is empty", fix="draw it again"))
        a.png is empty
          fix: draw it again
    """

    exit_code: int = 2

    def __init__(self, problem: str, *, fix: str = "") -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(f"{problem}\n  fix: {fix}" if fix else problem)


class InputError(CasError):
    """A file, table, option or value that cannot be used as it is. Exit code 2."""


class PreflightError(InputError):
    """All problems that were found before any model was loaded, in one list. Exit code 2.

    Args:
        problems: One line each, in the order in which they were found.
        fix: What to do about them.
        shown: How many of them the message spells out.
    """

    def __init__(self, problems: Sequence[str], *, fix: str = "", shown: int = 20) -> None:
        self.problems = tuple(problems)
        lines = [f"  - {line}" for line in self.problems[:shown]]
        if len(self.problems) > shown:
            lines.append(f"  … and {len(self.problems) - shown} more")
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} found before the start:"
        super().__init__("\n".join([head, *lines]), fix=fix)


class ImageError(CasError):
    """One image that cannot be read faithfully. Becomes a row with ``status=failed``."""


class TooManyFailures(CasError):
    """More images failed than ``--max-failures`` allows. Exit code 2."""


class MissingDependency(CasError):
    """An optional package that the request needs. Exit code 2.

    Args:
        package: The distribution that is not installed.
        extra: The extra of cas-metric that brings it, if one does.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, *, extra: str = "", purpose: str = "") -> None:
        what = f"cas-metric[{extra}]" if extra else package
        reason = f" (needed for {purpose})" if purpose else ""
        super().__init__(
            f"the package {package!r} is not installed{reason}",
            fix=f"pip install '{what}'",
        )


class ModelUnavailable(CasError):
    """A model, or a file of one, that cannot be had here. Exit code 4."""

    exit_code = 4


class RankStopped(CasError):
    """A rank that ends because rank 0 met an error, which that one tells.

    Args:
        code: Exit code of that error.
    """

    def __init__(self, code: int) -> None:
        super().__init__("rank 0 stopped; its message says why")
        self.exit_code = code


class PartsDone(RankStopped):
    """Parts that were asked for are scored, and there is no run yet.

    Args:
        summary: What was done, plain values; among it ``failures``.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__(EXIT_SOME_FAILED if summary["failures"] else 0)
        self.summary = summary


#: Exit code of a run that finished while some images failed.
EXIT_SOME_FAILED = 3
