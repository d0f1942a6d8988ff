"""The whole path on the embedded world: textual inversion, LoRA, CRAFT, and what it does to CAS.

``python -m benchmarks.phantoms.craft phantom-chexpert [--out runs/phantom-craft]``

Draws a data set, adapts phantom-sd with textual inversion and LoRA, continues once with CRAFT and
once with as many further LoRA steps without a reward, generates the held-out prompts with five
seeds by each of the four, and scores all with encoders that gave no reward. An interrupted run
continues; a finished one prints its table again. One thread is used unless OMP_NUM_THREADS says
otherwise. The settings are in ``benchmarks.phantoms.recipes``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from benchmarks.paper.steps import Step, as_command, run, times
from benchmarks.phantoms.recipes import (
    BASE,
    CHANGES,
    CRITIC,
    EVALUATORS,
    FURTHER,
    METHODS,
    OVERRIDES,
    PROMPT,
    SAMPLING,
    SEEDS,
    SETTINGS,
    TWICE,
    Domain,
)
from cas_metric.files import write_bytes
from cas_metric.manifest import read_manifest
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

if TYPE_CHECKING:
    from PIL import Image

#: Columns of the picture, and the side of each image in it, in pixels.
_CASES, _TILE = 12, 128


class Experiment:
    """The commands of one domain.

    Attributes:
        methods: Whose images are compared.
        focus: The one that the others are held against.
        base: Pipeline that is adapted.
        critic: Encoder that gives the rewards.
        prompts: Folder of ``data`` whose prompts are drawn.
        seeds: Images of each of them.
        sampling: How images are drawn, in training and afterwards.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    focus = "craft"
    base, critic = BASE, CRITIC
    prompts, seeds = "test", SEEDS
    sampling: Mapping[str, Any] = SAMPLING

    def __init__(self, domain: str, folder: Path, size: Domain | None = None) -> None:
        self.domain, self.folder = domain, folder
        self.size = size or SETTINGS[domain]

    def configuration(
        self, output: str, stages: list[dict[str, Any]], start: Path | None = None
    ) -> str:
        """A trainer configuration as YAML."""
        train = str(self.folder / "data" / "train")
        values: dict[str, Any] = {
            "output": str(self.folder / output),
            "base": self.base,
            "seed": 42,
            "tracker": "none",
            "data": {"train": train, "domain": self.domain, "resolution": 64},
            "lora": {"rank": 32, "alpha": 32},
            "sampling": dict(self.sampling),
            "critic": {"encoder": self.critic},
            "stages": stages,
        }
        if start is not None:
            values["start"] = str(start)
        return yaml.safe_dump(values, sort_keys=False)

    def steps(self) -> list[Step]:
        """All commands, each after what it needs."""
        steps = [self.data(), self.adapted(), *(self.continued(name) for name in self.methods)]
        steps += [self.images(name) for name in self.methods]
        for encoder in EVALUATORS:
            steps += [self.scores(encoder, name) for name in self.methods]
            steps.append(self.comparison(encoder))
        return steps

    def data(self) -> Step:
        """Draw training and held-out images."""
        data, size = self.folder / "data", self.size
        words = ("--train", str(size.train), "--test", str(size.test))
        command = ("cas", "datasets", "phantom", self.domain, str(data), *words)
        return Step("data", command, data / "test" / "metadata.csv")

    def adapted(self) -> Step:
        """Textual inversion and LoRA."""
        size = self.size
        stages = [
            {
                "method": "textual_inversion",
                "steps": size.inversion,
                "batch_size": 8,
                "learning_rate": 5e-3,
                "prompt": "a photo of {token}",
            },
            self._lora(size.lora, batch=8),
        ]
        return self._trained("ti_lora", stages, "2-lora", None)

    def continued(self, name: str) -> Step:
        """The stage after TI + LoRA: with the rewards of CRAFT, or without."""
        if name in ("zero_shot", "ti_lora"):
            return self.adapted()
        stage = self.stage(name)
        result = f"1-{stage['method']}"
        return self._trained(name, [stage], result, self.adapted().result)

    def stage(self, name: str) -> dict[str, Any]:
        """The settings of CRAFT, or of as many steps of LoRA."""
        size = self.size
        stage: dict[str, Any] = self._lora(size.craft, batch=4)
        if name != "control":
            stage |= {
                "method": "craft",
                "learning_rate": size.craft_rate,
                "gradient_steps": 1,
                "repeats": 2,
                "repeat_mode": "renoise",
                "reward_gradients_every": 0,
            }
        if name in TWICE:
            stage["steps"] *= 2
        return stage | CHANGES.get(name, {})

    def _lora(self, steps: int, batch: int) -> dict[str, Any]:
        return {
            "method": "lora",
            "steps": steps,
            "batch_size": batch,
            "learning_rate": self.size.lora_rate,
            "warmup_steps": 20,
            "prompt": PROMPT,
        }

    def _trained(
        self, name: str, stages: list[dict[str, Any]], last: str, start: Path | None
    ) -> Step:
        path = self.folder / "configs" / f"{name}.yaml"
        output = f"adapters/{name}"
        text = self.configuration(output, stages, start)
        cache = ("--cache", str(self.folder / "cache"))
        command = ("craft-trainer", "train", str(path), *cache, *OVERRIDES.get(name, ()))
        result = self.folder / output / last / "artifact"
        return Step(f"train {name}", command, result, files={path: text})

    def images(self, name: str) -> Step:
        """Every held-out prompt with every seed."""
        out, artefact = self.folder / "images" / name, self.continued(name).result
        words = ["--seeds", str(self.seeds), "--batch-size", "16", "--method", name]
        if name == "zero_shot":
            words.append("--zero-shot")
        prompts = str(self.folder / "data" / self.prompts)
        command = ("craft-trainer", "generate", str(artefact), prompts, "--out", str(out), *words)
        return Step(f"generate {name}", (*command, *self.drawn(name)), out / "metadata.csv")

    def drawn(self, name: str) -> tuple[str, ...]:
        """Settings with which the images of a method are drawn, where not as in its training."""
        return ()

    def scores(self, encoder: str, name: str) -> Step:
        """``cas score`` by one encoder."""
        out, images = self.folder / "scores" / encoder / name, self.folder / "images" / name
        words = ("--method", name, "--encoder", encoder, "--cache", str(self.folder / "cache"))
        test = str(self.folder / "data" / "test")
        command = ("cas", "score", str(images), test, "--out", str(out), *words)
        return Step(f"score {name} by {encoder}", command, out / "summary.json")

    def comparison(self, encoder: str) -> Step:
        """``cas compare`` of all methods: intervals over cases, paired differences."""
        added = [name for name in self.methods if name in FURTHER]
        out = self.folder / "comparison" / "-".join([encoder, *added])
        runs = [str(self.folder / "scores" / encoder / name) for name in self.methods]
        command = ("cas", "compare", *runs, "--method", self.focus, "--out", str(out))
        return Step(f"compare by {encoder}", command, out / "comparison.json")


