"""What the benchmarks on CRAFT share: unseen phantoms, the distance to them, and how gains read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from benchmarks.paper.steps import Step
from benchmarks.phantoms.craft import Experiment, interval

#: Unseen phantoms that sets of images are held against.
UNSEEN: Final = 600


def unseen(domain: str, folder: Path) -> Step:
    """Phantoms of another seed, in a folder within ``folder``; the result's folder is read."""
    out = folder / "unseen"
    words = ("--train", "40", "--test", str(UNSEEN), "--seed", "977")
    command = ("cas", "datasets", "phantom", domain, str(out), *words)
    return Step("unseen", command, out / "test" / "metadata.csv")


def distance(name: str, images: Path, real: Path, out: Path) -> Step:
    """Of a method's images to unseen phantoms, in the space of phantom-dino."""
    command = ("cas", "fidelity", str(images), str(real), "--method", name, "--out", str(out))
    return Step(f"fidelity {name}", command, out / "fidelity.json")


def to_unseen(experiment: Experiment, name: str) -> Step:
    """The distance of an experiment's method, within its folder."""
    real = unseen(experiment.domain, experiment.folder).result.parent
    out = experiment.folder / "fidelity" / name
    return distance(name, experiment.images(name).result.parent, real, out)


def ratio(step: Step) -> float:
    """The Fréchet distance over that of as many real phantoms from the same real ones."""
    found = json.loads(step.result.read_text(encoding="utf-8"))
    return float(found["all"]["matched"]["frechet_distance"]["ratio"])


def gain(estimate: float, low: float, high: float) -> str:
    """A difference as the tables print it.

    Examples:
        >>> gain(-0.02, -0.03, 0.01)
        '−0.020 [−0.030, 0.010]'
    """
    return f"{estimate:+.3f} {interval(low, high)}".replace("-", "−")
