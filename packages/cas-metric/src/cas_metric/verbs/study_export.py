"""How far a study is, what was answered, and answers from elsewhere.

``cas study status``, ``cas study export`` and ``cas study import``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.errors import InputError
from cas_metric.verbs.result import Result

if TYPE_CHECKING:
    import pandas as pd


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
    folder: str | Path,
    out: str | Path = "rankings.csv",
    *,
    finished_only: bool = False,
    redcap: bool = False,
) -> Result:
    """Write what was answered, beside one another.

    ``NAME.csv`` is what ``cas preference`` reads; ``NAME-details.csv`` has times, durations and
    notes, ``NAME-revisions.csv`` every answer ever given, ``NAME-ratings.csv`` what was answered to
    questions on images.

    Args:
        folder: Of the study; the server may keep running.
        out: File of the rankings.
        finished_only: Leave raters who have not finished out of the rankings, the ratings and all
            statistics. Details, revisions and records of REDCap are those of all raters.
        redcap: Write ``NAME-redcap.csv`` and its codebook, ``NAME-codebook.csv``, as well.

    Raises:
        InputError: Nothing has been answered yet, ``out`` is no name of a CSV, or there lies
            something else than an earlier export of this study.
    """
    from cas_metric.study import open_study
    from cas_metric.study.redcap import dictionary, records
    from cas_metric.study.results import details, rankings, ratings, revisions, state

    path = Path(out)
    if path.suffix.lower() != ".csv":
        inside = path / "rankings.csv"
        raise InputError(f"{path} is no name of a CSV file", fix=f"name one: --out {inside}")
    store = open_study(Path(folder))
    table, found = details(store), state(store, finished_only=finished_only)
    rated, every_rating = ratings(store, finished_only=finished_only), ratings(store)
    design, methods, every = store.design, store.methods(), revisions(store)
    store.close()
    ranked = rankings(table, finished_only=finished_only)
    if ranked.empty and rated.empty:
        who = " by a rater who has finished" if finished_only else ""
        raise InputError(f"{folder}: nothing has been ranked yet{who}", fix="see cas study status")
    tables = {"details": table, "revisions": every}
    tables |= {"ratings": rated} if len(rated) else {}
    if redcap:
        tables |= {
            "redcap": records(table, every_rating, methods),
            "codebook": dictionary(design, methods),
        }
    files = _write(path, ranked, tables)
    count = len(ranked.groupby(["case", "rater"]))
    lines = [f"{path}: {count} rankings", *(f"{file}: {name}" for name, file in files.items())]
    return Result(
        "export",
        {**found, "rankings": str(path), **files, "rows": len(ranked)},
        "\n".join([_state_text(found), *lines]),
        warnings=tuple(found["warnings"]),
        notes=(f"Next: cas preference {path}",) if count else (),
    )


def import_answers(folder: str | Path, table: str | Path) -> Result:
    """Take answers back that were given or corrected in REDCap.

    Args:
        folder: Of the study; the server may keep running.
        table: What ``export(redcap=True)`` wrote and REDCap exported again, as raw values.

    Raises:
        InputError: The table cannot be read.
        PreflightError: Rows that are no answers of this study; nothing is changed then.
    """
    from cas_metric.study import open_study
    from cas_metric.study.importing import import_redcap

    store = open_study(Path(folder))
    try:
        found = import_redcap(store, Path(table))
    finally:
        store.close()
    text = (
        f"{folder}: {len(found.changed)} answers added as further revisions, {found.unchanged} "
        f"known already, {found.unanswered} rows without an answer"
    )
    summary = {
        "folder": str(folder),
        "changed": list(found.changed),
        "unchanged": found.unchanged,
        "unanswered": found.unanswered,
    }
    return Result("import", summary, text)


def _write(path: Path, ranked: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """The rankings, and the other tables beside them; name to file.

    Raises:
        InputError: One of the files is of another study, or of no export.
    """
    from cas_metric.files import write_bytes

    files = {name: path.with_name(f"{path.stem}-{name}{path.suffix}") for name in tables}
    taken = next((one for one in (path, *files.values()) if one.exists()), None)
    if taken and not _earlier(files["revisions"], tables["revisions"]):
        raise InputError(
            f"{taken} is of another study, or of no export, and would be replaced",
            fix="give another --out",
        )
    # The revisions first: by them the files of an export that was cut short are known again.
    for name in sorted(tables, key=lambda name: name != "revisions"):
        write_bytes(files[name], _csv(tables[name]))
    write_bytes(path, _csv(ranked))
    return {name: str(file) for name, file in files.items()}


def _csv(table: pd.DataFrame) -> bytes:
    """The table with no text that a spreadsheet would run, be it a name, a label or a note."""
    from cas_metric.study.formulas import guarded

    safe = table.map(lambda value: guarded(value) if isinstance(value, str) else value)
    return safe.to_csv(index=False, lineterminator="\n").encode()


def _earlier(file: Path, revisions: pd.DataFrame) -> bool:
    """Whether a file holds answers of this study only, of which none is ever deleted."""
    from cas_metric.study.formulas import unguarded
    from cas_metric.tables import read_frame

    keys = ["submission", "submitted_at"]
    try:
        told = read_frame(file, *keys)
    except InputError:
        return False
    known, found = (
        set(one[keys].astype(str).map(unguarded).agg("|".join, axis=1)) for one in (revisions, told)
    )
    return found <= known


def _state_text(found: Mapping[str, Any]) -> str:
    """Raters and their agreement, as Markdown."""
    from cas_metric.statistics.rounding import fixed
    from cas_metric.statistics.tables import markdown_table, with_bounds

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
        "No two raters have ranked the same images of a case yet."
        if agreement is None
        else f"Agreement over {agreement['n_shared']} cases: "
        f"Krippendorff's alpha {with_bounds(agreement['alpha'])}, "
        f"Kendall's W {with_bounds(agreement['kendall_w'])} "
        f"(chance {fixed(agreement['kendall_w_chance'], 2)})",
        *_reliability_text(found["reliability"]),
        *_turing_text(found["turing"]),
    ]
    return "\n\n".join(parts)


def _reliability_text(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Agreement of raters with themselves, where cases were repeated."""
    from cas_metric.statistics.rounding import fixed
    from cas_metric.statistics.tables import markdown_table

    if not found:
        return []
    headings = ["rater", "item", "cases", "same", "weighted kappa", "ICC(A,1)"]
    lines = [
        [
            *(one["rater"] or "all", one["item"], str(one["cases"]), fixed(one["same"], 2)),
            *(fixed(one["weighted_kappa"], 2), fixed(one["icc"], 2)),
        ]
        for one in found
    ]
    return ["Cases shown twice:", markdown_table(headings, lines)]


def _turing_text(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether real images were told from synthetic ones."""
    from cas_metric.statistics.rounding import fixed
    from cas_metric.statistics.tables import markdown_table, p_value, with_bounds

    if not found:
        return []
    headings = ["rater", "calls", "real called real", "synthetic called real", "accuracy", "p"]
    lines = [
        [
            *(one["rater"] or "all", str(one["calls"]), fixed(one["real_called_real"], 2)),
            *(fixed(one["synthetic_called_real"], 2), with_bounds(one["accuracy"])),
            p_value(one["p"]),
        ]
        for one in found
    ]
    return ["Real or synthetic (exact test, one-sided):", markdown_table(headings, lines)]
