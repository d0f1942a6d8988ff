"""Steps of a reproduction: commands with a result, done once, in order, and only where missing.

A step is a command that a reader could type, and the file that is there when it has been run. The
scripts of all tables name the steps that they need; what two of them share is run once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.paper import processes

from cas_metric.errors import CasError

#: How a console command is run by this very Python.
_MODULES: Final = {"cas": "cas_metric.cli.main", "craft-trainer": "craft_trainer.cli.main"}
#: How the output of a step begins.
_MADE_BY: Final = "$ "


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


@dataclass(frozen=True, eq=False)
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


@contextmanager
def as_command() -> Iterator[None]:
    """One thread unless told otherwise; an error of the project ends the script in words."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    except CasError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def ordered(steps: Iterable[Step]) -> list[Step]:
    """All steps and what they need, each once, in an order in which they can be run."""
    found: dict[Path, Step] = {}

    def visit(step: Step) -> None:
        if step.result in found:
            return
        for need in step.needs:
            visit(need)
        found[step.result] = step

    for step in steps:
        visit(step)
    return list(found.values())


def state(step: Step, log: Path) -> str:
    """``to do``, ``done``, or ``made otherwise``: done by a command or settings unlike today's."""
    if not step.done:
        return "to do"
    return "made otherwise" if _made_otherwise(step, log) else "done"


def run(steps: Iterable[Step], log: Path) -> None:
    """Run what is not done yet, one after the other; see :func:`run_all`."""
    run_all([(steps, log)])


def run_all(graphs: Iterable[tuple[Iterable[Step], Path]], jobs: int = 1) -> None:
    """Run what is not done yet in several run directories, ``jobs`` commands at once.

    Each log names the commands of its steps and their seconds; what a command prints is in a file
    of its own in ``logs`` beside it, after the command. With several jobs the cores are shared out
    among them, unless ``OMP_NUM_THREADS`` says otherwise. After a failure nothing new is started.

    Args:
        graphs: Steps with the log of their run directory. A step waits for what it needs.
        jobs: Commands at once.

    Raises:
        CasError: A command failed, or left no result; or a result of the run directory was made
            with other options, and would stand for one that was not made.
    """
    graphs = [(ordered(steps), log) for steps, log in graphs]
    for steps, log in graphs:
        for step in steps:
            if step.done and _made_otherwise(step, log):
                raise CasError(
                    f"{step.result} was made with other options; today's are: {step.line}",
                    fix="choose another run directory, or remove that result and what came of it",
                )
    logs = {step: log for steps, log in graphs for step in steps if not step.done}
    unfinished = {step.result for step in logs}
    waiting, number = list(logs), 0
    if jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    running: dict[Future[float], Step] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [s for s in waiting if not any(need.result in unfinished for need in s.needs)]
            for step in ready[: jobs - len(running)]:
                waiting.remove(step)
                number += 1
                print(f"[{number}/{len(logs)}] {step.name}", file=sys.stderr, flush=True)
                running[pool.submit(_timed, step, logs[step])] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                seconds = future.result()
                unfinished.discard(step.result)
                _append(logs[step], f"# {step.name}: {seconds:.0f} s")


def times(log: Path) -> dict[str, int]:
    """Step to the seconds that it took, from a log that :func:`run` wrote."""
    if not log.is_file():
        return {}
    found = re.findall(r"^# (.+): (\d+) s$", log.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(seconds) for name, seconds in found}


def _timed(step: Step, log: Path) -> float:
    """Run one command; its seconds."""
    output = _output_of(step, log)
    output.parent.mkdir(parents=True, exist_ok=True)
    for path, text in step.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _append(log, f"$ {step.line}")
    program, *words = step.command
    output.write_text(_made_by(step, log), encoding="utf-8")
    started = time.perf_counter()
    code = processes.run(_MODULES[program], words, output)
    # 3: done, but some images failed. They are in the rows and in the report.
    if code not in (0, 3):
        raise CasError(
            f"{step.name} ended with exit code {code}: {step.line}",
            fix=f"the end of {output} says why; the same command then continues here",
        )
    if not step.done:
        raise CasError(f"{step.name} left no {step.result}", fix=f"see the end of {output}")
    return time.perf_counter() - started


def _output_of(step: Step, log: Path) -> Path:
    return log.parent / "logs" / f"{re.sub(r'[^a-z0-9_.-]+', '-', step.name)}.log"


def _made_otherwise(step: Step, log: Path) -> bool:
    """Whether a step that is done was run with another command or other settings."""
    output = _output_of(step, log)
    if not output.is_file():
        return False
    with output.open(encoding="utf-8") as file:
        first = file.readline()
    return first.startswith(_MADE_BY) and first != _made_by(step, log)


def _made_by(step: Step, log: Path) -> str:
    """First line of a step's output: its command, and a digest of the files it takes settings from.

    The run directory is called RUN in both, so that it may be moved.
    """
    texts = [step.line, *step.files.values()]
    line, *settings = (text.replace(str(log.parent), "RUN") for text in texts)
    digest = hashlib.sha256("".join(settings).encode()).hexdigest()[:12]
    return f"{_MADE_BY}{line}{f' # settings {digest}' if settings else ''}\n"


def _append(log: Path, line: str) -> None:
    # One short write: steps of one run directory may end at the same time.
    with log.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
