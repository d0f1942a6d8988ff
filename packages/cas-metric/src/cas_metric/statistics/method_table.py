"""Everything that is compared between methods, from their rows.

:func:`compare_methods` returns plain values (dictionaries, lists, numbers) that go to JSON as they
are; ``tables.py`` lays them out for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, PRIMITIVES, TAIL_QUANTILE
from cas_metric.statistics.aggregate import (
    as_text,
    case_clusters,
    graded_cas,
    of_cases,
    real_clusters,
    scored,
    summarise,
)
from cas_metric.statistics.bimodality import bimodality
from cas_metric.statistics.comparison import (
    PERMUTATIONS,
    case_table,
    paired_differences,
    seed_spread,
)
from cas_metric.statistics.exceeds_real import (
    Excess,
    exceeds_real,
    excess_message,
    reward_trained,
)
from cas_metric.statistics.intervals import FEW_CLUSTERS
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.tail import (
    reduction_intervals,
    reductions,
    samples,
    split_by_diagnosis,
    stability_curve,
    tail_statistics,
)

if TYPE_CHECKING:
    import pandas as pd

#: Columns of Table 1, in its order.
COLUMNS = (*PRIMITIVES, "cas")
#: Correlated with a wrong diagnosis alone, a tail says little that DD does not say.
DD_DOMINATED = 0.9


class Settings(NamedTuple):
    """How everything is estimated.

    Attributes:
        resamples: Random sign patterns of the permutation tests, beyond 14 clusters.
        level: Nominal coverage of the intervals.
        seed: Of the sign patterns.
        quantile: Of Real, that makes tau.
    """

    resamples: int = PERMUTATIONS
    level: float = CONFIDENCE
    seed: int = BOOTSTRAP_SEED
    quantile: float = TAIL_QUANTILE

    def draw(self) -> dict[str, Any]:
        """Keyword arguments of the permutation tests."""
        return {"permutations": self.resamples, "level": self.level, "seed": self.seed}


def compare_methods(
    rows: pd.DataFrame,
    real: pd.DataFrame | None = None,
    floor: pd.DataFrame | None = None,
    *,
    focus: str | None = None,
    settings: Settings | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compare the methods in a table of rows.

    Args:
        rows: Rows of all methods and seeds on one set of cases.
        real: Rows of the real images scored against themselves; without them there is no tail.
        floor: Rows of real images scored against another real image of their class.
        focus: Method whose tail reductions are reported against all others; by default the one of
            the highest mean CAS.
        settings: Level, seed and quantile.
        provenance: Method to how its set was made; decides what a score above Real is called.

    Returns:
        ``methods`` (one entry each, in order of appearance), ``best`` (column to the names of the
        highest), ``pairs`` (paired differences in CAS), ``real`` and ``floor`` aggregates, ``tail``
        and ``warnings``.

    Raises:
        InputError: If no row is scored, or ``focus`` is not among the methods.

    Examples:
        >>> import pandas as pd
        >>> rows = pd.read_csv("demo/run/per_image.csv")
        >>> found = compare_methods(rows, real=pd.read_csv("demo/run/real_per_image.csv"))
        >>> [one["method"] for one in found["methods"]], found["best"]["ccs"]
        (['degraded', 'faithful', 'wrong'], ['faithful'])
    """
    settings = settings or Settings()
    kept = scored(rows)
    if not len(kept) or not np.isfinite(kept["cas"]).any():
        raise InputError("no row has a CAS", fix="see the status and error columns of the runs")
    names = list(dict.fromkeys(kept["method"].astype(str)))
    by_method = {name: rows[rows["method"].astype(str) == name] for name in names}
    with_cas = {n: t for n, t in by_method.items() if np.isfinite(scored(t)["cas"]).any()}
    focus = _focus(kept, list(with_cas), focus)
    classes = sorted(set(rows["label"].astype(str)))
    entries = [_method_entry(name, table, classes, settings) for name, table in by_method.items()]
    result: dict[str, Any] = {
        "settings": settings._asdict(),
        "focus": focus,
        "methods": entries,
        "pairs": _pairs(kept[kept["method"].astype(str).isin(list(with_cas))], settings),
        "warnings": [
            *_without_scores(rows, names),
            *_without_cas(by_method, with_cas),
            *_about_classes(entries),
            *_about_few(entries),
        ],
    }
    result["best"] = _best(result["methods"])
    for name, table in (("real", real), ("floor", floor)):
        if table is not None:
            result[name] = summarise(table, level=settings.level)
    if real is not None and np.isfinite(scored(real)["cas"]).any():
        _add_tails(result, with_cas, real, floor, focus, settings)
    if real is not None:
        _add_excess(result, by_method, real, settings, provenance or {})
    return result


