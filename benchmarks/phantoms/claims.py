"""The paper's further claims on the embedded world: the tail, copies, and who gains from it.

``python -m benchmarks.phantoms.claims phantom-chexpert [--out runs/phantom-craft] [--also NAME]``

Goes on from the images of ``benchmarks.phantoms.craft`` in the same folder:

1. how far each method's images lie from unseen phantoms in the space of phantom-dino, whom no
   reward pleases;
2. Table 14 by cas-v1 and cas-v2, and how much lower CRAFT's tail is than those of the others;
3. copies of training images among those of the first seed;
4. classifiers trained on the training phantoms and the images of held-out prompts: of the control,
   of CRAFT, and of CRAFT's better half by cas-v2. They are tested on :data:`UNSEEN` phantoms that
   nothing else was made from, enough to see two points.

With ``--also`` the first three are said of further methods too, and of the last of them in place of
CRAFT. An interrupted run continues; a finished one prints its tables again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from benchmarks.paper.steps import Step, as_command, run
from benchmarks.phantoms.craft import Experiment
from benchmarks.phantoms.recipes import EVALUATORS, FURTHER, METHODS
from benchmarks.real.craft import gather
from benchmarks.real.craft_tables import table14
from cas_metric.files import write_bytes
from cas_metric.phantoms import DOMAINS
from cas_metric.protocol import CALIBRATED_VERSION
from cas_metric.statistics.intervals import mean_interval
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number, percent
from cas_metric.verbs.memorization_text import memorization_markdown

TITLES: Final = {**METHODS, **FURTHER}
#: Phantoms that classifiers are tested on.
UNSEEN: Final = 1500
#: Training seeds of a classifier, and its passes over the real images.
SEEDS, EPOCHS = 5, 40


class Claims(Experiment):
    """The commands of one domain.

    Args:
        domain: A phantom domain.
        folder: Of ``benchmarks.phantoms.craft``.
        also: Further methods, which take the place of the classifiers.
    """

    def __init__(self, domain: str, folder: Path, also: Sequence[str] = ()) -> None:
        super().__init__(domain, folder)
        self.also = tuple(also)
        self.methods = (*self.methods, *also)
        self.focus = self.methods[-1]

    @property
    def own(self) -> Path:
        """Where the results go."""
        return self.folder / "-".join(["claims", *self.also])

    def judging(self) -> list[Step]:
        """What is said of the images, once they lie in one table."""
        images, data = str(self.folder / "images"), self.folder / "data"
        cache = ("--cache", str(self.folder / "cache"))
        scored, compared = self.result("scores"), self.own / "comparison"
        copied = self.result("memorization")
        copies = ("cas", "memorization", images, str(data / "train"), "--test", str(data / "test"))
        compare = ("cas", "compare", str(scored.parent), "--method", self.focus)
        return [
            self.calibrated(self.folder / "images", "scores"),
            Step("compare", (*compare, "--out", str(compared)), compared / "comparison.json"),
            Step(
                "memorization",
                (*copies, "--seed", "0", *cache, "--out", str(copied.parent)),
                copied,
            ),
            self.unseen(),
            self.distance(),
            *([] if self.also else self.learning()),
        ]

    def result(self, name: str) -> Path:
        """The summary of a step."""
        return self.own / name / "summary.json"

    def calibrated(self, images: Path, name: str) -> Step:
        """``cas score`` of a folder by cas-v2."""
        out, cache = self.result(name), ("--cache", str(self.folder / "cache"))
        score = ("cas", "score", str(images), str(self.folder / "data" / "test"), *cache)
        words = ("--encoder", EVALUATORS[0], "--protocol", CALIBRATED_VERSION)
        return Step(f"score {name}", (*score, *words, "--out", str(out.parent)), out)

    def unseen(self) -> Step:
        """Phantoms of another seed."""
        out = self.folder / "claims" / "unseen"
        words = ("--train", "40", "--test", str(UNSEEN), "--seed", "4711")
        command = ("cas", "datasets", "phantom", self.domain, str(out), *words)
        return Step("unseen", command, out / "test" / "metadata.csv")

    def distance(self) -> Step:
        """``cas fidelity`` of all methods."""
        images, out = str(self.folder / "images"), self.own / "fidelity"
        real = str(self.unseen().result.parent)
        command = ("cas", "fidelity", images, real, "--out", str(out))
        return Step("fidelity", command, out / "fidelity.json")

    def learning(self) -> list[Step]:
        """``cas select`` and ``cas utility``."""
        chosen, out = self.own / "chosen", self.result("utility")
        scored = self.calibrated(self.folder / "images" / self.focus, f"scores-{self.focus}")
        half = ("cas", "select", str(scored.result.parent), "--encoder", EVALUATORS[0])
        sets = {name: self.folder / "images" / name for name in ("control", self.focus)}
        given = [f"{name}={path}" for name, path in {**sets, "chosen": chosen}.items()]
        tested = str(self.unseen().result.parent)
        utility = ("cas", "utility", str(self.folder / "data" / "train"), tested)
        words = ("--model", "small", "--seeds", str(SEEDS), "--epochs", str(EPOCHS))
        scales = ("--scale", "0.5", "--scale", "1", "--focus", "chosen", "--out", str(out.parent))
        return [
            scored,
            Step(
                "select",
                (*half, "--keep", "top:0.5", "--files", "copy", "--out", str(chosen)),
                chosen / "metadata.csv",
            ),
            Step("utility", (*utility, *given, *words, *scales), out),
        ]


def report(experiment: Claims) -> str:
    """All tables."""
    found = _read(experiment.own / "comparison" / "comparison.json")
    scored = _read(experiment.result("scores"))
    parts = [
        PHANTOM_NOTICE,
        f"# Distance, tail, copies and utility on {experiment.domain}",
        "## Distance to unseen phantoms",
        distances(_read(experiment.distance().result), experiment.methods),
        "## Tail",
        table14(found, scored["cas_v2"]["tail"]),
        reductions(found, experiment.focus),
        low_shares(experiment),
        "## Copies of training images, first seed",
        memorization_markdown(_read(experiment.result("memorization"))),
    ]
    if not experiment.also:
        learned = experiment.own / "utility" / "utility.md"
        parts.append(learned.read_text(encoding="utf-8").replace("# ", "## ", 1))
    return "\n\n".join(parts) + "\n"


def distances(found: Mapping[str, Any], methods: Sequence[str]) -> str:
    """Fréchet distances at equal size, and how many times those of real from real."""
    rows = []
    for name in methods:
        matched = found["methods"][name]["all"]["matched"]
        far, kernel = matched["frechet_distance"], matched["kernel_distance"]
        cells = [f"{far[side]:.2f}" for side in ("generated", "real", "ratio")]
        rows.append((TITLES[name], *cells, number(kernel["generated"])))
    heads = ("method", "Fréchet distance", "of real from real", "times", "kernel distance")
    return markdown_table(heads, rows)


def reductions(found: Mapping[str, Any], focus: str) -> str:
    """How much lower the tail of ``focus`` is than those of the others, by cas-v1."""
    # One entry for the baseline with the lowest tail and one for that with the highest mean.
    by_baseline = {one["baseline"]: one for one in found["tail"]["reductions"]}
    rows = [
        (
            TITLES[name],
            f"{percent(one['absolute'])} {_shares(one['absolute_interval'])}",
            f"{percent(one['relative'])} {_shares(one['relative_interval'])}",
        )
        for name, one in by_baseline.items()
    ]
    return markdown_table((f"tail of {focus} below that of", "points", "relative"), rows)


def low_shares(experiment: Claims) -> str:
    """The same by cas-v2, at its level: paired differences, with Student's interval over cases."""
    folder = experiment.own / "scores"
    low = pd.read_csv(folder / "calibrated.csv")[["id", "method", "low"]]
    rows = pd.read_csv(folder / "per_image.csv").merge(low, on=["id", "method"])
    shares = rows.pivot_table(values="low", index="reference", columns="method")
    lines = []
    for name in experiment.methods:
        if name != experiment.focus:
            gap = mean_interval(shares[name] - shares[experiment.focus])
            ends = f"{percent(gap.estimate)} {_shares((gap.low, gap.high))}"
            lines.append((TITLES[name], ends, percent(gap.estimate / shares[name].mean())))
    heads = (f"low share of {experiment.focus} by cas-v2 below that of", "points", "relative")
    return markdown_table(heads, lines)


def _shares(ends: Sequence[float | None]) -> str:
    """Limits in percent; JSON has null where there are none."""
    return "[{}, {}]".format(*(percent(math.nan if end is None else end) for end in ends))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Run what is not done yet, then write and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--also", nargs="+", choices=FURTHER, default=(), help="further methods")
    options = parser.parse_args()
    experiment = Claims(options.domain, options.out / options.domain, options.also)
    log = experiment.own / "steps.log"
    with as_command():
        run(
            [experiment.images(name) for name in experiment.methods],
            experiment.folder / "steps.log",
        )
        gather(experiment)
        run(experiment.judging(), log)
    text = report(experiment)
    write_bytes(experiment.own / "claims.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
