"""Everything that is compared between methods, from their rows.

:func:`compare_methods` returns plain values (dictionaries, lists, numbers) that go to JSON as they
are; ``tables.py`` lays them out for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, PRIMITIVES, RESAMPLES, TAIL_QUANTILE
from cas_metric.statistics.aggregate import (
    case_clusters,
    graded_cas,
    real_clusters,
    scored,
    summarise,
)
from cas_metric.statistics.bimodality import bimodality
from cas_metric.statistics.comparison import case_table, paired_differences, seed_spread
from cas_metric.statistics.exceeds_real import exceeds_real
from cas_metric.statistics.tail import (
    reductions,
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
    """How everything is resampled."""

    resamples: int = RESAMPLES
    level: float = CONFIDENCE
    seed: int = BOOTSTRAP_SEED
    quantile: float = TAIL_QUANTILE

    def draw(self) -> dict[str, Any]:
        """Keyword arguments of the bootstrap functions."""
        return {"resamples": self.resamples, "level": self.level, "seed": self.seed}


def compare_methods(
    rows: pd.DataFrame,
    real: pd.DataFrame | None = None,
    floor: pd.DataFrame | None = None,
    *,
    focus: str | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Compare the methods in a table of rows.

    Args:
        rows: Rows of all methods and seeds on one set of cases.
        real: Rows of the real images scored against themselves; without them there is no tail.
        floor: Rows of real images scored against another real image of their class.
        focus: Method whose tail reductions are reported against all others; by default the one of
            the highest mean CAS.
        settings: Resamples, level, seed and quantile.

    Returns:
        ``methods`` (one entry each, in order of appearance), ``best`` (column to the names of the
        highest), ``pairs`` (paired differences in CAS), ``real`` and ``floor`` aggregates, ``tail``
        and ``warnings``.

    Raises:
        InputError: If no row is scored, or ``focus`` is not among the methods.
    """
    settings = settings or Settings()
    kept = scored(rows)
    if not len(kept) or not np.isfinite(kept["cas"]).any():
        raise InputError("no row has a CAS", fix="see the status and error columns of the runs")
    names = list(dict.fromkeys(kept["method"].astype(str)))
    focus = _focus(kept, names, focus)
    by_method = {name: rows[rows["method"].astype(str) == name] for name in names}
    result: dict[str, Any] = {
        "settings": settings._asdict(),
        "focus": focus,
        "methods": [_method_entry(name, table, settings) for name, table in by_method.items()],
        "pairs": _pairs(kept, settings),
        "warnings": _without_scores(rows, names),
    }
    result["best"] = _best(result["methods"])
    for name, table in (("real", real), ("floor", floor)):
        if table is not None:
            result[name] = summarise(table, **settings.draw())
    if real is not None:
        _add_tails(result, by_method, real, floor, focus, settings)
        _add_excess(result, by_method, real, settings)
    return result


def _without_scores(rows: pd.DataFrame, names: list[str]) -> list[str]:
    """What is said of methods of which no image was scored: no table can hold them."""
    counts = rows["method"].astype(str).value_counts()
    return [
        f"{name}: none of its {count} images was scored, so it is left out; see their errors"
        for name, count in counts.items()
        if name not in names
    ]


def _focus(rows: pd.DataFrame, names: list[str], focus: str | None) -> str:
    if focus is None:
        return str(rows.groupby("method")["cas"].mean().idxmax())
    if focus not in names:
        raise InputError(f"no method is called {focus!r}", fix=f"choose one of: {', '.join(names)}")
    return focus


def _method_entry(name: str, rows: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    kept = scored(rows)
    seeds = kept["seed"].astype(str).to_numpy() if "seed" in kept else np.full(len(kept), "")
    spreads = {column: seed_spread(kept[column], seeds)._asdict() for column in COLUMNS}
    return {"method": name, **summarise(rows, **settings.draw()), "seeds": spreads}


def _best(methods: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of the highest of each column, at the three decimals of a table: ties are shared."""
    best = {}
    for column in COLUMNS:
        means = {entry["method"]: round(entry["mean"][column], 3) for entry in methods}
        finite = [value for value in means.values() if np.isfinite(value)]
        best[column] = [name for name, value in means.items() if finite and value == max(finite)]
    return best


def _pairs(rows: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    table, clusters = case_table(rows)
    pairs = []
    for pair in paired_differences(table, clusters=clusters, **settings.draw()):
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
    real = scored(real)
    references = {"cas": (real, "cas"), "graded": (real, "graded")}
    if floor is not None and np.isfinite(floor["cas"]).any():
        references["floor"] = (scored(floor), "cas")
    tails = {
        kind: {name: _tail(scored(t), *reference, settings) for name, t in by_method.items()}
        for kind, reference in references.items()
    }
    modes = bimodality(real["cas"], real["dd"], quantile=settings.quantile, level=settings.level)
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
        "reductions": _reductions(result["methods"], tails["cas"], focus),
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
        **settings.draw(),
    ).as_dict()
    return {**tail, "split": split_by_diagnosis(values, rows["dd"], tail["tau"])}


def _reductions(
    methods: list[dict[str, Any]], tails: dict[str, dict[str, Any]], focus: str
) -> list[dict[str, Any]]:
    baselines = {
        entry["method"]: (tails[entry["method"]]["rate"], entry["mean"]["cas"])
        for entry in methods
        if entry["method"] != focus
    }
    if not baselines:
        return []
    found = reductions(tails[focus]["rate"], baselines)
    return [{"method": focus, **reduction._asdict()} for reduction in found]


def _add_excess(
    result: dict[str, Any],
    by_method: dict[str, pd.DataFrame],
    real: pd.DataFrame,
    settings: Settings,
) -> None:
    result["exceeds_real"] = {}
    for name, table in by_method.items():
        found = exceeds_real(scored(table), scored(real), **settings.draw())
        result["exceeds_real"][name] = [
            {
                **excess._asdict(),
                "generated": excess.generated._asdict(),
                "real": excess.real._asdict(),
                "classes": [entry._asdict() for entry in excess.classes],
            }
            for excess in found
        ]
        for excess in found:
            result["warnings"].append(
                f"{name}: {excess.primitive.upper()} {excess.generated.estimate:.3f} is above "
                f"Real's {excess.real.estimate:.3f} (interval up to {excess.real.high:.3f}), most "
                f"in the class {excess.classes[0].label}: a sign of reward hacking"
            )
