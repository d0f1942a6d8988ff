"""Steps of a reproduction: commands with a result, done once, in order, and only where missing.

A step is a command that a reader could type, and the file that is there when it has been run. The
scripts of all tables name the steps that they need; what two of them share is run once.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from cas_metric.errors import CasError

#: How a console command is run by this very Python.
_MODULES: Final = {"cas": "cas_metric.cli", "craft-trainer": "craft_trainer.cli.main"}


class Work(NamedTuple):
    """What a step costs, in units that do not hang on the machine.

    Attributes:
        forwards: Passes of one image through the UNet; a backward pass counts as two.
        embedded: Images through an encoder, if none is cached.
        fixed: Seconds that it takes on any machine: starting Python, bootstraps, drawing.
    """

    forwards: float = 0.0
    embedded: int = 0
    fixed: float = 0.0


NO_WORK: Final = Work()


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: Unique within a run directory, e.g. ``adapters/craft``.
        command: Words, beginning with ``cas`` or ``craft-trainer``.
        result: There when the step is done, and only then.
        needs: Steps that come first.
        work: What it costs.
        files: Files to write before it runs, by path.
    """

    name: str
    command: tuple[str, ...]
    result: Path
    needs: tuple[Step, ...] = ()
    work: Work = NO_WORK
    files: Mapping[Path, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return self.result.exists()

    @property
    def line(self) -> str:
        """The command as one types it."""
        return shlex.join(self.command)


def ordered(steps: Iterable[Step]) -> list[Step]:
    """All steps and what they need, each once, in an order in which they can be run."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.name in found:
            return
        for need in step.needs:
            visit(need)
        found[step.name] = step

    for step in steps:
        visit(step)
    return list(found.values())


def run(steps: Iterable[Step], log: Path) -> None:
    """Run what is not done yet; the output of each step is appended to ``log``.

    Raises:
        CasError: A command failed, or left no result.
    """
    waiting = [step for step in ordered(steps) if not step.done]
    log.parent.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(waiting, start=1):
        print(f"[{number}/{len(waiting)}] {step.name}", file=sys.stderr, flush=True)
        for path, text in step.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        started = time.perf_counter()
        _call(step, log)
        seconds = time.perf_counter() - started
        with log.open("a", encoding="utf-8") as file:
            file.write(f"# {step.name}: {seconds:.0f} s\n")


def times(log: Path) -> dict[str, int]:
    """Step to the seconds that it took, from a log that :func:`run` wrote."""
    if not log.is_file():
        return {}
    # Anchored: the output of a step may hold headings of its own.
    found = re.findall(r"^# (.+): (\d+) s$", log.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(seconds) for name, seconds in found}


def _call(step: Step, log: Path) -> None:
    program, *words = step.command
    argv = [sys.executable, "-m", _MODULES[program], *words]
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {step.line}\n")
        file.flush()
        code = subprocess.run(argv, stdout=file, stderr=file, check=False).returncode
    # 3: done, but some images failed. They are in the rows and in the report.
    if code not in (0, 3):
        raise CasError(
            f"{step.name} ended with exit code {code}: {step.line}",
            fix=f"the end of {log} says why; the same command then continues here",
        )
    if not step.done:
        raise CasError(f"{step.name} left no {step.result}", fix=f"see the end of {log}")
