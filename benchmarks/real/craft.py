"""The whole path on real photographs: textual inversion, LoRA, CRAFT, and who gains from it.

    python -m benchmarks.real.craft chest --base BASE/pipeline --critic CRITIC/encoder
        --evaluator EVALUATOR/encoder --alexnet alexnet.safetensors [--out runs/real-craft]

As ``benchmarks.phantoms.craft``, on photographs of 64 pixels: adapters learn from the critic's
part; held-out prompts are those of the test part. All methods are scored by the evaluator (cas-v1
and cas-v2) and named by a probe on AlexNet, which no training saw; images are compared with all
photographs that the base was trained on; and classifiers of real photographs are trained with the
images that CRAFT draws for training prompts: all, the half that ``cas select`` keeps, and all
under wrong labels. ``--also guarded`` adds CRAFT with safeguards. An interrupted run continues; a
finished one prints its tables.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.paper.steps import Step, as_command, run
from benchmarks.phantoms.craft import Experiment, publish
from benchmarks.phantoms.recipes import FURTHER, METHODS, PROMPT, SAMPLING, Domain
from benchmarks.real.captions import caption, phrases
from benchmarks.real.pictures import WORLDS, Pictures, World, read_pictures
from cas_metric.manifest import FolderConfig, read_manifest, write_folder_config
from cas_metric.protocol import CALIBRATED_VERSION

SIDE: Final = 64
#: Method to its title.
TITLES: Final = {
    "zero_shot": "the base, zero-shot",
    "ti": "TI",
    **{name: METHODS[name] for name in ("ti_lora", "control", "craft")},
    **FURTHER,
}
#: Whose images for training prompts the classifiers get.
_DRAWS: Final = "craft"


@dataclass(frozen=True)
class Models:
    """Folders of what was trained before: a pipeline and two encoders."""

    base: Path
    critic: Path
    evaluator: Path


class Photographs(Experiment):
    """The commands of one world.

    Args:
        world: Photographs and their classes.
        folder: Run directory.
        size: Images and steps.
        models: What was trained before.
        also: Further methods.
    """

    prompts = "prompts"

    def __init__(
        self,
        world: World,
        folder: Path,
        size: Domain,
        models: Models,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__(str(world.pack_file), folder, size)
        self.world, self.evaluator = world, str(models.evaluator)
        self.base, self.critic = str(models.base), str(models.critic)
        self.methods = ("zero_shot", "ti", "ti_lora", "control", "craft", *also)

    def drawing(self) -> list[Step]:
        """Trainings and images."""
        trained = [self.continued(name) for name in self.methods if name != "ti"]
        return [self.adapted(), *trained, *map(self.images, self.methods), self.further()]

    def judging(self) -> list[Step]:
        """What is said of the images, once they lie in one table."""
        images, test = self.folder / "images", self.folder / "data" / "test"
        cache = ("--cache", str(self.folder / "cache"))
        by = ("--encoder", self.evaluator)
        scores, compared = self.folder / "scores", self.folder / "comparison"
        out = ("--out", str(scores), "--protocol", CALIBRATED_VERSION)
        steps = [
            Step(
                "score",
                ("cas", "score", str(images), str(test), *by, *cache, *out),
                scores / "summary.json",
            ),
            Step(
                "compare",
                ("cas", "compare", str(scores), "--method", self.focus, "--out", str(compared)),
                compared / "comparison.json",
            ),
        ]
        return [*steps, self.copies(), *self.chosen(), self.classifiers()]

    def copies(self) -> Step:
        """The images of the first seed against everything that the base has seen."""
        out, data = self.folder / "memorization", self.folder / "data"
        words = (str(self.folder / "images"), str(data / "base"), "--test", str(data / "test"))
        command = ("cas", "memorization", *words, "--no-features", "--seed", "0", "--out", str(out))
        return Step("memorization", command, out / "summary.json")

    def further(self) -> Step:
        """Images for the training prompts."""
        step, out = self.images(_DRAWS), self.folder / "further"
        replaced = {
            str(self.folder / "data" / "prompts"): str(self.folder / "data" / "train"),
            str(self.folder / "images" / _DRAWS): str(out),
        }
        words = [replaced.get(word, word) for word in step.command]
        words[words.index("--seeds") + 1] = "1"
        return Step("generate for training prompts", tuple(words), out / "metadata.csv")

    def chosen(self) -> list[Step]:
        """The better half of them in each class by cas-v2; the probe of DD is cross-fitted."""
        train, drawn = self.folder / "data" / "train", self.folder / "further"
        scores, out = self.folder / "further-scores", self.folder / "chosen"
        cache = ("--cache", str(self.folder / "cache"))
        command = (
            *("cas", "score", str(drawn), str(train), "--encoder", self.evaluator, *cache),
            *("--out", str(scores), "--protocol", CALIBRATED_VERSION),
        )
        kept = ("cas", "select", str(scores), "--keep", "top:0.5", "--out", str(out))
        words = ("--files", "copy", *cache, "--encoder", self.evaluator)
        return [
            Step("score training prompts", command, scores / "summary.json"),
            Step("select", (*kept, *words), out / "metadata.csv"),
        ]

    def sets(self) -> dict[str, Path]:
        """What the classifiers are given beside real photographs."""
        return {name: self.folder / name for name in ("further", "chosen", "wrong")}

    def classifiers(self) -> Step:
        """``cas utility`` with its small network, at every real photograph and at 100 of them."""
        data, out = self.folder / "data", self.folder / "utility"
        count = len(read_manifest(data / "base"))
        given = [f"{name}={folder}" for name, folder in self.sets().items()]
        scales = [word for size in sizes(count) for word in ("--scale", f"{size / count:.4f}")]
        command = ("cas", "utility", str(data / "base"), str(data / "test"), *given, *scales)
        words = ("--model", "small", "--seeds", "3", "--epochs", "10", "--focus", "chosen")
        return Step("utility", (*command, *words, "--out", str(out)), out / "summary.json")

    def continued(self, name: str) -> Step:
        """The stage whose artefact draws the images of a method."""
        if name != "ti":
            return super().continued(name)
        step = self.adapted()
        first = step.result.parents[1] / "1-textual_inversion" / "artifact"
        return replace(step, result=first)

    def images(self, name: str) -> Step:
        """Every prompt with every seed; the text of TI is that of the others."""
        step = super().images(name)
        if name == "ti":
            step = replace(step, command=(*step.command, "--prompt", PROMPT))
        return step


def sizes(count: int) -> list[int]:
    """How many real photographs classifiers are trained on: 100, 500, and all."""
    return [size for size in (100, 500) if size < 0.9 * count] + [count]


def spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """``count`` of ``rows``, or all, evenly spaced; nobody chose them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return rows[places]