def _without_scores(rows: pd.DataFrame, names: list[str]) -> list[str]:
    """What is said of methods of which no image was scored: no table can hold them."""
    counts = rows["method"].astype(str).value_counts()
    return [
        f"{name}: none of its {count} images was scored, so it is left out; see their errors"
        for name, count in counts.items()
        if name not in names
    ]


def _without_cas(
    by_method: Mapping[str, pd.DataFrame], with_cas: Mapping[str, pd.DataFrame]
) -> list[str]:
    """Methods whose images were scored in part alone, with the scores that all of them lack."""
    told = []
    for name, rows in by_method.items():
        if name not in with_cas:
            lacking = [p.upper() for p in PRIMITIVES if not np.isfinite(scored(rows)[p]).any()]
            why = f"none of its images has {', '.join(lacking)}" if lacking else "see their errors"
            told.append(
                f"{name}: no image has a CAS ({why}), so it is in no comparison of CAS or tails"
            )
    return told


def _about_classes(entries: list[dict[str, Any]]) -> list[str]:
    return [
        f"{entry['method']}: no class-balanced CAS, since no image of "
        f"{', '.join(entry['class_balanced_lacks']['cas'])} has one"
        for entry in entries
        if "cas" in entry["class_balanced_lacks"]
    ]


def _about_few(entries: list[dict[str, Any]]) -> list[str]:
    """What is said of intervals over fewer clusters than their coverage was found good for."""
    few = {e["method"]: e["clusters"] for e in entries if 0 < e["clusters"] < FEW_CLUSTERS}
    if not few:
        return []
    units = {"patient": "patients", "reference": "cases"}.get(entries[0]["cluster_unit"], "cases")
    named = ", ".join(f"{name} {count}" for name, count in few.items())
    return [
        f"fewer than {FEW_CLUSTERS} {units} ({named}): intervals over so few are wide and rough"
    ]


def _focus(rows: pd.DataFrame, names: list[str], focus: str | None) -> str:
    if focus is None:
        return str(rows.groupby("method")["cas"].mean().idxmax())
    if focus not in names:
        raise InputError(f"no method is called {focus!r}", fix=f"choose one of: {', '.join(names)}")
    return focus


def _method_entry(
    name: str, rows: pd.DataFrame, classes: list[str], settings: Settings
) -> dict[str, Any]:
    kept = scored(rows)
    # A run of a folder without seeds has an empty column, or none; beside others it is no seed.
    seeds = as_text(kept.reindex(columns=["seed"])["seed"])
    told = (seeds != "") | bool((seeds == "").all())
    spreads = {c: seed_spread(kept[c][told], seeds[told])._asdict() for c in COLUMNS}
    summary = summarise(rows, classes=classes, level=settings.level)
    return {"method": name, **summary, "seeds": spreads}


