"""End ``craft-trainer train`` at random points, run it again, and compare every byte.

``python -m benchmarks.robustness.training_kills --out runs/kills [--kills 200] [--seed 0]``

A tiny pipeline with random weights is trained in two stages, LoRA and CRAFT, over and over. Each
attempt is ended by SIGKILL or by SIGTERM, in turn, at a time drawn uniformly over the length of a
whole run and a little more; then the same run is continued until it finishes. Held against an
undisturbed run: the bytes of all weights and curves at the end; and at each end on the way, that
nothing was lost but the steps since the last checkpoint, and after SIGTERM no step at all. Counts
are kept in ``counts.json``: the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch

# What is imported here, no attempt imports again.
import craft_trainer.methods.craft
import craft_trainer.methods.judging
import craft_trainer.methods.trajectories  # noqa: F401
from cas_metric.errors import CasError
from cas_metric.phantoms.dataset import write_phantom_dataset
from craft_trainer.config.schema import parse_config
from craft_trainer.runtime.checkpoints import checkpoints, step_of
from craft_trainer.training.trainer import train_stages

#: Steps of each stage, and between two checkpoints.
STEPS: Final = 6
EVERY: Final = 2


def settings(root: Path, output: Path) -> dict[str, Any]:
    """The values of the run."""
    common = {"steps": STEPS, "batch_size": 2, "learning_rate": 1e-2, "checkpoint_every": EVERY}
    stages = [{"method": "lora", **common}, {"method": "craft", **common}]
    return {
        "output": str(output),
        "base": str(root / "base"),
        "tracker": "none",
        "data": {"train": str(root / "data" / "train"), "resolution": 16},
        "lora": {"rank": 2, "alpha": 2, "dropout": 0.1},
        "sampling": {"steps": 3, "guidance": 2.0},
        "critic": {"encoder": str(root / "critic")},
        "stages": stages,
    }


def prepare(root: Path) -> None:
    """Models and images; in a process of its own, for the parent must not compute."""
    from tests.support.tiny_diffusion import build_stable_diffusion
    from tests.support.tiny_models import build_siglip

    build_stable_diffusion(root / "base", sample_size=8)
    build_siglip(root / "critic")
    write_phantom_dataset("chexpert", root / "data", train=8, test=4)


def forked(work: Any, said: Path) -> int:
    """Start ``work`` in a process of its own, whose output goes to a file."""
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(2, 1)
    code = 0
    try:
        work()
    except CasError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        code = 70
    os._exit(code)


def attempt(root: Path, output: Path, patience: float | None, number: int) -> int:
    """Train, until it ends or ``patience`` seconds are over and ``number`` is sent; its code."""

    def work() -> None:
        def progress(what: str, done: int, total: int) -> None:
            if what.endswith("steps"):
                (output.parent / "reached").write_text(f"{what.split()[0]} {done}")

        train_stages(parse_config(settings(root, output)), progress=progress, cache=root / "cache")

    pid = forked(work, root / "said.txt")
    deadline = time.monotonic() + (600 if patience is None else patience)
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def require_kept(output: Path, code: int) -> None:
    """Hold what is on disk against the last step that was seen."""
    reached = output.parent / "reached"
    if not reached.is_file():
        return
    stage, step = reached.read_text().split() or ("", "0")
    if not stage or (output / stage / "artifact").is_dir():
        return
    found = [step_of(path) for path in checkpoints(output / stage / "checkpoints")]
    newest = max(found, default=0)
    # SIGTERM within the loop ends it by itself, with its own code; before it, it just kills.
    least = int(step) if code == 128 + signal.SIGTERM else (int(step) - 1) // EVERY * EVERY
    assert newest >= least, f"{stage}: {newest} steps kept of {step} that were seen, code {code}"


def digests(output: Path) -> dict[str, str]:
    """sha256 of weights, checkpoints and curves."""
    files = [*output.rglob("*.safetensors"), *output.rglob("metrics.jsonl")]
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
    }


def main() -> None:
    """Kill, continue, compare, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, file = options.out, options.out / "counts.json"
    root.mkdir(parents=True, exist_ok=True)
    counts = json.loads(file.read_text()) if file.is_file() else {}
    if not counts:
        code = os.waitpid(forked(lambda: prepare(root), root / "said.txt"), 0)[1]
        assert code == 0, (root / "said.txt").read_text()
        started = time.monotonic()
        code = attempt(root, root / "whole", None, 0)
        assert code == 0, (root / "said.txt").read_text()
        counts = {"seconds": time.monotonic() - started, "KILL": 0, "TERM": 0, "graceful": 0}
        counts["finished"] = 0
    expected, output = digests(root / "whole"), root / "own" / "run"
    rng = random.Random(options.seed + counts["KILL"] + counts["TERM"])
    while counts["KILL"] + counts["TERM"] < options.kills:
        name = ("KILL", "TERM")[(counts["KILL"] + counts["TERM"]) % 2]
        output.parent.mkdir(parents=True, exist_ok=True)
        (output.parent / "reached").write_text("")
        wait = rng.uniform(0, 1.1 * counts["seconds"])
        code = attempt(root, output, wait, getattr(signal, f"SIG{name}"))
        if code == 0:
            assert digests(output) == expected, set(digests(output).items()) ^ set(expected.items())
            shutil.rmtree(output)
            counts["finished"] += 1
        else:
            expected_codes = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
            assert code in expected_codes, (code, (root / "said.txt").read_text())
            require_kept(output, code)
            counts[name] += 1
            counts["graceful"] += code > 0
        file.write_text(json.dumps(counts))
    print(
        f"a whole run {counts['seconds']:.1f} s: {counts['KILL']} SIGKILL, {counts['TERM']} "
        f"SIGTERM ({counts['graceful']} of them in the steps of a stage, which lost none), "
        f"{counts['finished']} runs finished, each with the bytes of the undisturbed one"
    )


if __name__ == "__main__":
    main()