def write_data(world: World, pictures: Pictures, folder: Path, size: Domain) -> None:
    """The photographs at :data:`SIDE` pixels: ``train``, ``test``, ``prompts`` and ``base``."""
    if folder.exists():
        return
    said, names = phrases(world, pictures), world.domain.class_names
    partial = folder.with_name(".data.partial")
    sets = {
        "train": spaced(pictures.rows("critic"), size.train),
        "test": pictures.rows("test"),
        "prompts": spaced(pictures.rows("test"), size.test),
        "base": pictures.rows("evaluator", "critic"),
    }
    for name, rows in sets.items():
        (partial / name / "images").mkdir(parents=True, exist_ok=True)
        table = []
        for row in rows:
            label, stem = int(pictures.labels[row]), Path(pictures.names[row]).stem
            image = Image.fromarray(pictures.images[row])
            small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            small.save(partial / name / "images" / f"{stem}.png")
            text = caption(world, label, said[row])
            table.append((f"images/{stem}.png", stem, names[label], text))
        columns = ["file_name", "id", "label", "prompt"]
        pd.DataFrame(table, columns=columns).to_csv(partial / name / "metadata.csv", index=False)
        train = partial / "train" if name in ("test", "prompts") else None
        config = FolderConfig(domain=str(world.pack_file), train=train, split=name)
        write_folder_config(partial / name, config)
    partial.rename(folder)


def gather(experiment: Experiment) -> None:
    """One table of the images of every method."""
    folder = experiment.folder / "images"
    tables = []
    for name in experiment.methods:
        table = pd.read_csv(folder / name / "metadata.csv")
        tables.append(table.assign(file_name=name + "/" + table["file_name"]))
    pd.concat(tables).to_csv(folder / "metadata.csv", index=False)
    first = folder / experiment.methods[0] / "cas.yaml"
    (folder / "cas.yaml").write_text(first.read_text())


def mislabel(drawn: Path, out: Path) -> None:
    """The same images, each under the label of the next class."""
    shutil.copytree(drawn, out, dirs_exist_ok=True)
    rows = pd.read_csv(drawn / "metadata.csv")
    names = sorted(rows["label"].unique())
    after = dict(zip(names, names[1:] + names[:1], strict=True))
    rows.assign(label=rows["label"].map(after)).to_csv(out / "metadata.csv", index=False)


def main() -> None:
    """Run what is not done yet, then write and print the tables."""
    from benchmarks.real.craft_tables import report

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("--base", type=Path, required=True, help="pipeline of the generator")
    parser.add_argument("--critic", type=Path, required=True, help="encoder that rewards")
    parser.add_argument("--evaluator", type=Path, required=True, help="encoder that scores")
    parser.add_argument("--alexnet", type=Path, required=True, help="weights, safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs/real-craft"))
    parser.add_argument("--also", nargs="+", choices=FURTHER, default=(), help="further methods")
    parser.add_argument("--train", type=int, default=240, help="training images, and prompts")
    parser.add_argument("--test", type=int, default=60, help="held-out prompts")
    parser.add_argument("--seeds", type=int, default=5, help="images of each held-out prompt")
    parser.add_argument("--inversion", type=int, default=100, help="steps of textual inversion")
    parser.add_argument("--lora", type=int, default=600, help="steps of LoRA")
    parser.add_argument("--craft", type=int, default=200, help="steps of CRAFT, and of the control")
    parser.add_argument("--sampler", default=SAMPLING["sampler"])
    parser.add_argument("--sampling-steps", type=int, default=SAMPLING["steps"])
    options = parser.parse_args()
    world, folder = WORLDS[options.world], options.out.absolute() / options.world
    size = Domain(options.train, options.test, options.inversion, options.lora, options.craft)
    models = Models(*(p.absolute() for p in (options.base, options.critic, options.evaluator)))
    experiment = Photographs(world, folder, size, models, options.also)
    experiment.seeds = options.seeds
    chosen = {"sampler": options.sampler, "steps": options.sampling_steps}
    experiment.sampling = {**SAMPLING, **chosen}
    log = folder / "steps.log"
    with as_command():
        if not (folder / "data").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_data(world, read_pictures(world), folder / "data", size)
        run(experiment.drawing(), log)
        gather(experiment)
        mislabel(folder / "further", folder / "wrong")
        run(experiment.judging(), log)
        text = report(experiment, options.alexnet)
    publish(experiment, "craft", text)


if __name__ == "__main__":
    main()
