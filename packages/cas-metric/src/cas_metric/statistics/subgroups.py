"""Does a generator serve every group of patients alike?

Scores of each group of an attribute (sex, age, site, skin type), and the gaps between groups. A
table of many groups shows a gap by chance, so intervals are simultaneous over all groups and
p-values are corrected over all gaps.

Source: Sidak (1967); the gaps in ``subgroup_gaps.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE
from cas_metric.statistics.aggregate import BOUNDS, as_text, case_clusters
from cas_metric.statistics.intervals import mean_interval, rate_interval
from cas_metric.statistics.subgroup_gaps import FEWEST_CLUSTERS, clusters_with, gaps_between
from cas_metric.statistics.uncertainty import Codes, Floats, cluster_codes

if TYPE_CHECKING:
    import pandas as pd

#: Numbers with more different values than this are cut into as many groups of about equal size.
MOST_VALUES: Final = 8
BINS: Final = 4
PERMUTATIONS: Final = 4999
#: Quantity to its heading.
QUANTITIES: Final = {"cas": "CAS", "low_rate": "low-alignment rate", "failure_rate": "failures"}


class Subgroups(NamedTuple):
    """Scores by group.

    Attributes:
        groups: One row a group: ``attribute, group, n, clusters``, ``scored`` (clusters with a CAS)
            and each quantity with ``_low`` and ``_high`` of its simultaneous interval.
        gaps: One row a pair of groups and quantity of which both have :data:`FEWEST_CLUSTERS`:
            ``attribute, quantity, group, other, gap`` with ``low``, ``high`` and the corrected
            ``p``.
        level: Simultaneous coverage.
        notes: What a person should know: the smallest group, groups too small to compare.
    """

    groups: pd.DataFrame
    gaps: pd.DataFrame
    level: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "groups": self.groups.to_dict("records"),
            "gaps": self.gaps.to_dict("records"),
            "level": self.level,
            "notes": list(self.notes),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Subgroups:
        """What :meth:`as_dict` made, read back."""
        import pandas as pd

        groups, gaps = (
            # What JSON calls null is a number that there is none of.
            pd.DataFrame(
                [{k: math.nan if v is None else v for k, v in row.items()} for row in plain[name]]
            )
            for name in ("groups", "gaps")
        )
        return cls(groups, gaps, plain["level"], tuple(plain["notes"]))


def attribute_groups(
    table: pd.DataFrame, names: Sequence[str], *, reference: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Columns of text as groups; numbers of many values are cut at their quartiles.

    Most of what is named has to be a number; a few other words, such as ``unknown``, are groups of
    their own. A comma may stand for the decimal point.

    Args:
        table: One row an image; missing cells are empty.
        names: Columns to take.
        reference: A table whose quartiles are taken instead, so that two sets have the same groups.

    Returns:
        One column an attribute: the group of each row, empty where it is not known. A group of
        numbers states its edges, such as ``45 to <60``.

    Raises:
        InputError: A column that the table lacks.

    Examples:
        >>> import pandas as pd
        >>> attribute_groups(pd.DataFrame({"sex": ["f", "m", ""]}), ["sex"])["sex"].tolist()
        ['f', 'm', '']
    """
    import pandas as pd

    lacking = [name for name in names if name not in table]
    if lacking:
        raise InputError(
            f"no column {lacking[0]!r} to group by",
            fix=f"the table has {', '.join(map(str, table.columns)) or 'no further columns'}",
        )
    found = {}
    for name in names:
        texts = as_text(table[name]).str.strip()
        base = texts
        if reference is not None and name in reference:
            base = as_text(reference[name]).str.strip()
        known = _numbers(base)
        words = base[known.isna() & (base != "")]
        numeric = known.nunique() > MOST_VALUES and known.notna().sum() > len(words)
        cut = numeric and words.nunique() <= MOST_VALUES
        values = known.dropna().to_numpy(dtype=float)
        found[name] = _binned(texts, _numbers(texts), values) if cut else texts
    return pd.DataFrame(found, index=table.index)


