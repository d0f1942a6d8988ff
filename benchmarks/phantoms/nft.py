"""Does DiffusionNFT with the 0/1 DD raise the held-out DD above textual inversion and LoRA?

``python -m benchmarks.phantoms.nft phantom-breakhis [--out runs/phantom-craft] [--steps 60]``

Goes on from what ``benchmarks.phantoms.craft`` trained in the same folder: from the same TI + LoRA,
DiffusionNFT with the critic's 0/1 DD as its only reward, on :data:`BATCH` × :data:`GROUP` images a
step. Images are drawn without guidance, as the method's authors do, in training and by both for the
comparison: the held-out prompts with :data:`SEEDS` seeds, scored by encoders that gave no reward.
An interrupted run continues; a finished one prints its table again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from benchmarks.paper.steps import Step, as_command, run, times
from benchmarks.phantoms.craft import Continuation, publish
from benchmarks.phantoms.judging import gain
from benchmarks.phantoms.recipes import EVALUATORS, PROMPT
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.comparison import case_table, paired_differences
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

SEEDS: Final = 5
#: Prompts of a step, and images of each.
BATCH, GROUP = 16, 8


class Nft(Continuation):
    """The commands of one domain."""

    methods = ("ti_lora", "nft")
    focus = "nft"
    seeds = SEEDS

    def __init__(self, domain: str, folder: Path, steps: int, rate: float) -> None:
        super().__init__(domain, folder, "nft")
        self.updates, self.rate = steps, rate

    def steps(self) -> list[Step]:
        """All commands, each after what it needs."""
        steps = [self.data(), self.adapted(), self.continued("nft")]
        steps += [self.images(name) for name in self.methods]
        for encoder in EVALUATORS:
            steps += [self.scores(encoder, name) for name in self.methods]
            steps.append(self.comparison(encoder))
        return steps

    def stage(self, name: str) -> dict[str, Any]:
        """The only one."""
        return {
            "method": "nft",
            "steps": self.updates,
            "batch_size": BATCH,
            "group": GROUP,
            "draws": 2,
            "learning_rate": self.rate,
            "prompt": PROMPT,
            "prefix": {"solver": "dpmpp_2m", "steps": 6},
        }

    def images(self, name: str) -> Step:
        """Every held-out prompt with every seed, without guidance."""
        step = super().images(name)
        return replace(step, command=(*step.command, "sampling.guidance=1"))


def report(experiment: Nft) -> str:
    """Every primitive by each evaluator, and the paired difference of DD over cases."""
    parts = [PHANTOM_NOTICE, f"# DiffusionNFT on {experiment.domain}"]
    columns = ("vdc", "ccs", "dd", "sfs", "cas")
    for encoder in EVALUATORS:
        found = json.loads(experiment.comparison(encoder).result.read_text(encoding="utf-8"))
        rows = [
            (
                one["method"],
                *(number(one["mean"][column]) for column in columns),
                *("{} to {}".format(*map(number, one["interval"][name])) for name in ("dd", "cas")),
            )
            for one in found["methods"]
        ]
        heads = ("method", *map(str.upper, columns), "95% of DD", "95% of CAS")
        parts += [f"## By {encoder}", markdown_table(heads, rows), raised(experiment, encoder)]
    spent = [(name, str(value)) for name, value in times(experiment.folder / "steps.log").items()]
    return "\n\n".join([*parts, "## Time", markdown_table(("step", "seconds"), spent)]) + "\n"


def raised(experiment: Nft, encoder: str) -> str:
    """DD of DiffusionNFT minus that of TI + LoRA."""
    folders = [experiment.scores(encoder, name).result.parent for name in experiment.methods]
    rows = pd.concat([pd.read_csv(folder / "per_image.csv") for folder in folders])
    table, clusters = case_table(rows, "dd")
    (pair,) = paired_differences(table[["nft", "ti_lora"]], clusters=clusters)
    own = pair.difference
    gained = f"{gain(own.estimate, own.low, own.high)}, p {pair.p.value:.3f}"
    return f"DD, nft − ti_lora, paired over {pair.n_cases} cases: {gained}."


def main() -> None:
    """Run what is not done yet, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rate", type=float, default=3e-4)
    options = parser.parse_args()
    experiment = Nft(options.domain, options.out / options.domain, options.steps, options.rate)
    experiment.link()
    with as_command():
        run(experiment.steps(), experiment.folder / "steps.log")
    publish(experiment, "nft", report(experiment))


if __name__ == "__main__":
    main()
