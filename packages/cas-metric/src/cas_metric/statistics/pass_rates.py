"""Pass rates of a checklist audit: of items, images, classes and methods, with their uncertainty.

The unit is the image: its pass rate is the share of its assessable items that are present, and the
pass rate of a method is the mean over its images. ``not assessable`` is no failure of the image; it
leaves the denominator and is counted beside it. An image without a verdict is in no rate.

Source: §4.2.7 and Table 3b of the paper, which give one pass rate a method and data set; that the
mean is taken over images, and all intervals, are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.aggregate import as_text, case_clusters
from cas_metric.statistics.comparison import case_table, paired_differences
from cas_metric.statistics.intervals import jackknife_interval, mean_interval, rate_interval
from cas_metric.statistics.uncertainty import Floats, cluster_codes

if TYPE_CHECKING:
    import pandas as pd

PRESENT: Final = "present"
ABSENT: Final = "absent"
NOT_ASSESSABLE: Final = "not assessable"
VERDICTS: Final = (PRESENT, ABSENT, NOT_ASSESSABLE)

#: Name of the group of all methods in :func:`agreement_with_score`.
ALL_METHODS: Final = "all methods"
#: The coefficients that it gives.
COEFFICIENTS: Final = ("spearman", "spearman_within_class", "point_biserial")
_KEYS: Final = ["method", "seed", "id"]
#: Weights held at once; with what is made of them, below 100 MB.
_BLOCK_ELEMENTS: Final = 1_000_000


def verdict_values(verdicts: ArrayLike) -> Floats:
    """1 for ``present``, 0 for ``absent``, NaN for what does not count, ``(N,)``."""
    known = {PRESENT: 1.0, ABSENT: 0.0}
    return np.array([known.get(word, np.nan) for word in np.asarray(verdicts, dtype=object)], float)


def image_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row an image.

    Args:
        rows: One row an item: ``method, seed, id, label, verdict`` (empty without one) and, where
            known, ``reference`` and ``patient``.

    Returns:
        ``method, seed, id``, the other columns that are constant within an image, ``items``, the
        count of each verdict, ``pass_rate`` (NaN where nothing could be assessed), ``complete``
        (1 where every assessable item is present, else 0) and ``answered``.
    """
    counted = rows[_KEYS].assign(
        items=1, **{word: (as_text(rows["verdict"]) == word).astype(int) for word in VERDICTS}
    )
    groups = counted.groupby(_KEYS, sort=False, dropna=False)
    table = groups.sum().reset_index()
    kept = [c for c in ("label", "image", "reference", "patient", "status") if c in rows]
    table[kept] = rows.groupby(_KEYS, sort=False, dropna=False)[kept].first().to_numpy()
    assessed = table[PRESENT] + table[ABSENT]
    table["pass_rate"] = table[PRESENT] / assessed.where(assessed > 0)
    table["complete"] = (table[ABSENT] == 0).astype(float).where(assessed > 0)
    table["answered"] = table[list(VERDICTS)].sum(axis=1) > 0
    return table


def summarise_audit(
    rows: pd.DataFrame,
    *,
    level: float = CONFIDENCE,
) -> dict[str, Any]:
    """Every pass rate of an audit, as plain values.

    Args:
        rows: See :func:`image_table`; of one or more methods.
        level: Nominal coverage; intervals hold patients, references or images together.

    Returns:
        ``methods``, each with ``images``, ``unanswered``, counts of verdicts, ``pass_rate`` (mean
        over images), ``item_rate`` (all items alike), ``complete`` (images that lack nothing),
        ``class_balanced`` (NaN where no image of some class could be assessed:
        ``class_balanced_lacks`` names them), ``per_class`` (with ``rated``, the images behind a
        mean) and ``items``; and ``pairs``, the paired differences between methods on their common
        cases.
    """
    images = image_table(rows)
    names = list(dict.fromkeys(images["method"]))
    methods = [
        _method(name, rows[rows["method"] == name], images[images["method"] == name], level)
        for name in names
    ]
    return {"methods": methods, "pairs": _pairs(images, level)}


