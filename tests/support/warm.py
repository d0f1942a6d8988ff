"""Processes that may be killed, without the seconds that imports take.

One process imports the trainer and does nothing else. Each piece of code then runs in a child that
is forked from it: with arguments, environment, folder and output of its own, and to its own end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

_SERVER = """
import importlib, json, os, sys, traceback
import diffusers, peft, transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import AutoModel, AutoTokenizer, CLIPTextModel
from craft_trainer.training import trainer

def child(job):
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
    pid = os.fork()
    if not pid:
        code = child(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
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
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """What ``python -c code arguments`` would do; its exit code is negative where it died."""
        out, errors = self.folder / "stdout", self.folder / "stderr"
        out.unlink(missing_ok=True)
        errors.unlink(missing_ok=True)
        job = {
            "code": code,
            "arguments": list(map(str, arguments)),
            "env": dict(os.environ) if env is None else env,
            "cwd": str(cwd or Path.cwd()),
            **{"stdin": os.devnull, "stdout": str(out), "stderr": str(errors)},
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(code, status, out.read_text(), errors.read_text())

    def killed(self, configuration: Path, step: int) -> None:
        """Train, and die without a word when a step is done."""
        ended = self.run(_KILLED, configuration, step)
        assert ended.returncode == -signal.SIGKILL, ended.stderr

    def close(self) -> None:
        """End it, at once: there is nothing to save."""
        self._server.kill()
        self._server.wait()
