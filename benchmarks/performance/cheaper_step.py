"""What does a CRAFT step cost by the paper's settings, and by the cheaper ones?

``python -m benchmarks.performance.cheaper_step --base phantom-sd [--rounds 3]``

Forwards of the denoiser (a prediction of one image), operations of matrices, convolutions and
attention with the backward pass, seconds, and the most bytes that autograd keeps, each of a whole
step: both terms of Eq. 1, M = 2 trajectories a prompt, decoder and critic. The settings take turns,
four steps each, as often as a prefix is used at most; the median of the rounds is printed. Time is
the processor's on a CPU, wall time on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.performance.diffusion import add_options, prepared_run
from benchmarks.performance.training import Peak, clock, wait
from cas_metric.statistics.tables import markdown_table
from craft_trainer.training.trainer import StageRun

_SHARED: Final = {"repeat_mode": "renoise"}
_FAST: Final = {"solver": "dpmpp_2m", "steps": 6}
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "the paper's": {},
    "repeats share a prefix": _SHARED,
    "the same, used four times": {**_SHARED, "prefix": {"replay": 3, "replay_age": 4}},
    "prefix of 6 steps": {"prefix": _FAST},
    "the same, used twice": {"prefix": {**_FAST, "replay": 1}},
    "the same, `micro_batch: 1`": {"prefix": {**_FAST, "replay": 1}, "micro_batch": 1},
}
#: Steps of a turn.
_TURN: Final = 4


def turn(run: StageRun, first: int) -> None:
    """The gradients of its steps."""
    size = run.stage.batch_size
    for step in range(first, first + _TURN):
        for parameter in run.parameters:
            parameter.grad = None
        batch = run.inputs.batch(tuple(range(step * size, (step + 1) * size)))
        run.method.loss(batch, step).total.backward()


def counted(run: StageRun) -> tuple[float, float, float]:
    """Forwards, GFLOP and MB kept of a step, the mean of a turn; of bytes the most."""
    forwards = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal forwards
        forwards += len(inputs[0])

    handle = run.model.trunk.register_forward_hook(count)
    with Peak(run.model.device) as peak:
        turn(run, 0)
    handle.remove()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        turn(run, _TURN)
    return forwards / _TURN, counter.get_total_flops() / _TURN / 1e9, peak.bytes / 1e6


def main() -> None:
    """A line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = {
            name: prepared_run(Path(scratch), options, **values)
            for name, values in SETTINGS.items()
        }
        counts = {name: counted(run) for name, run in runs.items()}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(2, 2 + options.rounds):
            for name, run in runs.items():
                now = clock(run.model.device)
                wait(run.model.device)
                started = now()
                turn(run, _TURN * number)
                wait(run.model.device)
                seconds[name].append((now() - started) / _TURN)
    lines, first = [], None
    for name, (forwards, work, kept) in counts.items():
        own = forwards, work, statistics.median(seconds[name]), kept
        first = first or own
        cells = [f"{one:.4g} ({whole / one:.2f})" for one, whole in zip(own, first, strict=True)]
        lines.append([name, *cells])
    heads = ["setting", "forwards (× fewer)", "GFLOP", "seconds", "MB kept"]
    print(markdown_table(heads, lines))


if __name__ == "__main__":
    main()