def _method(name: str, rows: pd.DataFrame, images: pd.DataFrame, level: float) -> dict[str, Any]:
    clusters = case_clusters(images)
    per_class: dict[str, dict[str, Any]] = {
        str(label): {
            "images": len(group),
            "unanswered": int((~group["answered"]).sum()),
            "rated": int(group["pass_rate"].notna().sum()),
            "pass_rate": _pass_rate(group, case_clusters(group), level),
        }
        for label, group in images.groupby("label", sort=False)
    }
    means = {label: one["pass_rate"]["estimate"] for label, one in per_class.items()}
    return {
        "method": name,
        "images": len(images),
        "unanswered": int((~images["answered"]).sum()),
        **_counts(rows),
        "pass_rate": _pass_rate(images, clusters, level),
        "item_rate": _item_rate(rows, level),
        "complete": rate_interval(images["complete"], clusters=clusters, level=level)._asdict(),
        "class_balanced": float(np.mean([*means.values()])) if means else float("nan"),
        "class_balanced_lacks": [label for label, mean in means.items() if not np.isfinite(mean)],
        "per_class": per_class,
        "items": [
            {
                "label": str(label),
                "attribute": str(attribute),
                **_counts(group),
                "rate": _item_rate(group, level),
            }
            for (label, attribute), group in rows.groupby(["label", "attribute"], sort=False)
        ],
    }


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {word.replace(" ", "_"): int((rows["verdict"] == word).sum()) for word in VERDICTS}


def _item_rate(rows: pd.DataFrame, level: float) -> dict[str, float]:
    """Share of all assessable items that are present."""
    values = verdict_values(rows["verdict"])
    return rate_interval(values, clusters=case_clusters(rows), level=level)._asdict()


def _pass_rate(
    images: pd.DataFrame, clusters: NDArray[Any], level: float, suffix: str = ""
) -> dict[str, float]:
    """Mean pass rate of images, each a share of its own number of items."""
    rates, items = images[f"pass_rate{suffix}"], images[f"{PRESENT}"] + images[f"{ABSENT}"]
    trials = int(items[rates.notna()].sum())
    return rate_interval(rates, clusters=clusters, level=level, trials=trials)._asdict()


def _pairs(images: pd.DataFrame, level: float) -> list[dict[str, Any]]:
    """Paired differences of the methods that share cases."""
    table, clusters = case_table(images, "pass_rate")
    shared = table.notna().astype(int)
    together = shared.T @ shared
    if len(table.columns) < 2 or (together.to_numpy() == 0).any():
        return []
    return [
        {
            **one._asdict(),
            "difference": one.difference._asdict(),
            "win_rate": one.win_rate._asdict(),
            "p": one.p.value,
            "p_exact": one.p.exact,
        }
        for one in paired_differences(table, clusters=clusters, level=level)
    ]


def compare_with_control(
    own: pd.DataFrame,
    control: pd.DataFrame,
    *,
    level: float = CONFIDENCE,
) -> dict[str, dict[str, Any]]:
    """Pass rates on the checklist of another class, which an image should not pass.

    An evaluator that says "present" to everything gives every method a high pass rate; the
    difference shows it.

    Args:
        own: Of :func:`image_table`, of the images on the checklists of their classes.
        control: The same images on those of other classes.
        level: Nominal coverage.

    Returns:
        Method to ``n``, ``pass_rate`` on the other checklist, and ``difference``, own minus other,
        over the images that have both.
    """
    both = own.merge(control[[*_KEYS, "pass_rate"]], on=_KEYS, suffixes=("", "_control"))
    found = {}
    for name, group in both.groupby("method", sort=False):
        clusters = case_clusters(group)
        gap = group["pass_rate"] - group["pass_rate_control"]
        found[str(name)] = {
            "n": int(gap.notna().sum()),
            "pass_rate": _pass_rate(group, clusters, level, "_control"),
            "difference": mean_interval(gap, clusters=clusters, level=level)._asdict(),
        }
    return found


