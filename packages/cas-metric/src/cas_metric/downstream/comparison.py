"""Methods against real data alone and against each other, by training seed and by test image.

Two questions are kept apart. *Would another training run agree?* The paired t-test and the exact
sign-flip test treat the seeds as the sample. Five seeds cannot give a sign-flip p-value below
2/32. *Would other test images agree?* The interval and the sign-flip test over images resample
images (patients, where they are known), each with its mean over the seeds; with one seed and no
patients the test is McNemar's, exact up to 14 images on which the two differ. McNemar's exact test
of each seed alone is listed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cas_metric.downstream.grid import REAL_ONLY, Cell
from cas_metric.downstream.scores import Indices, accuracy, macro_f1, macro_f1_replicates
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.statistics.comparison import holm, sign_flip_test
from cas_metric.statistics.intervals import mean_interval
from cas_metric.statistics.uncertainty import Interval, percentile_interval

#: Scores of a classifier, columns of utility.csv.
SCORES: Final = ("accuracy", "macro_f1")
#: Families of p-values; Holm's correction is made within each over all comparisons.
_FAMILIES: Final = (
    ("accuracy", "seeds", "p_t"),
    ("macro_f1", "seeds", "p_t"),
    ("accuracy", "images", "p"),
)
#: Differences of scores that are no more than rounding.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the classifiers of an experiment said.

    Attributes:
        truth: ``(T,)`` class of each test image.
        clusters: ``(T,)`` its patient, or itself.
        classes: Number of classes.
        predictions: Of every cell, ``(T,)``.
    """

    truth: Indices
    clusters: NDArray[Any]
    classes: int
    predictions: Mapping[Cell, Indices]

    @property
    def scales(self) -> list[float]:
        """The data scales, ascending."""
        return sorted({cell.scale for cell in self.predictions})

    @property
    def methods(self) -> list[str]:
        """Names, :data:`REAL_ONLY` first, in the order of the experiment."""
        return list(dict.fromkeys(cell.method for cell in self.predictions))

    def of(self, method: str, scale: float) -> list[Indices]:
        """Predictions of a method at a scale, one a seed, by seed."""
        cells = [c for c in self.predictions if (c.method, c.scale) == (method, scale)]
        return [self.predictions[cell] for cell in sorted(cells, key=lambda cell: cell.seed)]

    def scores(self, method: str, scale: float) -> dict[str, NDArray[np.float64]]:
        """Score to ``(seeds,)`` values."""
        found = self.of(method, scale)
        return {
            "accuracy": np.array([accuracy(self.truth, p) for p in found]),
            "macro_f1": np.array([macro_f1(self.truth, p, self.classes) for p in found]),
        }


def compare_all(outcome: Outcome, focus: str) -> list[dict[str, Any]]:
    """Every method against real data alone, and ``focus`` against the best other one, by scale.

    The best other method is the one of highest mean accuracy at that scale, chosen after the fact,
    which can only make the comparison harder for ``focus``.
    """
    found: list[dict[str, Any]] = []
    for scale in outcome.scales:
        methods = [method for method in outcome.methods if method != REAL_ONLY]
        found += [_compare(outcome, scale, method, REAL_ONLY) for method in methods]
        others = [method for method in methods if method != focus]
        if others:
            best = max(others, key=lambda m: outcome.scores(m, scale)["accuracy"].mean())
            found.append({**_compare(outcome, scale, focus, best), "best_baseline": True})
    for score, unit, key in _FAMILIES:
        adjusted = holm([entry[score][unit][key] for entry in found])
        for entry, value in zip(found, adjusted, strict=True):
            entry[score][unit][f"{key}_holm"] = float(value)
    return found


