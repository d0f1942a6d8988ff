"""How many of our files a command takes: those with a function that is called, and all executed.

A reader who follows a command meets the former; an import runs the latter. The command runs in
this process under ``sys.setprofile``; templates are counted apart.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
from typing import Final

from tests.support.walk import Trace, watching

#: Program to the module that runs it.
PROGRAMS: Final = {"cas": "cas_metric.cli.main", "craft-trainer": "craft_trainer.cli.main"}
PACKAGES: Final = ("cas_metric", "craft_trainer")


def run(words: list[str]) -> dict[str, Trace]:
    """Run a command line and hand back what of each package ran."""
    sys.argv = words
    traces = {name: Trace(name) for name in PACKAGES}
    with watching(*traces.values()), contextlib.suppress(SystemExit):
        runpy.run_module(PROGRAMS[words[0]], run_name="__main__", alter_sys=False)
    return traces


def main() -> None:
    """``python -m benchmarks.performance.files_read cas score GEN REAL``."""
    for name, trace in run(sys.argv[1:]).items():
        called = sorted(file for file in trace.called if file.endswith(".py"))
        for file in called:
            print(f"{name}/{file}", file=sys.stderr)
        templates = sum(not file.endswith(".py") for file in trace.files)
        print(
            f"{name}: functions called in {len(called)} files, "
            f"{len(trace.files) - templates} files executed, and {templates} templates"
        )


if __name__ == "__main__":
    main()