def agreement_with_score(
    images: pd.DataFrame,
    score: str = "ccs",
    *,
    level: float = CONFIDENCE,
) -> dict[str, dict[str, Any]]:
    """How far the pass rates of images go with a score of theirs.

    A text-image cosine is higher for some checklists than for others whatever the image shows, so
    ``spearman_within_class`` correlates ranks taken within each class.

    Args:
        images: Of :func:`image_table`, with the column ``score``.
        score: Name of the score.
        level: Nominal coverage.

    Returns:
        Method (and :data:`ALL_METHODS` where there are several) to ``n``, ``spearman`` (pass rate
        with the score), ``spearman_within_class`` and ``point_biserial`` (whether every assessable
        item is present, with the score); a coefficient is NaN where one side is constant.
    """
    known = images[np.isfinite(images["pass_rate"]) & np.isfinite(images[score].astype(float))]
    groups = [(str(name), group) for name, group in known.groupby("method", sort=False)]
    if len(groups) > 1:
        groups.append((ALL_METHODS, known))
    found: dict[str, dict[str, Any]] = {}
    for name, group in groups:
        scores, rates = (
            group[column].to_numpy(dtype=np.float64) for column in (score, "pass_rate")
        )
        complete = group["complete"].to_numpy(dtype=np.float64)
        labels = np.unique(group["label"].astype(str), return_inverse=True)[1]
        codes, count = cluster_codes(case_clusters(group), len(group))
        parts = []
        for weights in _left_out(codes, count):
            ranked = weighted_ranks(scores, weights), weighted_ranks(rates, weights)
            within = (_within(scores, labels, weights), _within(rates, labels, weights))
            parts.append(
                [
                    weighted_correlation(*ranked, weights),
                    weighted_correlation(*within, weights),
                    weighted_correlation(scores[None], complete[None], weights),
                ]
            )
        every = np.concatenate([np.array(part) for part in parts], axis=1)
        found[name] = {"n": len(group)} | {
            coefficient: jackknife_interval(
                values[0], values[1:], level=level, scale=(np.arctanh, np.tanh)
            )._asdict()
            for coefficient, values in zip(COEFFICIENTS, every, strict=True)
        }
    return found


def _left_out(codes: NDArray[np.intp], count: int) -> Iterator[Floats]:
    """Weights of the rows: all of them, then without each cluster, so many as memory allows."""
    yield np.ones((1, len(codes)))
    together = max(1, _BLOCK_ELEMENTS // max(len(codes), 1))
    for start in range(0, count, together):
        left = np.arange(start, min(start + together, count))
        yield (codes[None, :] != left[:, None]).astype(np.float64)


def weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Average ranks in samples that hold each value as often as its weight says.

    Args:
        values: ``(N,)``.
        weights: ``(R, N)`` whole numbers: how often each value is in each of R samples.

    Returns:
        ``(R, N)``; the rank of a value that a sample does not hold means nothing.
    """
    _, tied = np.unique(values, return_inverse=True)
    totals = np.zeros((len(weights), int(tied.max(initial=-1)) + 1))
    np.add.at(totals.T, tied, weights.T)
    middles = np.cumsum(totals, axis=1) - (totals - 1) / 2
    return middles[:, tied]


def weighted_correlation(left: Floats, right: Floats, weights: Floats) -> Floats:
    """Pearson's coefficient of R samples at once.

    Args:
        left: ``(R, N)``, or ``(1, N)`` where it is the same in all samples.
        right: The same of the other quantity.
        weights: ``(R, N)`` how often each pair is in each sample.

    Returns:
        ``(R,)``; NaN where a side is constant.
    """
    size = weights.sum(axis=1, keepdims=True)
    left, right = (
        side - (weights * side).sum(axis=1, keepdims=True) / size for side in (left, right)
    )
    squares = [(weights * side * side).sum(axis=1) for side in (left, right)]
    product = (weights * left * right).sum(axis=1)
    # Rounding leaves a trace of spread where there is none.
    flat = np.minimum(*squares) <= 1e-12 * size[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flat, np.nan, product / np.sqrt(squares[0] * squares[1]))


def _within(values: Floats, labels: NDArray[np.intp], weights: Floats) -> Floats:
    """Ranks within each class, centred at zero and scaled to its size, ``(R, N)``."""
    ranks = np.empty(weights.shape)
    for label in np.unique(labels):
        members = labels == label
        own = weights[:, members]
        size = np.maximum(own.sum(axis=1, keepdims=True), 1)
        ranks[:, members] = (weighted_ranks(values[members], own) - (size + 1) / 2) / size
    return ranks
