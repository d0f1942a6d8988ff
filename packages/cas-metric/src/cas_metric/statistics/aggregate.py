"""From the rows of one method to the aggregates of ``summary.json``.

The headline number is the micro average: the unweighted mean over images (§4.1.4). Beside it stands
the class-balanced one, the mean of the class means, which a method cannot raise by doing well on
the frequent classes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cas_metric.protocol import CONFIDENCE, PRIMITIVES
from cas_metric.statistics.balanced import balanced_mean_part, balanced_rate_part
from cas_metric.statistics.intervals import Part, combine, mean_part, rate_part
from cas_metric.statistics.uncertainty import Codes, Floats, cluster_codes

if TYPE_CHECKING:
    import pandas as pd

#: Quantities of a row that are averaged, in table order.
QUANTITIES = (*PRIMITIVES, "dd_prob", "cas")
#: What the 0/1 diagnosis weighs in the CAS.
DD_WEIGHT = 1 / len(PRIMITIVES)
#: What the mean of each can be; Student's limits know nothing of it.
BOUNDS = {
    **dict.fromkeys(("vdc", "ccs", "sfs"), (-1.0, 1.0)),
    **dict.fromkeys(("dd", "dd_prob"), (0.0, 1.0)),
    "cas": (DD_WEIGHT - 1.0, 1.0),
}
#: What images may have in common, the first that a row names.
UNITS = ("patient", "reference", "id")


def bounds_of_difference(name: str) -> tuple[float, float]:
    """What a difference of two means of a quantity can be.

    Examples:
        >>> bounds_of_difference("cas"), bounds_of_difference("other")
        ((-1.75, 1.75), (-inf, inf))
    """
    low, high = BOUNDS.get(name, (-np.inf, np.inf))
    return low - high, high - low


def cluster_unit(rows: pd.DataFrame) -> str:
    """The first of :data:`UNITS` that some row names; empty where none names any."""
    return next((name for name in UNITS if name in rows and (as_text(rows[name]) != "").any()), "")


def as_text(column: pd.Series) -> pd.Series:
    """A column of any type as text, empty where it has no value."""
    return column.astype("string").fillna("").astype(str)


def case_clusters(rows: pd.DataFrame) -> np.ndarray:
    """What belongs together: the patient, else the reference image, else the id, else the row.

    A row that names no patient is of the one that another row of its reference names. Without any
    it is a case of its own, and the others still belong to their patients.

    Returns:
        ``(N,)`` labels.

    Examples:
        >>> import pandas as pd
        >>> case_clusters(pd.DataFrame({"patient": ["p", "p", ""], "id": ["a", "b", "c"]})).tolist()
        ['patient p', 'patient p', 'id c']
    """
    named = _patients(rows)
    labels = np.array([f"row {place}" for place in range(len(rows))], dtype=object)
    for unit in reversed(UNITS):
        if unit in rows:
            texts = named if unit == "patient" else as_text(rows[unit])
            labels = np.where(texts != "", f"{unit} " + texts.to_numpy(dtype=object), labels)
    return labels.astype(str)


def without_patient(rows: pd.DataFrame, what: str) -> list[str]:
    """A warning where some of the rows, which are ``what``, name their patient and others do not.

    Examples:
        >>> import pandas as pd
        >>> without_patient(pd.DataFrame({"patient": ["p", "p", ""]}), "images")
        ['1 of 3 images name no patient: each counts as a case of its own']
    """
    lone = int((_patients(rows) == "").sum())
    if lone in (0, len(rows)):
        return []
    return [f"{lone} of {len(rows)} {what} name no patient: each counts as a case of its own"]


def _patients(rows: pd.DataFrame) -> pd.Series:
    """The patient of each row, by other rows of its reference where it names none itself."""
    import pandas as pd

    named = as_text(rows["patient"]) if "patient" in rows else pd.Series("", rows.index, dtype=str)
    if "reference" not in rows or not 0 < (named == "").sum() < len(rows):
        return named
    references = as_text(rows["reference"])
    known = dict(zip(references[named != ""], named[named != ""], strict=True)) | {"": ""}
    return named.where(named != "", references.map(known).fillna(""))


def real_clusters(rows: pd.DataFrame) -> np.ndarray:
    """The same labels for real images: the patient, else the image itself.

    A generated image names its case by the real image it refers to, so the two tables share labels
    and a resampled case brings both along.
    """
    return case_clusters(rows.assign(reference=rows["image"]) if "image" in rows else rows)


def graded_cas(rows: pd.DataFrame) -> np.ndarray:
    """CAS with the probability of the label in place of its 0/1 diagnosis, ``(N,)``."""
    return rows[["vdc", "ccs", "dd_prob", "sfs"]].to_numpy(dtype=np.float64).mean(axis=1)


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose image was scored, wholly or in part."""
    return rows[rows["status"] != "failed"] if "status" in rows else rows


def of_cases(real: pd.DataFrame, *sets: pd.DataFrame) -> pd.DataFrame:
    """The scored real images of the cases that some set holds scored images of.

    What covers some of the cases only would otherwise be held against a threshold of other cases.

    Args:
        real: Rows of real images, of Real or of the floor.
        sets: Rows of generated images, whose ``reference`` names the ``image`` of a real one.

    Returns:
        All scored real images where the sets name none of them.

    Examples:
        >>> import pandas as pd
        >>> real = pd.DataFrame({"image": ["a.png", "b.png"]})
        >>> of_cases(real, pd.DataFrame({"reference": ["b.png"]}))["image"].tolist()
        ['b.png']
    """
    known = scored(real)
    named = {name for rows in sets if "reference" in rows for name in scored(rows)["reference"]}
    covered = known[known["image"].isin(named)] if "image" in known else known.iloc[:0]
    return covered if len(covered) else known


