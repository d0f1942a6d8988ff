"""From a data set to scored images: the steps that the tables share.

``RUN/data``, ``RUN/adapters/<recipe>``, ``RUN/images/<recipe>``, ``RUN/scores/<role>/<recipe>``:
each is made by one command, and by no table twice.
"""

from __future__ import annotations

import re
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import yaml
from benchmarks.paper import processes
from benchmarks.paper.recipes import RECIPES, Recipe
from benchmarks.paper.settings import Settings
from benchmarks.paper.steps import Step, Work

from cas_metric.domains import load_domain
from cas_metric.manifest import read_manifest

#: Denoising steps of a sample, in training and in evaluation.
SAMPLING_STEPS: Final = 20
#: Passes through the UNet for one sample: guidance doubles them.
_FORWARDS: Final = 2.0 * SAMPLING_STEPS
#: Batch size of every stage (§4.1.3).
BATCH: Final = 4
#: Seconds that any command takes to start, and that scoring takes beside the encoder.
START, SCORE = (1.0, 2.0) if processes.forks() else (5.0, 7.0)
#: Seconds of one answer of a language model, four at once.
ANSWER: Final = 1.0
#: Seconds of one small classifier on phantoms; a ResNet-18 on a GPU takes a minute or two.
_CLASSIFIER = 3.0


