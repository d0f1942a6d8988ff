"""Processes that may be killed, without the seconds that imports take.

One process imports both packages and nothing more. Each piece of code then runs in a child that
is forked from it: with arguments, environment, folder and output of its own, and to its own end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

Ended = subprocess.CompletedProcess[str]

_SERVER = """
import importlib, json, os, signal, sys, traceback
import diffusers, peft, transformers
import cas_metric.cli.main
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import AutoModel, AutoTokenizer, CLIPTextModel
from craft_trainer.training import trainer

def child(job):
    signal.alarm(900)  # ranks that wait for each other shall end, not the whole suite hang
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(job[name], flags), number)
    added = job["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in added if path and path not in sys.path]
    importlib.invalidate_caches()
    sys.argv = ["-c", *job["arguments"]]
    try:
        exec(job["code"], {"__name__": "__main__"})
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    started = []
    for job in json.loads(line):
        started.append(os.fork())
        if not started[-1]:
            code = child(job)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]
    print(json.dumps(ended), flush=True)
"""

_KILLED = """
import os, signal, sys
from craft_trainer.config.schema import load_config
from craft_trainer.training.trainer import train_stages

def progress(what, done, total):
    if what.endswith("steps") and done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

train_stages(load_config(sys.argv[1]), progress=progress, cache="none")
"""


class Warm:
    """The process that has imported everything.

    Args:
        folder: For what the children print.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-W", "ignore", "-c", _SERVER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen(command, text=True, **pipes)

    def run(
        self,
        code: str,
        *arguments: object,
        env: Mapping[str, str] = os.environ,
        cwd: Path | None = None,
    ) -> Ended:
        """What ``python -c code arguments`` would do; its exit code is negative where it died."""
        (ended,) = self.together(code, *arguments, envs=[env], cwd=cwd)
        return ended

    def together(
        self,
        code: str,
        *arguments: object,
        envs: Sequence[Mapping[str, str]],
        cwd: Path | None = None,
    ) -> list[Ended]:
        """As :meth:`run`, in several processes at once: one for each environment."""
        jobs = [
            {
                "code": code,
                "arguments": list(map(str, arguments)),
                "env": dict(env),
                "cwd": str(cwd or Path.cwd()),
                "stdin": os.devnull,
                "stdout": str(self.folder / f"stdout-{number}"),
                "stderr": str(self.folder / f"stderr-{number}"),
            }
            for number, env in enumerate(envs)
        ]
        for path in self.folder.iterdir():
            path.unlink()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(jobs) + "\n")
        self._server.stdin.flush()
        return [
            Ended(code, status, Path(job["stdout"]).read_text(), Path(job["stderr"]).read_text())
            for status, job in zip(json.loads(self._server.stdout.readline()), jobs, strict=True)
        ]

    def killed(self, configuration: Path, step: int) -> None:
        """Train, and die without a word when a step is done."""
        ended = self.run(_KILLED, configuration, step)
        assert ended.returncode == -signal.SIGKILL, ended.stderr

    def close(self) -> None:
        """End it, at once: there is nothing to save."""
        self._server.kill()
        self._server.wait()
