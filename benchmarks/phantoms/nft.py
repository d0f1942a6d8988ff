"""Does DiffusionNFT with the 0/1 DD raise the held-out DD above textual inversion and LoRA?

``python -m benchmarks.phantoms.nft phantom-origa [--out runs/phantom-nft] [--steps 40]``

As ``benchmarks.phantoms.craft``: a drawn data set, phantom-sd adapted with textual inversion and
LoRA, and one further stage, here DiffusionNFT with the critic's 0/1 DD as its only reward. The
held-out prompts are generated with two seeds by both, and scored by encoders that gave no reward.
An interrupted run continues; a finished one prints its table again.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.paper.steps import Step, run, times
from benchmarks.phantoms.craft import EVALUATORS, SETTINGS, Experiment
from cas_metric.files import write_bytes
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

SEEDS = 2


class Nft(Experiment):
    """The commands of one domain."""

    methods = ("ti_lora", "nft")
    focus = "nft"

    def __init__(self, domain: str, folder: Path, steps: int) -> None:
        super().__init__(domain, folder)
        self.size = replace(SETTINGS[domain], train=160, test=60, inversion=60, lora=240)
        self.updates = steps

    def steps(self) -> list[Step]:
        """All commands, each after what it needs."""
        steps = [self.data(), self.adapted(), self.continued("nft")]
        steps += [self.images(name) for name in self.methods]
        for encoder in EVALUATORS:
            steps += [self.scores(encoder, name) for name in self.methods]
            steps.append(self.comparison(encoder))
        return steps

    def continued(self, name: str) -> Step:
        """TI + LoRA, or what DiffusionNFT makes of it."""
        if name != "nft":
            return self.adapted()
        stage: dict[str, Any] = {
            "method": "nft",
            "steps": self.updates,
            "batch_size": 4,
            "group": 4,
            "baseline": "batch",
            "guidance": 3.0,
            "draws": 1,
            "learning_rate": 3e-4,
            "prompt": "{token}. {prompt}",
            "prefix": {"solver": "dpmpp_2m", "steps": 5},
        }
        return self._trained("nft", [stage], "1-nft", self.adapted().result)

    def images(self, name: str) -> Step:
        """Every held-out prompt with every seed."""
        step = super().images(name)
        words = list(step.command)
        words[words.index("--seeds") + 1] = str(SEEDS)
        return replace(step, command=tuple(words))


def report(experiment: Nft) -> str:
    """Every primitive by each evaluator, and the paired difference of CAS."""
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
        parts += [f"## By {encoder}", markdown_table(heads, rows)]
    spent = [(name, str(value)) for name, value in times(experiment.folder / "steps.log").items()]
    return "\n\n".join([*parts, "## Time", markdown_table(("step", "seconds"), spent)]) + "\n"


def main() -> None:
    """Run what is not done yet, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-nft"))
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    experiment = Nft(options.domain, options.out / options.domain, options.steps)
    run(experiment.steps(), experiment.folder / "steps.log")
    text = report(experiment)
    write_bytes(experiment.folder / "nft.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
