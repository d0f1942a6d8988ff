"""Is DD above that of real images because of the reward, or because of the guidance?

``python -m benchmarks.phantoms.guidance phantom-chexpert [--out runs/phantom-craft]``

Draws the held-out prompts again from the adapters of ``benchmarks.phantoms.craft`` in the same
folder, with weaker classifier-free guidance than that of training
(:data:`~benchmarks.phantoms.recipes.SAMPLING`), and scores them by encoders that gave no reward.
``--also cheaper`` adds what ``benchmarks.phantoms.craft --also cheaper`` trained. An interrupted
run continues; a finished one prints its table again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.paper.steps import Step, as_command, run
from benchmarks.phantoms.craft import Continuation, interval, publish
from benchmarks.phantoms.judging import ratio, to_unseen, unseen
from benchmarks.phantoms.recipes import EVALUATORS, FURTHER
from cas_metric import compare
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

SEEDS: Final = 2
ADAPTED: Final = ("ti_lora", "control", "craft")
#: The last is that of training.
GUIDANCE: Final = (1.0, 1.5, 2.0, 3.0)


class Guided(Continuation):
    """The commands of one domain; a method is an adapter and a guidance, ``craft-1.5``.

    Args:
        domain: A phantom domain.
        folder: Of ``benchmarks.phantoms.craft``.
        adapters: That were trained there.
        seeds: Images of each prompt; each number has a folder of its own.
    """

    def __init__(
        self, domain: str, folder: Path, adapters: Sequence[str], seeds: int = SEEDS
    ) -> None:
        name = "guidance" if seeds == SEEDS else f"guidance-{seeds}"
        super().__init__(domain, folder, name)
        self.seeds = seeds
        self.methods = tuple(f"{name}-{scale:g}" for name in adapters for scale in GUIDANCE)
        self.focus = self.methods[-1]

    def steps(self) -> list[Step]:
        """All commands, each after what it needs."""
        steps = [self.data(), unseen(self.domain, self.folder)]
        for name in self.methods:
            steps += [self.images(name), to_unseen(self, name)]
            steps += [self.scores(encoder, name) for encoder in EVALUATORS]
        return steps

    def continued(self, name: str) -> Step:
        """What the whole path trained."""
        return self.before.continued(name.rpartition("-")[0])

    def drawn(self, name: str) -> tuple[str, ...]:
        """Guided as the name says."""
        adapter, _, scale = name.rpartition("-")
        return *super().drawn(adapter), f"sampling.guidance={scale}"


def report(experiment: Guided) -> str:
    """A line for each adapter and guidance."""
    found = {}
    for encoder in EVALUATORS:
        runs = {name: experiment.scores(encoder, name).result.parent for name in experiment.methods}
        found[encoder] = compare(runs, method=experiment.focus).summary
    rows = []
    for place, name in enumerate(experiment.methods):
        adapter, _, scale = name.rpartition("-")
        row = [adapter, scale]
        for encoder in EVALUATORS:
            row += _cells(found[encoder]["methods"][place])
        rows.append((*row, f"{ratio(to_unseen(experiment, name)):.1f}"))
    rows.append(("real", "", *(one for e in EVALUATORS for one in _cells(found[e]["real"])), "1.0"))
    heads = ["adapter", "guidance"]
    for encoder in EVALUATORS:
        heads += [f"CAS by {encoder}", "DD"]
    title = f"# Guidance on {experiment.domain}"
    table = markdown_table([*heads, "Fréchet ratio"], rows)
    return "\n\n".join([PHANTOM_NOTICE, title, table]) + "\n"


def _cells(entry: dict[str, Any]) -> tuple[str, str]:
    dd = f"{number(entry['mean']['dd'])} {interval(*entry['interval']['dd'])}"
    return number(entry["mean"]["cas"]), dd


def main() -> None:
    """Run what is not done yet, then write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--also", nargs="+", choices=FURTHER, default=(), help="further adapters")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="images of each prompt")
    options = parser.parse_args()
    adapters, folder = (*ADAPTED, *options.also), options.out / options.domain
    experiment = Guided(options.domain, folder, adapters, options.seeds)
    experiment.link()
    with as_command():
        run(experiment.steps(), experiment.folder / "steps.log")
    publish(experiment, "guidance", report(experiment))


if __name__ == "__main__":
    main()