class Continuation(Experiment):
    """What goes on from a domain's images and TI + LoRA, in a folder within its own.

    Args:
        domain: A phantom domain.
        folder: Of :class:`Experiment`.
        name: Of the folder within it.
        size: Images and steps.
    """

    def __init__(self, domain: str, folder: Path, name: str, size: Domain | None = None) -> None:
        super().__init__(domain, folder / name, size)
        self.before = Experiment(domain, folder)

    def data(self) -> Step:
        """The images of the whole path."""
        return self.before.data()

    def link(self) -> None:
        """Put them where the commands look for them."""
        place = self.folder / "data"
        if not place.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            place.symlink_to(self.before.folder.absolute() / "data")

    def adapted(self) -> Step:
        """Its TI + LoRA."""
        return self.before.adapted()


def report(experiment: Experiment) -> str:
    """CAS by each evaluator with 95% intervals over cases, and the seconds of each step."""
    parts = [PHANTOM_NOTICE, f"# CRAFT on {experiment.domain}"]
    for encoder in EVALUATORS:
        found = json.loads(experiment.comparison(encoder).result.read_text(encoding="utf-8"))
        parts += [f"## CAS by {encoder}", _scores(found), _differences(found)]
    spent = times(experiment.folder / "steps.log")
    parts += [
        "## Time",
        markdown_table(("step", "seconds"), [(k, str(v)) for k, v in spent.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def grid(experiment: Experiment) -> Image.Image:
    """Real images above those of every method for the same cases, the first generation seed.

    The cases are evenly spaced in the test split; nobody chose them.
    """
    from PIL import Image

    test = read_manifest(experiment.folder / "data" / experiment.prompts)
    cases = np.linspace(0, len(test) - 1, _CASES).round().astype(int)
    lines = [[test.path(case) for case in cases]]
    for name in experiment.methods:
        drawn = read_manifest(experiment.images(name).result.parent)
        first = {
            reference: drawn.path(row)
            for row, (reference, seed) in enumerate(
                zip(drawn.rows["reference"], drawn.rows["seed"], strict=True)
            )
            if seed == 0
        }
        lines.append([first[test.rows["id"].iloc[case]] for case in cases])
    sheet = Image.new("RGB", (_TILE * _CASES, _TILE * len(lines)))
    for line, paths in enumerate(lines):
        for column, path in enumerate(paths):
            with Image.open(path) as picture:
                tile = picture.convert("RGB").resize((_TILE, _TILE))
            sheet.paste(tile, (column * _TILE, line * _TILE))
    return sheet


def _scores(found: dict[str, Any]) -> str:
    columns = ("vdc", "ccs", "dd", "sfs", "cas")
    rows = [
        (
            {**METHODS, **FURTHER}[entry["method"]],
            *(number(entry["mean"][column]) for column in columns),
            interval(*entry["interval"]["cas"]),
        )
        for entry in found["methods"]
    ]
    return markdown_table(("method", *map(str.upper, columns), "95% interval of CAS"), rows)


def _differences(found: dict[str, Any]) -> str:
    rows = [
        (
            f"{pair['left']} - {pair['right']}",
            number(pair["difference"]["estimate"]),
            interval(pair["difference"]["low"], pair["difference"]["high"]),
        )
        for pair in found["pairs"]
        if {"craft", *FURTHER} & {pair["left"], pair["right"]}
    ]
    return markdown_table(("paired difference in CAS", "mean", "95% interval"), rows)


def interval(low: float, high: float) -> str:
    """Limits as the tables print them."""
    return f"[{number(low)}, {number(high)}]"


def publish(experiment: Experiment, name: str, text: str) -> None:
    """Print the tables, and write them and the picture into the run directory."""
    write_bytes(experiment.folder / f"{name}.md", text.encode())
    grid(experiment).save(experiment.folder / f"{name}.jpg", quality=85)
    print(text)


def main() -> None:
    """Run what is not done yet, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--also", nargs="+", choices=FURTHER, default=(), help="further methods")
    options = parser.parse_args()
    experiment = Experiment(options.domain, options.out / options.domain)
    experiment.methods = (*experiment.methods, *options.also)
    with as_command():
        run(experiment.steps(), experiment.folder / "steps.log")
    publish(experiment, "craft", report(experiment))


if __name__ == "__main__":
    main()