def _best(methods: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of the highest of each column, at the three decimals of a table: ties are shared."""
    best = {}
    for column in COLUMNS:
        means = {e["method"]: e["mean"][column] for e in methods if np.isfinite(e["mean"][column])}
        highest = fixed(max(means.values()), 3) if means else ""
        best[column] = [name for name, value in means.items() if fixed(value, 3) == highest]
    return best


def _pairs(rows: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    table, clusters = case_table(rows)
    diagnoses, images = (
        case_table(rows, "dd", counted=counted)[0].reindex(index=table.index, columns=table.columns)
        for counted in (False, True)
    )
    pairs = []
    for pair in paired_differences(
        table, clusters=clusters, diagnoses=diagnoses, images=images, **settings.draw()
    ):
        entry = pair._asdict()
        for key in ("difference", "win_rate"):
            entry[key] = entry[key]._asdict()
        entry["p"], entry["p_exact"] = pair.p
        pairs.append(entry)
    return pairs


def _add_tails(
    result: dict[str, Any],
    by_method: dict[str, pd.DataFrame],
    real: pd.DataFrame,
    floor: pd.DataFrame | None,
    focus: str,
    settings: Settings,
) -> None:
    every, real = scored(real), of_cases(real, *by_method.values())
    result["warnings"] += _about_cases(by_method, every, real)
    references = {"cas": (real, "cas"), "graded": (real, "graded")}
    if floor is not None and np.isfinite(floor["cas"]).any():
        references["floor"] = (of_cases(floor, *by_method.values()), "cas")
    tails = {
        kind: {name: _tail(scored(t), *reference, settings) for name, t in by_method.items()}
        for kind, reference in references.items()
    }
    modes = bimodality(
        real["cas"],
        real["dd"],
        clusters=case_clusters(real),
        quantile=settings.quantile,
        level=settings.level,
    )
    first = next(iter(tails["cas"].values()))
    result["tail"] = {
        "tau": first["tau"],
        "tau_interval": first["tau_interval"],
        "bimodality": {**modes._asdict(), "message": modes.message},
        **{f"by_{kind}": entries for kind, entries in tails.items()},
        "stability": {
            name: stability_curve(scored(table)["cas"], real["cas"])
            for name, table in by_method.items()
        },
        "reductions": _reductions(by_method, real, tails["cas"], focus, settings),
    }
    if modes.warning:
        result["warnings"].append(modes.message)
    for name, entry in tails["cas"].items():
        share = entry["split"]["share_wrong_of_low"]
        if share >= DD_DOMINATED and entry["split"]["rate_wrong"] >= DD_DOMINATED:
            result["warnings"].append(
                f"{name}: {share:.0%} of the images below tau are wrong diagnoses, and "
                f"{entry['split']['rate_wrong']:.0%} of the wrong diagnoses are below tau: the "
                "low-alignment rate restates 1 - DD"
            )


def _about_cases(
    by_method: Mapping[str, pd.DataFrame], every: pd.DataFrame, real: pd.DataFrame
) -> list[str]:
    """What is said where not all real cases, or not all of those that make tau, are covered."""
    told = []
    if len(real) < len(every):
        told.append(
            f"{len(real)} of {len(every)} real cases were scored: the tail is of these alone"
        )
    covered = {name: len(of_cases(real, rows)) for name, rows in by_method.items()}
    return told + [
        f"{name}: scored for {count} of the {len(real)} real cases that make tau"
        for name, count in covered.items()
        if count < len(real)
    ]


def _tail(
    rows: pd.DataFrame, real: pd.DataFrame, column: str, settings: Settings
) -> dict[str, Any]:
    values, reference = (
        (graded_cas(rows), graded_cas(real)) if column == "graded" else (rows["cas"], real["cas"])
    )
    tail = tail_statistics(
        values,
        reference,
        clusters=case_clusters(rows),
        real_clusters=real_clusters(real),
        quantile=settings.quantile,
        level=settings.level,
    ).as_dict()
    return {**tail, "split": split_by_diagnosis(values, rows["dd"], tail["tau"])}


def _reductions(
    by_method: Mapping[str, pd.DataFrame],
    real: pd.DataFrame,
    tails: Mapping[str, Mapping[str, Any]],
    focus: str,
    settings: Settings,
) -> list[dict[str, Any]]:
    """Reductions of the tail, over images and, beside them, over classes that weigh alike."""
    tables = {name: scored(table) for name, table in by_method.items()}
    baselines = {
        name: (tails[name]["rate"], float(table["cas"].mean()))
        for name, table in tables.items()
        if name != focus
    }
    if not baselines:
        return []
    found = []
    for reduction in reductions(tails[focus]["rate"], baselines):
        pair = tables[focus], tables[reduction.baseline]
        entry = {"method": focus, **reduction._asdict()}
        for balanced in (False, True):
            told = _reduction(pair, real, settings, balanced)
            entry |= {"class_balanced": told} if balanced else told
        found.append(entry)
    return found


def _reduction(
    pair: tuple[pd.DataFrame, pd.DataFrame], real: pd.DataFrame, settings: Settings, balanced: bool
) -> dict[str, Any]:
    """Absolute and relative reduction with their intervals, all NaN where classes differ."""
    sets = [(table["cas"], case_clusters(table)) for table in pair]
    (own, baseline, reference), count = samples(sets, (real["cas"], real_clusters(real)))
    if balanced:
        classes = [t["label"].astype(str).to_numpy()[np.isfinite(t["cas"])] for t in pair]
        if set(classes[0]) != set(classes[1]):
            return {}
        own, baseline = own._replace(classes=classes[0]), baseline._replace(classes=classes[1])
    absolute, relative = reduction_intervals(
        own, baseline, reference, count, quantile=settings.quantile, level=settings.level
    )
    return {
        "absolute": absolute.estimate,
        "relative": relative.estimate,
        "absolute_interval": [absolute.low, absolute.high],
        "relative_interval": [relative.low, relative.high],
    }


def _add_excess(
    result: dict[str, Any],
    by_method: Mapping[str, pd.DataFrame],
    real: pd.DataFrame,
    settings: Settings,
    provenance: Mapping[str, Any],
) -> None:
    sets = {name: scored(table) for name, table in by_method.items()}
    found = exceeds_real(sets, scored(real), **settings.draw())
    result["exceeds_real"] = {
        name: [_plain_excess(excess) for excess in entries] for name, entries in found.items()
    }
    for name, entries in found.items():
        result["warnings"] += [
            excess_message(name, excess, trained=reward_trained(provenance.get(name)))
            for excess in entries
        ]


def _plain_excess(excess: Excess) -> dict[str, Any]:
    return {
        **excess._asdict(),
        **{key: getattr(excess, key)._asdict() for key in ("generated", "real", "difference")},
        "classes": [entry._asdict() for entry in excess.classes],
        "p": excess.p.value,
        "p_exact": excess.p.exact,
    }