class Pipeline:
    """The steps of one data set; the same step is the same object.

    Args:
        settings: What is reproduced, and how large.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scale = settings.fitting_scale
        self.folder = settings.folder
        # Methods are cached by their arguments, on this object alone.
        self.adapter = cache(self._adapter)
        self.images = cache(self._images)
        self.training_images = cache(self._training_images)
        self.score = cache(self._score)
        self.diversity = cache(self._diversity)
        self.memorization = cache(self._memorization)

    # -- data --------------------------------------------------------------------------------------

    @cached_property
    def train(self) -> Path:
        """Training images."""
        return self._split("train")

    @cached_property
    def test(self) -> Path:
        """Held-out images."""
        return self._split("test")

    def _split(self, split: str) -> Path:
        if self.settings.data is None:
            return self.folder / "data" / split
        prompts = self.folder / "prompts" / split
        asked = self.settings.mllm is not None or (prompts / "metadata.csv").exists()
        if asked and lacking_prompts(self.settings.data, split):
            return prompts
        return given_split(self.settings.data, split)

    def data(self) -> tuple[Step, ...]:
        """Drawing phantoms; prompts where given data have none; else nothing."""
        if self.settings.data is None:
            return (self._drawn(),)
        # Prompts that are written need no language model any more.
        splits = {"train": self.train, "test": self.test} if self.settings.mllm else {}
        return tuple(
            self._enriched(name) for name, path in splits.items() if self.folder in path.parents
        )

    def _drawn(self) -> Step:
        scale, out = self.scale, self.train.parent
        words = ("--train", scale.train, "--test", scale.test, "--size", scale.resolution)
        return Step(
            "data",
            words_of("cas", "datasets", "phantom", self.settings.domain, out, *words),
            self.test / "metadata.csv",
            work=Work(fixed=START + 0.02 * (scale.train + scale.test)),
        )

    def _enriched(self, split: str) -> Step:
        """Every image of a split described by a language model (§3.1)."""
        assert self.settings.data is not None
        out, given = self.folder / "prompts" / split, given_split(self.settings.data, split)
        asked = ("--mllm", self.settings.mllm, "--domain", self.settings.domain, *self.stored)
        return Step(
            f"prompts/{split}",
            words_of("craft-trainer", "enrich", given, *asked, "--out", out),
            out / "metadata.csv",
            work=Work(fixed=START + self.count(split) * ANSWER),
        )

    def shots(self, number: int) -> Step:
        """``number`` training images a class (Appendix F)."""
        out = self.folder / "data" / f"train-{number}shot"
        return Step(
            f"data/{number}shot",
            words_of("cas", "datasets", "shots", self.train, "--shots", number, "--out", out),
            out / "metadata.csv",
            needs=self.data(),
            work=Work(fixed=START),
        )

    def count(self, split: str) -> int:
        """Images of a split; 0 where a real data set is not there yet."""
        if self.settings.data is None:
            return self.scale.train if split == "train" else self.scale.test
        return images_in(given_split(self.settings.data, split))

    # -- adapters ----------------------------------------------------------------------------------

    def _adapter(self, name: str) -> Step:
        """Training of one recipe, from the artefact that it starts from."""
        recipe = RECIPES[name]
        assert recipe.method is not None, f"{name} is the base model itself"
        out = self.folder / "adapters" / name
        config = self.folder / "configs" / f"{name}.yaml"
        needs = [*self.data()]
        if recipe.shots is not None:
            needs.append(self.shots(recipe.shots))
        if recipe.start is not None:
            needs.append(self.adapter(recipe.start))
        if recipe.method == "dpo":
            needs.append(self.pairs(recipe))
        stage = self._stage(recipe)
        return Step(
            f"adapters/{name}",
            words_of("craft-trainer", "train", config, *recipe.overrides, *self.stored),
            out / f"1-{recipe.method}" / "artifact",
            needs=tuple(needs),
            work=self._training(recipe, stage),
            files={config: yaml.safe_dump(self._config(recipe, stage, out), sort_keys=False)},
        )

    def artefact(self, name: str) -> Path:
        """Where the artefact of a recipe will be."""
        return self.adapter(name).result

    def pairs(self, recipe: Recipe) -> Step:
        """Two samples a prompt and which is preferred (§4.1.2), drawn by the LoRA before DPO."""
        assert recipe.start is not None
        out = self.folder / "pairs" / recipe.name
        drawn, source = 2 * self.scale.pairs, self.artefact(recipe.start)
        words = ("--pairs", self.scale.pairs, *self.stored, "--out", out)
        return Step(
            f"pairs/{recipe.name}",
            words_of("craft-trainer", "pairs", source, self._train(recipe), *words),
            out / "pairs.csv",
            needs=(self.adapter(recipe.start),),
            work=Work(forwards=drawn * _FORWARDS, embedded=drawn, fixed=START),
        )

    def _train(self, recipe: Recipe) -> Path:
        return self.train if recipe.shots is None else self.shots(recipe.shots).result.parent

    def _stage(self, recipe: Recipe) -> dict[str, Any]:
        """The stage of a recipe at this scale."""
        lengths = {
            "textual_inversion": self.scale.inversion,
            "lora": self.scale.lora,
            "dpo": self.scale.dpo,
            "craft": self.scale.craft,
        }
        assert recipe.method is not None
        stage = {"method": recipe.method, "batch_size": BATCH, **lengths[recipe.method]}
        if recipe.name == "control":
            stage |= {
                key: self.scale.craft[key] for key in ("steps", "epochs") if key in self.scale.craft
            }
        if recipe.method == "dpo":
            stage["pairs"] = str(self.folder / "pairs" / recipe.name / "pairs.csv")
        changes = dict(recipe.changes)
        rewards = {**stage.get("rewards", {}), **changes.pop("rewards", {})}
        stage |= {"prompt": recipe.prompt, **changes}
        return {**stage, "rewards": rewards} if rewards else stage

    def _config(self, recipe: Recipe, stage: dict[str, Any], out: Path) -> dict[str, Any]:
        scale = self.scale
        config = {
            "output": str(out),
            "base": self.settings.base,
            "dtype": scale.dtype,
            "gradient_checkpointing": scale.resolution > 128,
            "data": {
                "train": str(self._train(recipe)),
                "domain": self.settings.domain,
                "resolution": scale.resolution,
            },
            "lora": {"rank": scale.rank, "alpha": scale.rank},
            "sampling": {
                "steps": SAMPLING_STEPS,
                "guidance": scale.guidance,
                "timestep_spacing": scale.timestep_spacing,
            },
            "critic": {"encoder": scale.critic},
            "stages": [stage],
        }
        if recipe.start is not None:
            config["start"] = str(self.artefact(recipe.start))
        return config

    def _training(self, recipe: Recipe, stage: dict[str, Any]) -> Work:
        """Forwards of a stage: one with its backward an image, and the trajectories of a reward."""
        images = self.count("train")
        if recipe.shots is not None:
            images = recipe.shots * 10
        seen = (
            stage["steps"] * stage["batch_size"] if "steps" in stage else stage["epochs"] * images
        )
        if recipe.method != "craft":
            return Work(forwards=3 * seen, fixed=START)
        gradient = stage.get("gradient_steps", 1)
        steps = next(
            (int(text.partition("=")[2]) for text in recipe.overrides if "sampling.steps" in text),
            SAMPLING_STEPS,
        )
        repeats = stage.get("repeats", 2)
        # Repeats that share a prefix pay for it once.
        prefixes = 1 if stage.get("repeat_mode") == "renoise" else repeats
        # Guidance doubles a pass; a step with gradients costs its backward pass as well.
        trajectories = prefixes * 2 * (steps - gradient) + repeats * 2 * 3 * gradient
        return Work(forwards=seen * (3 + trajectories), embedded=images, fixed=START)

    # -- images and scores -------------------------------------------------------------------------

    def _images(self, name: str) -> Step:
        """The held-out prompts, re-synthesised with every generation seed."""
        return self._generated("images", name, self.test, self.count("test"), self.scale.seeds)

    def _training_images(self, name: str) -> Step:
        """Training prompts, once each: what a classifier may be trained on."""
        if self.scale.synthetic is None:
            return self._generated("training-images", name, self.train, self.count("train"), 1)
        classes = len(load_domain(self.settings.domain).classes)
        shots = max(1, self.scale.synthetic // classes)
        kept = self.shots(shots)
        folder = kept.result.parent
        return self._generated("training-images", name, folder, classes * shots, 1, (kept,))

    def _generated(
        self,
        kind: str,
        name: str,
        prompts: Path,
        count: int,
        seeds: int,
        needs: tuple[Step, ...] = (),
    ) -> Step:
        recipe, out = RECIPES[name], self.folder / kind / name
        # The base model needs the settings of a run, and leaves the run's weights out.
        source = self.adapter(name if recipe.method is not None else "ti")
        words: list[Any] = ["--seeds", seeds, "--method", name, "--prompt", recipe.evaluation]
        if recipe.method is None:
            words.append("--zero-shot")
        if any("sampling.steps" in text for text in recipe.overrides):
            words.append(f"sampling.steps={SAMPLING_STEPS}")
        return Step(
            f"{kind}/{name}",
            words_of("craft-trainer", "generate", source.result, prompts, "--out", out, *words),
            out / "metadata.csv",
            needs=(source, *needs),
            work=Work(forwards=seeds * count * _FORWARDS, fixed=START),
        )

    def _score(self, name: str, role: str = "main") -> Step:
        """One row an image, by the evaluator of a role."""
        out = self.folder / "scores" / role / name
        images = self.images(name)
        options = ("--train", self.train, "--domain", self.settings.domain, *self.stored)
        words = ("--encoder", self.scale.evaluators[role], *options, "--out", out)
        return Step(
            f"scores/{role}/{name}",
            words_of("cas", "score", images.result.parent, self.test, *words),
            out / "summary.json",
            needs=(images,),
            work=Work(embedded=self.scale.seeds * self.count("test"), fixed=SCORE),
        )

    def score_folder(self, title: str, folder: Path) -> Step:
        """Scores of images that another generator made of the test prompts."""
        name = re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-")
        out = self.folder / "scores" / "main" / f"given-{name}"
        options = ("--train", self.train, "--domain", self.settings.domain, *self.stored)
        words = ("--encoder", self.scale.evaluators["main"], *options, "--method", title)
        return Step(
            f"scores/main/given-{name}",
            words_of("cas", "score", folder, self.test, *words, "--out", out),
            out / "summary.json",
            needs=self.data(),
            work=Work(embedded=self.count("test"), fixed=SCORE),
        )

    def _diversity(self, name: str) -> Step:
        """LPIPS within prompts where its weights are at hand, and the spread within classes."""
        out, images = self.folder / "diversity" / name, self.images(name)
        words: list[Any] = ["--real", self.test, "--encoder", self.scale.independent]
        if self.settings.backbone is not None:
            words += ["--backbone", self.settings.backbone]
        elif self.embedded:
            words.append("--no-lpips")
        drawn = self.scale.seeds * self.count("test")
        return Step(
            f"diversity/{name}",
            words_of("cas", "diversity", images.result.parent, *words, *self.stored, "--out", out),
            out / "diversity.json",
            needs=(images,),
            work=Work(embedded=drawn, fixed=SCORE),
        )

    def _memorization(self, name: str) -> Step:
        """Nearest training images by SSIM, pHash and an independent encoder (Appendix M)."""
        out, images = self.folder / "memorization" / name, self.images(name)
        words = (images.result.parent, self.train, "--test", self.test)
        encoder = ("--encoder", self.scale.independent)
        drawn = self.scale.seeds * self.count("test") + self.count("train")
        return Step(
            f"memorization/{name}",
            words_of("cas", "memorization", *words, *encoder, *self.stored, "--out", out),
            out / "summary.json",
            needs=(images,),
            work=Work(embedded=drawn, fixed=SCORE),
        )

    def utility(self, names: tuple[str, ...], focus: str) -> Step:
        """Classifiers of real and synthetic images (§4.2.5), and their accuracy against CAS."""
        out, scale = self.folder / "utility", self.scale
        drawn = [self.training_images(name) for name in names]
        scored = [self.score(name) for name in names]
        given = [f"{n}={s.result.parent}" for n, s in zip(names, drawn, strict=True)]
        runs = [word for step in scored for word in ("--run", step.result.parent)]
        words = ("--model", scale.utility_model, "--seeds", scale.utility_seeds, "--focus", focus)
        classifiers = 3 * scale.utility_seeds * (len(names) + 1)
        return Step(
            "utility",
            words_of("cas", "utility", self.train, self.test, *given, *runs, *words, "--out", out),
            out / "summary.json",
            needs=(*drawn, *scored),
            work=Work(fixed=START + classifiers * _CLASSIFIER),
        )

    @property
    def embedded(self) -> bool:
        """Whether the data are phantoms."""
        return self.settings.domain.startswith("phantom-")

    @property
    def stored(self) -> tuple[str, Path]:
        """The embedding store, as an option."""
        return "--cache", self._cache

    @property
    def _cache(self) -> Path:
        return self.folder / "cache"


def given_split(data: Path, split: str) -> Path:
    """Folder or manifest of a split, as `cas datasets prepare` and `craft-trainer enrich` write it.

    Where there is neither, the folder's path.
    """
    candidates = [data / split, *(data / f"{split}.{kind}" for kind in ("parquet", "csv", "jsonl"))]
    return next((path for path in candidates if path.exists()), data / split)


@cache
def images_in(manifest: Path) -> int:
    """Rows of a manifest; 0 where there is none."""
    return len(read_manifest(manifest).rows) if manifest.exists() else 0


@cache
def lacking_prompts(data: Path, split: str) -> int:
    """Rows of a split that have no prompt."""
    manifest = given_split(data, split)
    if not manifest.exists():
        return 0
    return int((read_manifest(manifest).rows["prompt"].fillna("") == "").sum())


def words_of(*parts: Any) -> tuple[str, ...]:
    """A command from words, numbers and paths."""
    return tuple(str(part) for part in parts)
