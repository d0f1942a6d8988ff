"""From rows and rules to decisions.

A decision is made by the interval of the quantity, or of its paired difference: it *passes* where
the whole interval meets the demand, *fails* where the whole interval violates it, and is
*undecided* in between. All intervals hold together with the confidence of the policy (Bonferroni),
so that a run that meets every demand fails one of them with at most the rest of the probability,
and rather half of it, since an interval errs to either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.errors import InputError
from cas_metric.gating.policy import EACH, FAILED, LOW_RATE, LOWER_IS_BETTER, Policy, Rule
from cas_metric.statistics.aggregate import (
    BOUNDS,
    QUANTITIES,
    bounds_of_difference,
    case_clusters,
    is_rate,
    of_cases,
    part_of,
    real_clusters,
    scored,
)
from cas_metric.statistics.comparison import case_keys, difference_part, rate_difference
from cas_metric.statistics.intervals import TOO_FEW
from cas_metric.statistics.tail import reduction_intervals, samples, tail_statistics
from cas_metric.statistics.uncertainty import Interval, cluster_codes

if TYPE_CHECKING:
    import pandas as pd

PASS: Final = "pass"  # noqa: S105 - a verdict
FAIL: Final = "fail"
UNDECIDED: Final = "undecided"
VERDICTS: Final = (PASS, FAIL, UNDECIDED)


@dataclass(frozen=True)
class Decision:
    """What became of one rule for one method, or one class of it.

    Attributes:
        rule: The demand in words.
        method: Whose images were judged.
        label: Class that was judged; empty for all.
        verdict: ``pass``, ``fail`` or ``undecided``.
        estimate: The quantity, or how far it is above the reference.
        low: Lower end of its interval; NaN where there is none.
        high: Upper end.
        limit: What the interval was held against.
        level: Two-sided confidence of the interval.
        images: Images behind it, or common cases.
        clusters: Independent units among them.
        reason: Why it is undecided though there are images.
    """

    rule: str
    method: str
    label: str
    verdict: str
    estimate: float
    low: float
    high: float
    limit: float
    level: float
    images: int
    clusters: int
    reason: str = ""


def decide(
    policy: Policy, rows: pd.DataFrame, references: Mapping[str, pd.DataFrame | None]
) -> list[Decision]:
    """Judge every rule for every method, and class, that it speaks of.

    Args:
        policy: The rules.
        rows: Rows of the run.
        references: ``real``, ``floor`` and ``baseline`` to their rows; None, or no entry, where
            there are none.

    Raises:
        InputError: A rule speaks of a method, class, column or reference that is not there.
    """
    parts = [part for rule in policy.rules for part in _parts(rule, rows)]
    level = 1 - (1 - policy.confidence) / len(parts)
    return [_decide(rule, method, label, rows, references, level) for rule, method, label in parts]


def overall(decisions: Sequence[Decision]) -> str:
    """``fail`` where any decision is, else ``undecided`` where any is, else ``pass``."""
    found = {one.verdict for one in decisions}
    return next(verdict for verdict in (FAIL, UNDECIDED, PASS) if verdict in found)


def _parts(rule: Rule, rows: pd.DataFrame) -> list[tuple[Rule, str, str]]:
    """Every method, and class of it, that a rule speaks of."""
    methods = sorted(set(rows["method"].astype(str)))
    if rule.method is not None:
        if rule.method not in methods:
            raise _unknown(rule, "method", rule.method, methods)
        methods = [rule.method]
    labels = sorted(set(rows["label"].astype(str)))
    if rule.label is None:
        return [(rule, method, "") for method in methods]
    if rule.label != EACH and rule.label not in labels:
        raise _unknown(rule, "class", rule.label, labels)
    chosen = labels if rule.label == EACH else [rule.label]
    return [(rule, method, label) for method in methods for label in chosen]


def _unknown(rule: Rule, what: str, name: str, known: Sequence[str]) -> InputError:
    return InputError(
        f"rule {rule.text!r}: the run has no {what} {name!r}", fix=f"it has {', '.join(known)}"
    )


def _decide(
    rule: Rule,
    method: str,
    label: str,
    rows: pd.DataFrame,
    references: Mapping[str, pd.DataFrame | None],
    level: float,
) -> Decision:
    own = _of(rows[rows["method"].astype(str) == method], label)
    other = references.get(rule.against or "real")
    if rule.against and other is None:
        raise InputError(
            f"rule {rule.text!r}: there is no {rule.against} to hold the run against",
            fix="score against real images"
            if rule.against != "baseline"
            else "name one: `baseline:` in the policy, or --baseline RUN",
        )
    blank = Decision(
        *(rule.text, method, label, UNDECIDED, math.nan, math.nan, math.nan),
        *(math.nan, level, len(own), 0),
    )
    if not len(own):
        return replace(blank, reason=f"the method has no image of {label}")
    if rule.metric == LOW_RATE:
        _require_tail(rule, rows, references.get("real"), *([other] if rule.against else []))
    if other is not None:
        other = scored(_of(other, label))
    if rule.metric == FAILED:
        share = len(own) - len(scored(own))
        rate = share / max(len(own), 1)
        found = Interval(rate, rate, rate, level)
        return _verdict(rule, replace(blank, clusters=len(own)), found)
    own = scored(own)
    if rule.metric != LOW_RATE:
        _require_numbers(rule, own)
    if rule.against:
        assert other is not None
        real = references.get("real")
        real = None if real is None else scored(_of(real, label))
        return _against(rule, blank, own, other, real, level)
    return _absolute(rule, blank, own, other, level)


def _require_numbers(rule: Rule, own: pd.DataFrame) -> None:
    """Refuse a column that is not there, or whose cells are names and not quantities."""
    columns = sorted(own.select_dtypes(["number", "bool"]).columns)
    if rule.metric not in columns:
        what = f"column {rule.metric!r} of the run holds no numbers"
        raise InputError(
            f"rule {rule.text!r}: "
            + (what if rule.metric in own else f"the run has no column {rule.metric!r}"),
            fix=f"it has {', '.join(columns)}, and {LOW_RATE} and {FAILED}",
        )


def _of(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    return rows[rows["label"].astype(str) == label] if label else rows


def _absolute(
    rule: Rule, blank: Decision, own: pd.DataFrame, real: pd.DataFrame | None, level: float
) -> Decision:
    """A mean, or a low-alignment rate, against a number."""
    clusters = case_clusters(own)
    codes, count = cluster_codes(clusters, len(own))
    blank = replace(blank, images=len(own), clusters=count)
    if rule.metric == LOW_RATE:
        assert real is not None
        if lacking := _without_cas(own, real):
            return replace(blank, reason=lacking)
        real = of_cases(real, own)
        found = tail_statistics(
            own["cas"],
            real["cas"],
            clusters=clusters,
            real_clusters=real_clusters(real),
            level=level,
        ).rate
        return _verdict(rule, blank, found)
    values, dd = (
        own[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in (rule.metric, "dd")
    )
    if not np.isfinite(values).any():
        return replace(blank, reason=f"no image has {rule.metric}")
    part = part_of(rule.metric, values, dd, codes, count, level=level)
    found = part.interval(level, BOUNDS.get(rule.metric, (-math.inf, math.inf)))
    return _verdict(rule, blank, found, part.lacks)


def _require_tail(rule: Rule, *tables: pd.DataFrame | None) -> None:
    if any(table is None or not np.isfinite(scored(table)["cas"]).any() for table in tables):
        raise InputError(
            f"rule {rule.text!r}: a run, or its real images, has no CAS and so no tail",
            fix="score against real images; `missing` in summary.json says what lacks",
        )


def _without_cas(own: pd.DataFrame, real: pd.DataFrame) -> str:
    """What of one method or class has no CAS; empty where both do."""
    for what, table in (("image", own), ("real image", real)):
        if not np.isfinite(table["cas"]).any():
            return f"no {what} has a CAS"
    return ""


def _against(
    rule: Rule,
    blank: Decision,
    own: pd.DataFrame,
    other: pd.DataFrame,
    real: pd.DataFrame | None,
    level: float,
) -> Decision:
    """The difference to a reference, on the cases that both have."""
    ours, theirs, clusters = _paired(rule, own, other)
    codes, count = cluster_codes(clusters, len(ours))
    blank = replace(blank, images=len(ours), clusters=count)
    if not len(ours):
        return replace(blank, reason=f"no case in common with {rule.against}")
    if rule.metric == LOW_RATE:
        assert real is not None
        if lacking := _without_cas(own, real):
            return replace(blank, reason=lacking)
        own, other = (t[np.isin(case_keys(t), ours.index)] for t in (own, other))
        real = of_cases(real, own, other)
        sets = [(table["cas"], case_clusters(table)) for table in (own, other)]
        (mine, base, third), number = samples(sets, (real["cas"], real_clusters(real)))
        found, _ = reduction_intervals(mine, base, third, number, level=level)
        low, high = np.clip([-found.high, -found.low], *bounds_of_difference("dd"))
        return _verdict(rule, blank, Interval(-found.estimate, low, high, level))
    if count > 1 and _same_images(rule, ours, theirs):
        return _verdict(rule, blank, Interval(0.0, 0.0, 0.0, level))
    images = _images_of(own, ours), _images_of(other, theirs)
    pairs = {name: (ours[name].to_numpy(float), theirs[name].to_numpy(float)) for name in ours}
    values = pairs[rule.metric]
    shares = is_rate(np.concatenate([table[rule.metric].dropna() for table in (own, other)]))
    if shares:
        part = rate_difference(values, codes, count, level, images)
    else:
        whole = pairs.get("dd") if rule.metric == "cas" else None
        part = difference_part(values[0] - values[1], whole, codes, count, level, images=images)
    found = part.interval(level, bounds_of_difference("dd" if shares else rule.metric))
    return _verdict(rule, blank, found, part.lacks)


def _same_images(rule: Rule, ours: pd.DataFrame, theirs: pd.DataFrame) -> bool:
    """Whether every score of every case is the same, of which no estimate is needed.

    A diagnosis, or another 0 or 1, agrees by chance: the scores of finer scale must agree as well.
    """
    fine = [name for name in QUANTITIES if name in ours and name != "dd"]
    known = bool(fine) and bool(ours[fine].notna().any(axis=1).all())
    return known and ours[[*fine, rule.metric]].equals(theirs[[*fine, rule.metric]])


def _images_of(rows: pd.DataFrame, cases: pd.DataFrame) -> int:
    """Diagnosed images of these cases."""
    return int(rows["dd"].notna()[np.isin(case_keys(rows), cases.index)].sum())


def _paired(
    rule: Rule, own: pd.DataFrame, other: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Means of each common case in both sets, and what the cases belong to."""
    if rule.against != "baseline":  # a real image is its own case
        other = other.assign(reference=other["image"])
    columns = list(dict.fromkeys((rule.metric, *QUANTITIES)))
    columns = [name for name in columns if name in own and name in other]
    if rule.metric not in (*columns, LOW_RATE):
        raise InputError(
            f"rule {rule.text!r}: {rule.against} has no column {rule.metric!r}",
            fix="judge it by at_least or at_most",
        )
    keys = case_keys(own)
    ours = own[columns].groupby(keys).mean()
    theirs = other[columns].groupby(case_keys(other)).mean()
    needed = "cas" if rule.metric == LOW_RATE else rule.metric
    common = ours.index.intersection(theirs.index)
    gap = ours.loc[common, needed] - theirs.loc[common, needed]
    common = common[np.isfinite(gap.to_numpy(dtype=np.float64))]
    belongs = dict(zip(keys, case_clusters(own), strict=True))
    clusters = np.array([belongs[key] for key in common])
    return ours.loc[common], theirs.loc[common], clusters


def _verdict(rule: Rule, blank: Decision, found: Interval, lacks: str = TOO_FEW) -> Decision:
    """Hold an interval against the demand; ``lacks`` says why it has no limits, if so."""
    least = rule.at_least is not None or (
        rule.against is not None and rule.metric not in LOWER_IS_BETTER
    )
    limit = next(
        (float(end) for end in (rule.at_least, rule.at_most) if end is not None),
        -rule.margin if least else rule.margin,
    )
    filled = replace(blank, estimate=found.estimate, low=found.low, high=found.high, limit=limit)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return replace(filled, reason=lacks)
    # Measured from the limit towards what is demanded.
    worst, best = _signed(found, limit, least)
    verdict = PASS if worst >= 0 else FAIL if best < 0 else UNDECIDED
    return replace(filled, verdict=verdict)


def _signed(found: Interval, limit: float, least: bool) -> tuple[float, float]:
    if least:
        return found.low - limit, found.high - limit
    return limit - found.high, limit - found.low
