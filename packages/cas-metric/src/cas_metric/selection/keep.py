"""From scores to the images that are kept; every refusal with its reason.

Filters run in one order: failed, copied, below the level, beyond the risk, beyond the top share,
beyond the size of the smallest group. Ties are broken by method, seed and id, so that the same
tables give the same choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import SMALL_CLASS
from cas_metric.selection.rule import Keep

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs import Run

Floats = NDArray[np.float64]

#: Columns that name an image.
KEYS: Final = ("method", "seed", "id")


def levels(scores: ArrayLike, labels: ArrayLike, real: ArrayLike, real_labels: ArrayLike) -> Floats:
    """``(N,)`` conformal rank of each score among those of real images of its class, in (0, 1].

    Of real images a share of at most alpha has a level of alpha or less. NaN where there is no
    score, no label, or no real image of the class.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``.
        real: ``(M,)``.
        real_labels: ``(M,)``.
    """
    import pandas as pd

    values, known = np.asarray(scores, dtype=np.float64), np.asarray(real, dtype=np.float64)
    both = [np.asarray(each, dtype=object) for each in (labels, real_labels)]
    codes, names = pd.factorize(np.concatenate(both))  # -1 where a label is missing
    classes, theirs = codes[: len(values)], codes[len(values) :]
    found = np.full(len(values), np.nan)
    for code in range(len(names)):
        calibration = np.sort(known[(theirs == code) & np.isfinite(known)])
        own = (classes == code) & np.isfinite(values)
        if len(calibration):
            below = np.searchsorted(calibration, values[own], side="right")
            found[own] = (below + 1) / (len(calibration) + 1)
    return found


def too_small(run: Run, alpha: float) -> list[str]:
    """A sentence on classes of so few real images that one below all of them passes ``alpha``."""
    block = run.summary.get("cas_v2") or {}
    made: dict[str, int] = (block.get("calibration") or {}).get("ranked_among") or {}
    if run.floor is not None and (getattr(run, "calibrated", None) is None or not made):
        real = run.floor["label"][run.floor["cas"].notna()]
        sizes = real[real.isin(run.rows["label"])].value_counts().to_dict()
        passes = "none can be refused"
    else:  # small classes are ranked in together, and ties are broken at random
        small = [name for name, n in made.items() if 0 < n < SMALL_CLASS]
        sizes = made | dict.fromkeys(small, sum(made[name] for name in small))
        passes = "only some at random can be refused"
    few = sorted(str(name) for name, n in sizes.items() if n and exactly(alpha) * (n + 1) < 1)
    if not few:
        return []
    found = "–".join(
        str(n) for n in sorted({min(sizes[k] for k in few), max(sizes[k] for k in few)})
    )
    return [
        f"alpha {alpha:g} needs {math.ceil(1 / exactly(alpha)) - 1} real images of a class; of "
        f"{', '.join(few)} there are {found}, so that of images below every real one {passes}: "
        "score against more, or keep by top:0.5 or a larger alpha"
    ]


def risk_threshold(scores: ArrayLike, good: ArrayLike, risk: float) -> float:
    """The lowest score to keep so that at most a share ``risk`` of all images is kept and bad.

    The loss of an image is 1 where it is bad and kept; it can only fall as the threshold rises, so
    conformal risk control holds: the expected share for a further image of the same kind is at most
    ``risk``. That is a share of all images, not of those that are kept.

    Args:
        scores: ``(n,)`` of the labelled images, finite.
        good: ``(n,)`` whether each is good.
        risk: In (0, 1).

    Returns:
        Images with at least this score are kept; infinity where no threshold is low enough.

    Raises:
        InputError: So few are labelled that nothing could be kept.

    Source: Angelopoulos, Bates, Fisch, Lei and Schuster (2024), *Conformal Risk Control*, eq. (4).

    Examples:
        >>> risk_threshold([0.1, 0.2, 0.3, 0.4], [False, True, True, True], 0.25)
        0.2
    """
    values, bad = np.asarray(scores, dtype=np.float64), ~np.asarray(good, dtype=bool)
    n, share = len(values), exactly(risk)
    if share * (n + 1) < 1:
        raise InputError(
            f"{n} labelled images cannot hold a risk of {risk:g}",
            fix=f"label at least {math.ceil(1 / share) - 1}",
        )
    allowed = math.floor(share * (n + 1) - 1)  # bad images that may be kept
    candidates = np.unique(values)
    for threshold in candidates:
        if int((bad & (values >= threshold)).sum()) <= allowed:
            return float(threshold)
    return math.inf


def exactly(share: float) -> Fraction:
    """A share as it is written, not as it is stored: 0.55 of 100 is 55.

    Examples:
        >>> math.ceil(exactly(0.55) * 100), math.ceil(0.55 * 100)
        (55, 56)
    """
    return Fraction(repr(float(share)))


def choose(
    rows: pd.DataFrame,
    level: ArrayLike,
    keep: Keep,
    *,
    copies: Mapping[int, str] | None = None,
    threshold: float = -math.inf,
    balance: Sequence[str] = (),
) -> pd.DataFrame:
    """Which rows are kept.

    Args:
        rows: ``N`` rows of a run.
        level: ``(N,)`` of :func:`levels`, or ``alignment`` of cas-v2.
        keep: Level and share.
        copies: Position of a row to what it is a copy of.
        threshold: Of :func:`risk_threshold`.
        balance: Columns; every combination of their values keeps as many images as the smallest.

    Returns:
        ``method, seed, id, label, level, kept`` and ``reason`` (empty where kept), in the order of
        the rows.

    Raises:
        InputError: A column to balance by is not there, or has empty cells.
    """
    table = rows[[*KEYS, "label"]].reset_index(drop=True)
    table["level"] = np.asarray(level, dtype=np.float64)
    status = rows["status"].to_numpy()
    reasons = np.full(len(table), "", dtype=object)
    reasons[status == "failed"] = "the image could not be scored"
    for place, what in (copies or {}).items():
        reasons[place] = reasons[place] or what
    refuse = _Refusals(reasons)
    values = table["level"].to_numpy()
    refuse(~np.isfinite(values), "has no score to be chosen by")
    if keep.alpha is not None:
        refuse(values <= keep.alpha, f"lower than all but {keep.alpha:g} of real images")
    refuse(values < threshold, f"below {threshold:.3g}, the threshold of the risk")
    if keep.top is not None:
        _keep_top(table, rows, refuse, keep.top)
    if balance:
        _balance(table, rows, refuse, balance)
    return table.assign(kept=reasons == "", reason=reasons)


class _Refusals:
    """Reasons so far; the first one of an image stays."""

    def __init__(self, reasons: NDArray[np.object_]) -> None:
        self.reasons = reasons

    @property
    def left(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.reasons == ""
        return found

    def __call__(self, where: NDArray[np.bool_], why: str) -> None:
        self.reasons[where & self.left] = why


def _best_first(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table by falling level, then CAS, then name."""
    ranked = table.assign(_cas=rows["cas"].to_numpy(), _name=table["id"].astype(str))
    return ranked.sort_values(
        ["level", "_cas", "method", "seed", "_name"],
        ascending=[False, False, True, True, True],
        kind="stable",
    )


