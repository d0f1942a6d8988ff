"""How many of our files a command takes: those with a function that is called, and all executed.

A reader who follows a command meets the former; an import runs the latter. The command runs in
this process under ``sys.setprofile``; templates count as files that are executed.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
from typing import Final

from tests.support.walk import Trace, traced

#: Program to its package and the module that runs it.
PROGRAMS: Final = {
    "cas": ("cas_metric", "cas_metric.cli.main"),
    "craft-trainer": ("craft_trainer", "craft_trainer.cli.main"),
}


def run(words: list[str]) -> Trace:
    """Run a command line and hand back what of its package ran."""
    package, module = PROGRAMS[words[0]]
    sys.argv = words
    with traced(package) as trace, contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    return trace


def main() -> None:
    """``python -m benchmarks.performance.files_read cas score GEN REAL``."""
    trace = run(sys.argv[1:])
    called = sorted(trace.called)
    for file in called:
        print(file, file=sys.stderr)
    templates = sum(not file.endswith(".py") for file in trace.files)
    print(
        f"functions called in {sum(file.endswith('.py') for file in called)} files, "
        f"{len(trace.files) - templates} files executed, and {templates} templates"
    )


if __name__ == "__main__":
    main()
