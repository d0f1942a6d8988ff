"""What graded answers are worth: scores of images, calibration, the best of several.

The score of an image is the mean of its items' scores. Calibration holds the scores of items
against verdicts that somebody else gave: a model of another kind, the same one asked for verdicts,
or a reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.aggregate import as_text, case_clusters
from cas_metric.statistics.intervals import mean_interval, rate_interval
from cas_metric.statistics.pass_rates import verdict_values
from cas_metric.statistics.uncertainty import Floats

if TYPE_CHECKING:
    import pandas as pd

KEYS: Final = ("method", "seed", "id")
#: What tells an item from another of the same image.
ITEM: Final = ("checklist", "attribute")
#: Equal parts of [0, 1] in which scores are held against verdicts.
BINS: Final = 5


def image_scores(rows: pd.DataFrame) -> pd.Series:
    """Mean score of each image's items, in the order of the images; NaN without an answer.

    Args:
        rows: One row an item: ``method, seed, id, score``.
    """
    return rows.groupby(list(KEYS), sort=False, dropna=False)["score"].mean()


def method_scores(images: pd.DataFrame, *, level: float = CONFIDENCE) -> dict[str, dict[str, Any]]:
    """Mean score of each method's images, with Student's t over their clusters.

    Args:
        images: One row an image: ``method, score`` and what tells cases apart.
        level: Nominal coverage.
    """
    return {
        str(name): mean_interval(
            group["score"], clusters=case_clusters(group), level=level
        )._asdict()
        for name, group in images.groupby("method", sort=False)
    }


def calibration(
    rows: pd.DataFrame, verdicts: pd.DataFrame, *, level: float = CONFIDENCE
) -> dict[str, Any]:
    """How far scores are the shares of items that are present.

    Args:
        rows: One row an item: ``method, seed, id, checklist, attribute, score``.
        verdicts: The same items with ``verdict``: ``present`` or ``absent``; others do not count.
        level: Nominal coverage.

    Returns:
        ``n`` items in common; ``auroc``, that a present item scores above an absent one (NaN where
        all are alike); ``brier``, the mean squared difference of score and verdict, with its
        interval; ``expected_error``, the mean difference of score and share over ``bins``, each
        with ``low, high, n, score`` and ``present`` with its interval (Wilson).
    """
    keys = [*KEYS, *ITEM]
    left, right = (_as_text(table, keys) for table in (rows, verdicts))
    both = left.merge(right[[*keys, "verdict"]], on=keys, suffixes=("_own", ""))
    truth = verdict_values(both["verdict"])
    scores = both["score"].to_numpy(dtype=np.float64)
    known = np.isfinite(truth) & np.isfinite(scores)
    both, truth, scores = both[known], truth[known], scores[known]
    clusters = case_clusters(both)
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins: list[dict[str, Any]] = [
        {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "n": int(inside.sum()),
            "score": float(scores[inside].mean()),
            "present": rate_interval(
                truth[inside], clusters=clusters[inside], level=level
            )._asdict(),
        }
        for k in range(BINS)
        if (inside := place == k).any()
    ]
    gaps = [one["n"] * abs(one["score"] - one["present"]["estimate"]) for one in bins]
    squared = (scores - truth) ** 2
    return {
        "n": len(both),
        "auroc": auroc(scores, truth),
        "brier": mean_interval(squared, clusters=clusters, level=level)._asdict(),
        "expected_error": sum(gaps) / len(both) if len(both) else float("nan"),
        "bins": bins,
    }


def auroc(scores: Floats, truth: Floats) -> float:
    """Share of pairs of a present and an absent item in which the present one scores higher.

    Ties count half. NaN where no item is present, or none absent.

    Examples:
        >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.0, 0.0, 1.0, 1.0]))
        0.875
    """
    from scipy.stats import rankdata

    present = truth == 1
    count, others = int(present.sum()), int((~present).sum())
    if not count or not others:
        return float("nan")
    ranks = rankdata(scores)[present].sum() - count * (count + 1) / 2
    return float(ranks / (count * others))


def best_of_n(images: pd.DataFrame) -> pd.DataFrame:
    """Of the images that a method made of a case, the one with the highest score.

    Args:
        images: One row an image: ``method, case, seed, id, score``. The first of equals is taken.

    Returns:
        ``method, case, seed, id, score`` and ``of``, how many images there were, for the cases
        with several images that have a score.
    """
    scored = images[images["score"].notna()].reset_index(drop=True)
    groups = scored.groupby(["method", "case"], sort=False)["score"]
    chosen = scored.loc[groups.idxmax()].assign(of=groups.size().to_numpy())
    columns = ["method", "case", "seed", "id", "score", "of"]
    return chosen.loc[chosen["of"] > 1, columns].reset_index(drop=True)


def _as_text(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The table with keys that compare by what they say, whatever they were read as."""
    return table.assign(**{name: as_text(table[name]) for name in keys})