def _keep_top(table: pd.DataFrame, rows: pd.DataFrame, refuse: _Refusals, share: float) -> None:
    """The share of the images of each method and class, of those that could be scored."""
    ranked = _best_first(table, rows)
    scored = np.isfinite(table["level"].to_numpy())
    for _, group in ranked.groupby(["method", "label"], sort=True):
        usable = [int(k) for k in group.index if scored[k]]
        beyond = np.zeros(len(table), dtype=bool)
        beyond[usable[math.ceil(exactly(share) * len(usable)) :]] = True
        refuse(beyond, f"not in the best {share:.0%} of its class")


def _balance(
    table: pd.DataFrame, rows: pd.DataFrame, refuse: _Refusals, columns: Sequence[str]
) -> None:
    for column in columns:
        if column not in rows:
            raise InputError(
                f"the run has no column {column!r} to balance by",
                fix=f"it has {', '.join(rows.columns)}",
            )
        empty = rows[column].isna() | (rows[column].astype(str) == "")
        if empty.any():
            raise InputError(
                f"{int(empty.sum())} images have no {column}, which is to be balanced by",
                fix="fill the column in the manifest and score again, or leave it out",
            )
    ranked = _best_first(table, rows)
    ranked = ranked[refuse.left[ranked.index]]
    if ranked.empty:
        return
    keys = rows.reset_index(drop=True).loc[ranked.index, list(columns)].astype(str)
    place = ranked.groupby([keys[name] for name in columns]).cumcount()
    smallest = int(place.groupby([keys[name] for name in columns]).size().min())
    beyond = np.zeros(len(table), dtype=bool)
    beyond[place.index[place >= smallest]] = True
    refuse(beyond, f"beyond {smallest}, the size of the smallest group of {', '.join(columns)}")
