"""Figures 9 and 11 to 14: real images beside those of every method, cases drawn by a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.images import load_image
from cas_metric.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Cases of a grid.
CASES: Final = 6
SEED: Final = 0


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Images of all methods."""
    return tuple(pipeline.images(recipe.name) for recipe in MAIN)


def report(pipeline: Pipeline) -> Report:
    """One grid; nobody chose the cases."""
    real = read_manifest(pipeline.test)
    generated = {
        recipe.title: read_manifest(pipeline.images(recipe.name).result.parent) for recipe in MAIN
    }
    rows = np.random.default_rng(SEED).choice(len(real), min(CASES, len(real)), replace=False)
    text = (
        f"{len(rows)} cases drawn with seed {SEED}, the images of generation seed 0: "
        "figure9.png, and as figure9.pdf."
    )
    return Report(text, figures={"figure9": grid(real, generated, sorted(rows.tolist()))})


def grid(real: Manifest, generated: dict[str, Manifest], cases: list[int]) -> Figure:
    """A column a method, a row a case; the first column is the real image."""
    from matplotlib.figure import Figure

    titles = ["Real", *generated]
    figure = Figure(figsize=(1.3 * len(titles), 1.35 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), len(titles), squeeze=False)
    for line, case in zip(axes, cases, strict=True):
        name = real.rows["id"].iloc[case]
        pictures = [real.path(case)]
        for manifest in generated.values():
            own = (manifest.rows["reference"] == name) & (manifest.rows["seed"] == 0)
            pictures.append(manifest.path(int(np.flatnonzero(own.to_numpy())[0])))
        for place, path in zip(line, pictures, strict=True):
            place.imshow(load_image(path).pixels)
            place.set_xticks([])
            place.set_yticks([])
        label = str(real.rows["label"].iloc[case])
        line[0].set_ylabel("\n".join(label.split(" ", 1)), fontsize=7)
    for place, title in zip(axes[0], titles, strict=True):
        place.set_title(title, fontsize=8)
    return figure


SCRIPT = Script("figure9", "Figures 9 and 11-14: cases side by side", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