def summarise(
    rows: pd.DataFrame,
    *,
    classes: Sequence[str] | None = None,
    level: float = CONFIDENCE,
) -> dict[str, Any]:
    """Means, class-balanced means, intervals and per-class means of one method's rows.

    DD has Wilson's interval at the effective sample size, every other quantity Student's over
    clusters; that of CAS adds the two, since the 0/1 diagnosis is a quarter of it.

    Args:
        rows: Rows of one method: ``label``, ``status``, the primitives, ``dd_prob`` and ``cas``.
            Failed rows are counted and left out; a NaN is left out of its own column.
        classes: The classes over which the class-balanced mean is taken; those of the rows, failed
            ones included, by default.
        level: Nominal coverage of the intervals.

    Returns:
        ``n`` (images scored), ``n_failed``, ``clusters`` (how many independent units, and their
        ``cluster_unit``), and ``mean``, ``interval``, ``class_balanced``,
        ``class_balanced_interval`` (quantity to number or ``[low, high]``), ``per_class`` (label to
        ``n`` and means). A quantity without any value is NaN, and so is the class-balanced mean of
        one that some class lacks: ``class_balanced_lacks`` names the classes. Limits are NaN with
        one cluster, or where nothing varies.

    Examples:
        >>> import pandas as pd
        >>> rows = pd.read_csv("demo/run/per_image.csv")
        >>> found = summarise(rows[rows["method"] == "faithful"])
        >>> found["n"], found["n_failed"], sorted(found["mean"])
        (16, 0, ['cas', 'ccs', 'dd', 'dd_prob', 'sfs', 'vdc'])
    """
    kept = scored(rows)
    names = [name for name in QUANTITIES if name in kept]
    values = {name: kept[name].to_numpy(dtype=np.float64) for name in names}
    labels = kept["label"].astype(str).to_numpy()
    expected = sorted(set(rows["label"].astype(str)) if classes is None else map(str, classes))
    codes, count = cluster_codes(case_clusters(kept), len(kept))
    result: dict[str, Any] = {
        "n": len(kept),
        "n_failed": len(rows) - len(kept),
        "clusters": count,
        "cluster_unit": cluster_unit(kept) or "row",
        **{key: {} for key in ("mean", "interval", "class_balanced", "class_balanced_interval")},
        "per_class": _per_class(values, labels),
        "class_balanced_lacks": {},
    }
    for name in names:
        column, dd = values[name], values.get("dd")
        plain = part_of(name, column, dd, codes, count, level=level)
        lacking = [k for k in expected if not np.isfinite(column[labels == k]).any()]
        told = lacking and len(lacking) < len(expected)
        if told:
            result["class_balanced_lacks"][name] = lacking
        balanced = None if lacking else part_of(name, column, dd, codes, count, labels, level=level)
        for key, part in (("", plain), ("class_balanced", balanced)):
            found = part.interval(level, BOUNDS[name]) if part is not None else None
            result[key or "mean"][name] = found.estimate if found else float("nan")
            ends = [found.low, found.high] if found else [float("nan")] * 2
            result[f"{key}_interval" if key else "interval"][name] = ends
    return result


def part_of(
    name: str,
    values: Floats,
    dd: Floats | None,
    codes: Codes,
    count: int,
    labels: np.ndarray | None = None,
    *,
    level: float = CONFIDENCE,
) -> Part:
    """The mean of one quantity with limits that suit it.

    Args:
        name: Of the quantity: ``dd`` is a rate, ``cas`` holds one, and a column beyond those of a
            row is one where it holds zeros and ones.
        values: ``(N,)``; NaN is left out.
        dd: ``(N,)`` the 0/1 diagnosis of the same rows, where there is one.
        codes: ``(N,)`` cluster of each row.
        count: Clusters.
        labels: ``(N,)`` classes that weigh alike; None weighs images alike.
        level: Nominal coverage.
    """
    kept = np.isfinite(values)
    parts_of = (values[kept], codes[kept], labels[kept] if labels is not None else None)

    def mean(column: Floats) -> Part:
        if parts_of[2] is None or not len(column):
            return mean_part(column, parts_of[1], count, level)
        return balanced_mean_part(column, parts_of[2], parts_of[1], count, level)

    def rate(column: Floats) -> Part:
        if parts_of[2] is None:
            return rate_part(column, parts_of[1], count, level)
        return balanced_rate_part(column, parts_of[2], parts_of[1], count, level)

    if (name == "dd" or name not in QUANTITIES) and is_rate(parts_of[0]):
        return rate(parts_of[0])
    diagnosis = None if dd is None else dd[kept]
    if name == "cas" and diagnosis is not None and is_rate(diagnosis):
        rest = mean(parts_of[0] - DD_WEIGHT * diagnosis)
        return combine([rest, rate(diagnosis)], [1.0, DD_WEIGHT])
    return mean(parts_of[0])


def is_rate(values: Floats) -> bool:
    """Whether there are values, all of them 0 or 1."""
    return bool(len(values)) and bool(np.isin(values, (0.0, 1.0)).all())


def _per_class(values: dict[str, Floats], labels: np.ndarray) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for label in np.unique(labels):
        own = labels == label
        means = {name: _mean(column[own]) for name, column in values.items()}
        found[str(label)] = {"n": int(own.sum()), **means}
    return found


def _mean(values: Floats) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")
