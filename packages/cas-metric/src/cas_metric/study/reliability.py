"""How far a rater agrees with themselves on cases that were shown twice.

Source: Cohen (1968) for the weighted kappa; McGraw and Wong (1996) for the intraclass correlation,
two-way with absolute agreement, ICC(A,1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd


class Reliability(NamedTuple):
    """Agreement of first and second answers.

    Attributes:
        rater: Whose answers; empty for those of all raters.
        item: What was asked: ``rank``, or the key of a question.
        cases: Cases answered twice.
        pairs: Images judged twice.
        same: Share of them with the same answer.
        weighted_kappa: With quadratic weights; NaN where all answers are one.
        icc: Intraclass correlation of absolute agreement, ICC(A,1); NaN likewise.
    """

    rater: str
    item: str
    cases: int
    pairs: int
    same: float
    weighted_kappa: float
    icc: float


def reliability(answers: pd.DataFrame) -> list[Reliability]:
    """Agreement with oneself, a rater and item, and of all raters together.

    Args:
        answers: Columns ``rater, case, method, kind, item, value``: of images of cases of the kind
            ``repeat`` and of their originals.

    Returns:
        Empty where no case was answered twice.
    """
    keys = ["rater", "case", "method", "item"]
    first = answers[answers["kind"] == "main"]
    second = answers[answers["kind"] == "repeat"]
    both = first.merge(second, on=keys, suffixes=("", "_again"))
    found = []
    for item, of_item in both.groupby("item", sort=True):
        groups = [*of_item.groupby("rater", sort=False), ("", of_item)]
        for rater, rows in groups:
            one, two = rows["value"].to_numpy(float), rows["value_again"].to_numpy(float)
            found.append(
                Reliability(
                    *(str(rater), str(item), len(rows.drop_duplicates(["rater", "case"]))),
                    *(len(rows), float((one == two).mean())),
                    *(weighted_kappa(one, two), icc(one, two)),
                )
            )
    return found


def weighted_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights.

    >>> round(weighted_kappa([1, 2, 3, 3], [1, 2, 3, 2]), 3)
    0.8
    """
    one, two = np.asarray(first, float), np.asarray(second, float)
    expected = ((one[:, None] - two[None, :]) ** 2).mean()
    return float(1 - ((one - two) ** 2).mean() / expected) if expected > 0 else float("nan")


def icc(first: ArrayLike, second: ArrayLike) -> float:
    """Intraclass correlation of two ratings of each subject: two-way, absolute agreement, single.

    >>> round(icc([1, 2, 3, 4], [1, 2, 3, 4]), 3)
    1.0
    """
    ratings = np.stack([np.asarray(first, float), np.asarray(second, float)], axis=1)
    n, k = ratings.shape
    if n < 2:
        return float("nan")
    mean = ratings.mean()
    rows = k * ((ratings.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((ratings.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    residual = ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0) + mean
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    spread = rows + (k - 1) * error + k / n * (columns - error)
    return float((rows - error) / spread) if spread > 0 else float("nan")
