"""Commands in processes of their own that need not import everything again.

A command takes five processor seconds to import torch, transformers and diffusers, which is most of
what a short step takes. On Linux without a GPU, commands are therefore forked from one process that
has imported them. A GPU's driver does not survive a fork, and other systems forbid or lack it:
there each command is started as one would type it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Imported once; none of them starts a thread or asks for a device when it is imported.
_PRELOADED: Final = (
    *("numpy", "pandas", "scipy.stats", "scipy.ndimage", "skimage.metrics", "matplotlib.figure"),
    *("torch", "transformers", "diffusers", "peft", "cas_metric.scoring.pipeline"),
)


def run(module: str, words: Sequence[str], output: Path) -> int:
    """Run the ``main`` of a module with a command line, its output appended to a file.

    Args:
        module: Of a console command, e.g. ``cas_metric.cli.main``.
        words: What follows the command's name.
        output: File to which both output streams go.

    Returns:
        The exit code; negative for a signal.
    """
    if not forks():
        command = [sys.executable, "-m", module, *words]
        with output.open("a", encoding="utf-8") as file:
            return subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    process = context.Process(target=_command, args=(module, list(words), str(output)))
    process.start()
    process.join()
    code = process.exitcode
    assert code is not None
    return code


def forks() -> bool:
    """Whether commands are forked here, and start in a second."""
    return sys.platform == "linux" and not Path("/dev/nvidiactl").exists()


def _command(module: str, words: list[str], output: str) -> None:
    """In the forked process: what ``python -m module`` does."""
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = [module, *words]
    importlib.import_module(module).main()