def _numbers(texts: pd.Series) -> pd.Series:
    """The finite numbers among texts, with a point or, throughout, a comma; NaN for other texts.

    Of ``1,234`` alone it is not known whether the comma parts thousands: these are no numbers.
    """
    import pandas as pd

    comma = texts.str.fullmatch(r"[+-]?\d+,\d+")
    thousands = texts[comma].str.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}")
    if comma.any() and not thousands.all() and not texts.str.contains(".", regex=False).any():
        texts = texts.where(~comma, texts.str.replace(",", ".", regex=False))
    numbers = pd.to_numeric(texts.where(texts != ""), errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def subgroups(
    rows: pd.DataFrame,
    attributes: pd.DataFrame,
    *,
    tau: float | None = None,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    level: float = CONFIDENCE,
    permutations: int = PERMUTATIONS,
    seed: int = BOOTSTRAP_SEED,
) -> Subgroups:
    """CAS, low-alignment and failure rates of every group, and the gaps between groups.

    Args:
        rows: One row an image of one method: ``cas``, ``status``, and what names its case.
        attributes: Groups of the same rows, of :func:`attribute_groups`.
        tau: Threshold of the low-alignment rate; None leaves the rate out.
        clusters: ``(N,)`` what is drawn together; None takes patients, else references, else rows.
        level: Simultaneous coverage, and one minus the family-wise error of the gaps.
        permutations: Of the patients over the groups.
        seed: Of the permutations.

    Raises:
        InputError: Tables of different length, or no group at all.

    Examples:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"cas": [0.4, 0.5] * 20, "status": "ok"})
        >>> found = subgroups(rows, pd.DataFrame({"sex": ["f", "m"] * 20}))
        >>> found.gaps["gap"].round(2).tolist()
        [-0.1]
    """
    import pandas as pd

    if len(rows) != len(attributes):
        raise InputError(f"{len(rows)} rows, but attributes of {len(attributes)}")
    names = case_clusters(rows) if clusters is None else np.asarray(clusters)
    codes = cluster_codes(names, len(rows))[0]
    values = _values(rows, tau)
    members = _members(attributes)
    if not members:
        raise InputError(
            f"no image has a value of {', '.join(map(str, attributes.columns))}",
            fix="fill the columns, or leave --by out",
        )
    each = level ** (1 / (len(members) * len(values)))
    groups = pd.DataFrame(
        [_group_row(key, inside, values, codes, each) for key, inside in members.items()]
    )
    gaps = gaps_between(values, members, codes, level, permutations, seed)
    return Subgroups(groups, gaps, level, tuple(_notes(groups)))


def by_method(
    rows: pd.DataFrame,
    by: Sequence[str],
    *,
    tau: float | Mapping[str, float | None] | None = None,
    level: float = CONFIDENCE,
) -> dict[str, Subgroups]:
    """:func:`subgroups` of every method; intervals and p-values hold for all of them together.

    Args:
        rows: Rows of a run, with the columns ``by``.
        by: Attributes to group by.
        tau: Threshold of the low-alignment rate, or that of each method; None leaves the rate out.
        level: Coverage of all intervals together.

    Raises:
        InputError: The rows lack a column: the run was scored without it.

    Examples:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"method": "a", "cas": [0.4, 0.5] * 20, "status": "ok"})
        >>> by_method(rows.assign(sex=["f", "m"] * 20), ["sex"])["a"].groups["n"].tolist()
        [20, 20]
    """
    lacking = [name for name in by if name not in rows]
    if lacking:
        raise InputError(
            f"the rows have no column {lacking[0]!r} to group by",
            fix=f"score the images again with --by {','.join(by)}",
        )
    attributes = attribute_groups(rows.reset_index(drop=True), by)
    found = {}
    parts = {str(name): at for name, at in rows.groupby("method", sort=True).indices.items()}
    for name, at in parts.items():
        own = attributes.iloc[at].reset_index(drop=True)
        own_rows, each = rows.iloc[at].reset_index(drop=True), 1 - (1 - level) / len(parts)
        limit = tau.get(name) if isinstance(tau, Mapping) else tau
        one = subgroups(own_rows, own, tau=limit, level=each)
        p = np.minimum(1.0, one.gaps["p"].to_numpy(dtype=float) * len(parts))
        found[name] = one._replace(gaps=one.gaps.assign(p=p), level=level)
    return found


def markdown(found: Subgroups) -> str:
    """Both tables for people; of many gaps the clearest ten."""
    from cas_metric.statistics.tables import markdown_table, number

    names = [name for name in QUANTITIES if name in found.groups]
    lines = [
        [
            *(str(row[key]) for key in ("attribute", "group", "n", "clusters")),
            *(_with_interval(row[q], row[f"{q}_low"], row[f"{q}_high"]) for q in names),
        ]
        for row in found.groups.to_dict("records")
    ]
    headings = ["attribute", "group", "images", "cases", *(QUANTITIES[name] for name in names)]
    parts = [markdown_table(headings, lines)]
    if len(found.gaps):
        shown = found.gaps.sort_values("p", kind="stable").head(10)
        lines = [
            [
                f"{row['attribute']}: {row['group']} − {row['other']}",
                QUANTITIES[row["quantity"]],
                _with_interval(row["gap"], row["low"], row["high"]),
                number(row["p"], 4),
            ]
            for row in shown.to_dict("records")
        ]
        parts.append(markdown_table(["gap", "of", "difference", "p, corrected"], lines))
    share = f"{found.level:.0%}"
    parts.append(
        f"Intervals hold for all groups together with {share}; p-values are corrected for all "
        f"{len(found.gaps)} gaps and every method. " + " ".join(f"{note}." for note in found.notes)
    )
    return "\n\n".join(parts)


def _with_interval(value: float, low: float, high: float) -> str:
    from cas_metric.statistics.tables import number

    text = f"{number(value)} [{number(low)} to {number(high)}]"
    return (number(value) if math.isnan(low) else text).replace("-", "−")


def _binned(texts: pd.Series, numbers: pd.Series, known: Floats) -> pd.Series:
    """Texts that are numbers as one of the quarters of ``known``; others as they are."""
    import pandas as pd

    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)))
    inner = edges[1:-1]
    # Six digits where they tell the edges apart; dates as numbers need more.
    written = ([f"{edge:.{digits}g}" for edge in edges] for digits in (6, 15, 17))
    shown = next(texts for texts in written if len(set(texts)) == len(edges))
    labels = [f"{low} to <{high}" for low, high in pairwise(shown)]
    labels[-1] = labels[-1].replace("<", "")
    codes = np.searchsorted(inner, numbers.to_numpy(dtype=float), side="right")
    named = np.array(labels, dtype=object)[np.minimum(codes, len(labels) - 1)]
    return texts.astype(object).mask(numbers.notna(), pd.Series(named, numbers.index))


