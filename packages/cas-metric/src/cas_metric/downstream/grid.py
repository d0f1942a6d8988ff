"""All classifiers of an experiment: every method at every data scale with every seed, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.downstream.training import Recipe, train_and_predict
from cas_metric.encoders.memory import digest_of
from cas_metric.errors import InputError
from cas_metric.files import to_json, write_bytes

if TYPE_CHECKING:
    from cas_metric.downstream.pictures import LabelledPictures

#: Name of the classifiers that see no synthetic picture.
REAL_ONLY: Final = "real only"

#: Told after every classifier with (done, total).
Progress = Callable[[int, int], None]


class Cell(NamedTuple):
    """One classifier.

    Attributes:
        method: Whose pictures it was trained on, or :data:`REAL_ONLY`.
        scale: Share of the real training pictures.
        seed: Seed of everything random in it.
    """

    method: str
    scale: float
    seed: int


@dataclass(frozen=True, eq=False)
class Experiment:
    """What is trained on what.

    Attributes:
        real: Real training pictures.
        test: Real test pictures.
        methods: Name to synthetic pictures.
        scales: Shares of the real training pictures, in (0, 1].
        seeds: Seeds.
        recipe: How every classifier is trained.
    """

    real: LabelledPictures
    test: LabelledPictures
    methods: Mapping[str, LabelledPictures]
    scales: Sequence[float]
    seeds: Sequence[int]
    recipe: Recipe

    def __post_init__(self) -> None:
        if REAL_ONLY in self.methods:
            raise InputError(f"no method can be called {REAL_ONLY!r}", fix="give another name")
        if not all(0 < scale <= 1 for scale in self.scales):
            raise InputError("a data scale is a share of the real images above 0, at most 1")

    def cells(self) -> Iterator[Cell]:
        """All classifiers; what is compared is trained close together."""
        for seed in self.seeds:
            for scale in self.scales:
                for method in (REAL_ONLY, *self.methods):
                    yield Cell(method, scale, seed)

    def digest(self, cell: Cell) -> str:
        """sha256 of everything that decides the predictions of a cell."""
        synthetic = self.methods.get(cell.method)
        return digest_of(
            {
                "real": self.real.digest,
                "test": self.test.digest,
                "synthetic": synthetic.digest if synthetic else None,
                "recipe": self.recipe.identity(),
                "scale": cell.scale,
                "seed": cell.seed,
            }
        )


def run(
    experiment: Experiment, folder: Path, progress: Progress | None = None
) -> dict[Cell, NDArray[np.int64]]:
    """Train every classifier that ``folder`` does not hold yet; predictions of all, ``(T,)`` each.

    Each is written as soon as it is done, under a name that holds the digest of its inputs: an
    interrupted experiment continues, and a changed one does not take over what no longer holds.
    """
    cells = list(experiment.cells())
    found = {}
    for done, cell in enumerate(cells, start=1):
        path = folder / f"{experiment.digest(cell)}.json"
        found[cell] = _read(path, len(experiment.test))
        if found[cell] is None:
            predicted = train_and_predict(
                experiment.recipe,
                experiment.real,
                experiment.methods.get(cell.method),
                experiment.test,
                scale=cell.scale,
                seed=cell.seed,
            )
            content = {**cell._asdict(), "predicted": predicted.tolist()}
            write_bytes(path, to_json(content).encode())
            found[cell] = predicted
        if progress is not None:
            progress(done, len(cells))
    return {cell: predicted for cell, predicted in found.items() if predicted is not None}


def _read(path: Path, count: int) -> NDArray[np.int64] | None:
    """Predictions of an earlier run; None where there are none that can be used."""
    try:
        predicted = json.loads(path.read_text(encoding="utf-8"))["predicted"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return np.array(predicted, dtype=np.int64) if len(predicted) == count else None
