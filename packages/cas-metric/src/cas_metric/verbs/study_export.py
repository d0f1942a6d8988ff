"""How far a study is, and what was answered: ``cas study status`` and ``cas study export``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cas_metric.errors import InputError
from cas_metric.verbs.result import Result


def status(folder: str | Path) -> Result:
    """How far every rater is, and how far they agree so far.

    Args:
        folder: Of the study.
    """
    from cas_metric.study import open_study
    from cas_metric.study.results import state

    store = open_study(Path(folder))
    found = state(store)
    store.close()
    return Result("status", found, _state_text(found), warnings=tuple(found["warnings"]))


def export(
    folder: str | Path, out: str | Path = "rankings.csv", *, finished_only: bool = False
) -> Result:
    """Write the rankings, and beside them NAME-details.csv with times, durations and notes.

    Args:
        folder: Of the study; the server may keep running.
        out: File of the rankings.
        finished_only: Leave out raters who have not finished.

    Raises:
        InputError: Nothing has been ranked yet, or ``out`` is no file.
    """
    from cas_metric.files import write_bytes
    from cas_metric.study import open_study
    from cas_metric.study.results import agreement_of, details, rankings, state

    path = Path(out)
    if not path.name:
        raise InputError(f"{path} is no file", fix="name a file with --out, e.g. rankings.csv")
    store = open_study(Path(folder))
    table, found = details(store), state(store)
    store.close()
    ranked = rankings(table, finished_only=finished_only)
    if ranked.empty:
        raise InputError(f"{folder}: nothing has been ranked yet", fix="see cas study status")
    beside = path.with_name(f"{path.stem}-details{path.suffix}")
    for file, content in ((path, ranked), (beside, table)):
        write_bytes(file, content.to_csv(index=False, lineterminator="\n").encode())
    found["agreement"] = agreement_of(ranked)
    count = len(ranked.groupby(["case", "rater"]))
    return Result(
        "export",
        {**found, "rankings": str(path), "details": str(beside), "rows": len(ranked)},
        f"{_state_text(found)}\n{path}: {count} rankings\n{beside}: everything",
        warnings=tuple(found["warnings"]),
        notes=(f"Next: cas preference {path}",),
    )


def _state_text(found: Mapping[str, Any]) -> str:
    """Raters and their agreement, as Markdown."""
    from cas_metric.statistics.tables import markdown_table

    headings = ["rater", "answered", "cannot judge", "median s", "last", "finished"]
    lines = [
        [
            one["rater"],
            f"{one['answered']}/{one['cases']}",
            str(one["cannot_judge"]),
            "–" if one["median_seconds"] is None else f"{one['median_seconds']:.0f}",
            (one["last_activity"] or "–")[:16].replace("T", " "),
            "yes" if one["finished_at"] else "no",
        ]
        for one in found["raters"]
    ]
    parts = ["Drawn phantoms, not medical data."] if found["embedded_world"] else []
    agreement = found["agreement"]
    parts += [
        markdown_table(headings, lines),
        "No case is ranked by two raters yet."
        if agreement is None
        else f"Agreement over {agreement['n_shared']} cases: "
        f"Krippendorff's alpha {_interval(agreement['alpha'])}, "
        f"Kendall's W {_interval(agreement['kendall_w'])} "
        f"(chance {agreement['kendall_w_chance']:.2f})",
    ]
    return "\n\n".join(parts)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