def _order(group: str) -> tuple[bool, float, str]:
    """Numbers and groups of them by size, then words."""
    try:
        first = float(group.partition(" to ")[0])
    except ValueError:
        first = math.nan
    return (True, 0.0, group) if math.isnan(first) else (False, first, group)


def _values(rows: pd.DataFrame, tau: float | None) -> dict[str, Floats]:
    """Each quantity image by image; NaN where an image has none."""
    cas = rows["cas"].to_numpy(dtype=np.float64)
    found = {"cas": cas}
    if tau is not None:
        found["low_rate"] = np.where(np.isfinite(cas), cas < tau, np.nan)
    if "status" in rows and (failed := (rows["status"] == "failed").to_numpy()).any():
        found["failure_rate"] = failed.astype(np.float64)
    return found


def _members(attributes: pd.DataFrame) -> dict[tuple[str, str], NDArray[np.bool_]]:
    found = {}
    for name in attributes:
        column = as_text(attributes[name]).to_numpy()
        for group in sorted(set(column) - {""}, key=_order):
            found[str(name), str(group)] = column == group
    return found


def _group_row(
    key: tuple[str, str],
    inside: NDArray[np.bool_],
    values: Mapping[str, Floats],
    codes: Codes,
    level: float,
) -> dict[str, Any]:
    row: dict[str, Any] = {"attribute": key[0], "group": key[1], "n": int(inside.sum())}
    row["clusters"] = len(np.unique(codes[inside]))
    row["scored"] = clusters_with(values["cas"], inside, codes)
    for name, column in values.items():
        interval = mean_interval if name == "cas" else rate_interval
        found = interval(column[inside], clusters=codes[inside], level=level)
        ends = np.clip([found.low, found.high], *BOUNDS.get(name, (0.0, 1.0)))
        row |= {name: found.estimate, f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
    return row


def _notes(groups: pd.DataFrame) -> list[str]:
    least = groups.loc[groups["clusters"].idxmin()]
    notes = [
        f"The smallest group is {least['attribute']} {least['group']}: {least['n']} images of "
        f"{least['clusters']} cases"
    ]
    small = groups[groups["scored"] < FEWEST_CLUSTERS]
    if len(small):
        listed = ", ".join(f"{row.attribute} {row.group}" for row in small.itertuples())
        notes.append(f"Too small to compare, below {FEWEST_CLUSTERS} scored cases: {listed}")
    return notes
