"""Whether raters can tell real images from synthetic ones: the visual Turing test, exactly.

Source: Fisher (1935) for the permutation of labels, of which his exact test and McNemar's exact
test are the special cases of one rater with one stratum, and with pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.uncertainty import Interval

if TYPE_CHECKING:
    import pandas as pd


class Turing(NamedTuple):
    """How well real and synthetic images were told apart.

    Attributes:
        rater: Whose calls; empty for those of all raters.
        calls: How many.
        real_called_real: Share of the real images.
        synthetic_called_real: Share of the synthetic images.
        accuracy: Mean of the shares of real and of synthetic images called rightly within a case,
            over cases; 0.5 is chance, whatever the share of real images.
        p: One-sided exact p-value that raters cannot tell them apart.
    """

    rater: str
    calls: int
    real_called_real: float
    synthetic_called_real: float
    accuracy: Interval
    p: float


def turing_test(calls: pd.DataFrame, rater: str = "") -> Turing:
    """Test the calls of one or several raters.

    Args:
        calls: Columns ``case``, ``image``, ``is_real`` (bool) and ``called_real`` (0 or 1); a row a
            rater and image.
        rater: Whose they are.

    Examples:
        >>> import pandas as pd
        >>> rows = [(c, f"{c}{r}", r == 1, r) for c in "abcde" for r in (0, 1)]
        >>> columns = ["case", "image", "is_real", "called_real"]
        >>> turing_test(pd.DataFrame(rows, columns=columns)).p == 1 / 2**5
        True
    """
    from cas_metric.statistics.intervals import mean_interval

    by_case = calls.pivot_table(index="case", columns="is_real", values="called_real")
    both = by_case.reindex(columns=[False, True]).dropna()
    right = (both[True] + 1 - both[False]).to_numpy() / 2
    shares = calls.groupby("is_real")["called_real"].mean()
    bounds = mean_interval(right) if len(right) else Interval(np.nan, np.nan, np.nan, CONFIDENCE)
    return Turing(
        rater=rater,
        calls=len(calls),
        real_called_real=float(shares.get(True, np.nan)),
        synthetic_called_real=float(shares.get(False, np.nan)),
        accuracy=bounds._replace(low=max(bounds.low, 0.0), high=min(bounds.high, 1.0)),
        p=exact_p(_strata(calls)),
    )


def _strata(calls: pd.DataFrame) -> Iterable[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Of each case: how many raters called each image real, and which images are."""
    for _, rows in calls.groupby("case", sort=True):
        images = rows.groupby("image").agg(
            score=("called_real", "sum"), is_real=("is_real", "first")
        )
        yield images["score"].to_numpy(np.int64), images["is_real"].to_numpy(bool)


def exact_p(strata: Iterable[tuple[NDArray[np.int64], NDArray[np.bool_]]]) -> float:
    """Chance of as many real images called real, were the labels dealt out anew in each stratum.

    Calls of several raters on one image stay together, so that raters need not be independent.

    Args:
        strata: Of each: calls of "real" an image got, ``(n,)``, and whether it is real, ``(n,)``.

    Returns:
        In (0, 1]; 1 where no stratum holds both kinds.

    Examples:
        >>> scores, is_real = np.array([1, 1, 0, 0]), np.array([True, True, False, False])
        >>> round(exact_p([(scores, is_real)]), 6)  # one way of six
        0.166667
    """
    observed, chances = 0, np.ones(1)
    for scores, is_real in strata:
        observed += int(scores[is_real].sum())
        chances = np.convolve(chances, _sum_of_draws(scores, int(is_real.sum())))
    return float(min(chances[observed:].sum(), 1.0))


def _sum_of_draws(scores: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Chances of every sum of ``count`` scores drawn without replacement."""
    ways = np.zeros((count + 1, int(scores.sum()) + 1))
    ways[0, 0] = 1.0
    for number, score in enumerate(scores, 1):
        for drawn in range(min(number, count), 0, -1):
            moved = np.roll(ways[drawn - 1], score)
            moved[:score] = 0.0
            ways[drawn] += moved
    total = ways[count].sum()
    return np.asarray(ways[count] / total)
