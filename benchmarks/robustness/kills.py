"""Kill ``cas score`` at random points, run the same command again, and compare every byte.

``python -m benchmarks.robustness.kills [--kills 1000] [--ranks 1] [--seed 0]``

A small phantom world is scored over and over. Each attempt is ended by SIGKILL at a time drawn
uniformly over the length of a whole run and a little more; the same command is then given until it
finishes. What it leaves must be the bytes of an undisturbed run (the summary without ``timing``),
and no file of the user's may have changed. Several ranks are processes of one group, as ``srun``
starts them: one is killed, and then, as a launcher does, the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers.models.siglip.modeling_siglip  # noqa: F401

import cas_metric.verbs.score  # noqa: F401 - what is imported here, no attempt imports again
from cas_metric.cli.main import main as cas

#: What the last attempt said.
SAID = str(Path(tempfile.gettempdir()) / f"cas-kills-{os.getpid()}.txt")


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder; of a summary without what times it."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.name == "summary.json":
            summary = json.loads(content)
            summary.pop("timing")
            content = json.dumps(summary, sort_keys=True).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def attempt(arguments: list[str], ranks: int, patience: float | None, rng: random.Random) -> bool:
    """Run the command on ``ranks`` processes; whether it finished within ``patience`` seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pids = [_start(arguments, rank, ranks, port) for rank in range(ranks)]
    deadline = time.monotonic() + (patience if patience is not None else 600)
    left, codes = set(pids), []
    while left and time.monotonic() < deadline:
        for pid in list(left):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                left.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    for pid in sorted(left, key=lambda _: rng.random()):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not left and any(codes):
        said = Path(SAID).read_text(encoding="utf-8")
        raise SystemExit(f"the command failed by itself, with exit codes {codes}:\n{said}")
    return not left


def _start(arguments: list[str], rank: int, ranks: int, port: str) -> int:
    # The parent never computes: a pool of threads would not survive the fork.
    pid = os.fork()
    if pid:
        return pid
    if ranks > 1:
        group = {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {**group, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["cas", *arguments]
    try:
        cas()
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:
        os._exit(70)
    os._exit(0)


def main() -> None:
    """Kill, rerun, compare, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="cas-kills-") as folder:
        root = Path(folder)
        os.environ["CAS_CACHE"] = str(root / "facts")
        made = ["demo", "--out", str(root / "world"), "--images", "40"]
        assert attempt(made, 1, None, rng)
        shutil.rmtree(root / "world" / "run")
        user = digests(root / "world")
        given = [str(root / "world" / part) for part in ("generated", "real/test")]
        out, cache = root / "out", root / "cache"
        command = ["score", *given, "--out", str(out), "--cache", str(cache), "--batch-size", "8"]
        command += ["--method", "faithful"]
        started = time.monotonic()
        assert attempt(command, options.ranks, None, rng)
        whole = time.monotonic() - started
        expected = digests(out)
        kills = finished = 0
        while kills < options.kills:
            shutil.rmtree(out)
            shutil.rmtree(cache)
            longest = 1.1 * whole
            while not attempt(command, options.ranks, rng.uniform(0, longest), rng):
                kills += 1
                longest *= 1.05  # a machine that has become slower must finish some day
            finished += 1
            found = digests(out)
            assert found == expected, sorted(set(found.items()) ^ set(expected.items()))
            assert digests(root / "world") == user, "a file of the user's has changed"
            if finished % 20 == 0:
                print(f"{kills} kills, {finished} finished", file=sys.stderr, flush=True)
        print(
            f"{options.ranks} rank{'s' if options.ranks > 1 else ''}, a whole run {whole:.1f} s: "
            f"{kills} kills, {finished} runs finished, each with the bytes of the undisturbed one; "
            "no file of the user's changed"
        )


if __name__ == "__main__":
    main()