def by_method(outcome: Outcome) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of both scores: one entry a method and scale."""
    return [
        {
            "method": method,
            "scale": scale,
            **{
                score: {
                    "mean": float(values.mean()),
                    "std": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                    "seeds": values.tolist(),
                }
                for score, values in outcome.scores(method, scale).items()
            },
        }
        for scale in outcome.scales
        for method in outcome.methods
    ]


def best_method(outcome: Outcome) -> str:
    """The method of highest mean accuracy over scales and seeds, real data alone left out."""
    methods = [method for method in outcome.methods if method != REAL_ONLY]
    return max(
        methods,
        key=lambda m: np.mean([outcome.scores(m, s)["accuracy"].mean() for s in outcome.scales]),
    )


def _compare(outcome: Outcome, scale: float, left: str, right: str) -> dict[str, Any]:
    scores = [outcome.scores(name, scale) for name in (left, right)]
    entry: dict[str, Any] = {"scale": scale, "left": left, "right": right, "best_baseline": False}
    for score in SCORES:
        entry[score] = {"seeds": seed_test(scores[0][score] - scores[1][score])}
    predictions = [outcome.of(name, scale) for name in (left, right)]
    entry["accuracy"]["images"] = _image_test(outcome, *predictions)
    entry["macro_f1"]["images"] = {"difference": _macro_f1_difference(outcome, *predictions)}
    entry["mcnemar"] = [mcnemar(outcome.truth, a, b) for a, b in zip(*predictions, strict=True)]
    return entry


def seed_test(differences: NDArray[np.float64]) -> dict[str, Any]:
    """Paired differences of the seeds: mean, t interval, t-test and exact sign-flip test.

    Args:
        differences: ``(seeds,)``, one method minus the other.
    """
    count, mean = len(differences), float(differences.mean())
    nothing = float("nan")
    low, high, p_t = nothing, nothing, nothing
    if count > 1 and np.ptp(differences) > _ROUNDING:
        test = stats.ttest_1samp(differences, 0.0)
        low, high = test.confidence_interval(CONFIDENCE)
        p_t = float(test.pvalue)
    elif count > 1:  # all alike: no spread to judge by, except that nothing differs
        p_t = 1.0 if abs(mean) <= _ROUNDING else nothing
    flip = sign_flip_test(differences)
    return {
        "n": count,
        "difference": Interval(mean, float(low), float(high), CONFIDENCE)._asdict(),
        "p_t": p_t,
        "p_sign_flip": flip.value,
        "p_sign_flip_exact": flip.exact,
    }


def mcnemar(truth: Indices, left: Indices, right: Indices) -> dict[str, Any]:
    """Exact McNemar test of two classifiers on the same images.

    Returns:
        ``left_only`` and ``right_only``, images that only one of them has right, and ``p``.
    """
    one, other = left == truth, right == truth
    only = int((one & ~other).sum()), int((other & ~one).sum())
    p = float(stats.binomtest(only[0], sum(only), 0.5).pvalue) if sum(only) else 1.0
    return {"left_only": only[0], "right_only": only[1], "p": p}


def _image_test(
    outcome: Outcome, left: Sequence[Indices], right: Sequence[Indices]
) -> dict[str, Any]:
    """Share of the seeds that have an image right, one method minus the other, over images."""
    shares = [np.mean([p == outcome.truth for p in found], axis=0) for found in (left, right)]
    gaps = shares[0] - shares[1]
    p = sign_flip_test(gaps, clusters=outcome.clusters)
    difference = mean_interval(gaps, clusters=outcome.clusters)
    return {"difference": difference._asdict(), "p": p.value, "p_exact": p.exact}


def _macro_f1_difference(
    outcome: Outcome, left: Sequence[Indices], right: Sequence[Indices]
) -> dict[str, Any]:
    replicates, means = [], []
    for found in (left, right):
        replicates.append(
            macro_f1_replicates(
                outcome.truth, list(found), outcome.classes, clusters=outcome.clusters,
                resamples=RESAMPLES, seed=BOOTSTRAP_SEED,
            )
        )  # fmt: skip
        means.append(np.mean([macro_f1(outcome.truth, p, outcome.classes) for p in found]))
    gap = replicates[0] - replicates[1]
    return percentile_interval(float(means[0] - means[1]), gap, CONFIDENCE)._asdict()
