"""How hard does the reward pull beside the diffusion loss, by which timesteps are visited?

``python -m benchmarks.performance.spacing --base phantom-sd [--draws 8]``

A CRAFT stage is set up, and what the trainer logs as ``gradient/reward_over_diffusion`` (the norm
of the gradient of lambda_cam r_cam over that of lambda_diff times the diffusion loss) is taken on
several batches at fixed weights, with the same images and noise for each spacing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.performance.diffusion import add_options, prepared_run
from cas_metric.statistics.tables import markdown_table
from craft_trainer.methods.craft import RATIO


def main() -> None:
    """A line for each spacing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--draws", type=int, default=8)
    options = parser.parse_args()
    stage = {"repeats": 1, "reward_gradients_every": 1, "prefix": {"solver": "dpmpp_2m"}}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for spacing in ("leading", "trailing"):
            options.spacing = spacing
            run = prepared_run(Path(scratch), options, **stage)
            size = options.batch_size
            found = []
            for draw in range(options.draws):
                batch = run.inputs.batch(tuple(range(draw * size, (draw + 1) * size)))
                found.append(float(run.method.loss(batch, draw).logs[RATIO]))
            last = int(run.method.trajectories.sampler.timesteps[-1])  # type: ignore[attr-defined]
            numbers = (np.median(found), min(found), max(found))
            rows.append([spacing, str(last), *(f"{one:.2f}" for one in numbers)])
    heads = ["spacing", "last t", "reward over diffusion, median", "lowest", "highest"]
    print(f"{options.draws} batches of {options.batch_size}\n\n" + markdown_table(heads, rows))


if __name__ == "__main__":
    main()
