"""One self-contained HTML file out of a run directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd

from cas_metric.files import write_bytes
from cas_metric.report import content, details, glossary, warning_signs
from cas_metric.report.gallery import Explained, make_cards, picks, ranking
from cas_metric.report.rendering import render
from cas_metric.report.sections import sections_of
from cas_metric.report.tables import count
from cas_metric.runs.folder import REPORT, read_run
from cas_metric.runs.run import Run, locate, roots, windows

GALLERY: Final = 36


def write_report(
    run_dir: str | Path,
    *,
    gallery: int = GALLERY,
    generated_root: str | Path | None = None,
    real_root: str | Path | None = None,
) -> Path:
    """Write ``report.html`` into a run directory.

    The file needs no network and no neighbour: styles, script and pictures are inside it. The same
    run and the same images give the same bytes.

    Args:
        run_dir: Directory that ``cas score`` wrote: rows and ``summary.json``.
        gallery: How many images to show, about: of each method as many of the lowest, of random
            ones and of the best.
        generated_root: Folder against which the rows' ``image`` paths are read; by default the
            one that the run's summary names.
        real_root: The same for the ``reference`` paths.

    Returns:
        Path of the report.

    Raises:
        InputError: If ``run_dir`` holds no finished run.
        CasError: If the report cannot be written there.
    """
    run = read_run(run_dir)
    target = Path(run_dir) / REPORT
    page = render_report(run, gallery=gallery, generated_root=generated_root, real_root=real_root)
    write_bytes(target, page.encode("utf-8"))
    return target


def render_report(
    run: Run,
    *,
    gallery: int = GALLERY,
    generated_root: str | Path | None = None,
    real_root: str | Path | None = None,
) -> str:
    """The page; arguments as :func:`write_report` takes them."""
    folders = roots(run.summary, generated_root, real_root)
    return render("report.html.j2", build_context(run, gallery=gallery, folders=folders))


def render_table(run: Run) -> str:
    """The table of means alone, as a fragment for notebooks."""
    methods, references = content.entries(run.rows, run.real, run.floor, run.summary)
    return render(
        "fragment.html.j2",
        {
            "embedded_world": bool(run.summary.get("embedded_world")),
            "warnings": run.summary.get("warnings") or [],
            "headline": content.headline(methods, references),
            "table": content.summary_table(methods, references),
        },
    )


def build_context(
    run: Run, *, gallery: int, folders: tuple[Path | None, Path | None]
) -> dict[str, Any]:
    """Everything that the template shows, by the name that it uses."""
    summary, rows = run.summary, run.rows
    methods, references = content.entries(rows, run.real, run.floor, summary)
    tau, encoder = summary.get("tau"), summary.get("encoder") or {}
    failures, failures_left = details.failure_table(summary.get("failures") or [])
    shown = picks(_with_calibrated(run), -(-gallery // max(1, 3 * len(methods))))
    inks = {method.name: method.ink for method in methods}
    locators = (
        partial(locate, folders[0], column="image"),
        partial(locate, folders[1], column="reference"),
    )
    cards = make_cards(
        shown,
        inks,
        *locators,
        windows=windows(summary),
        explained=_explained(run),
    )
    context = {
        "title": glossary.CAS_TERM.name,
        "embedded_world": bool(summary.get("embedded_world")),
        "domain": summary.get("domain") or "scoring run",
        "encoder": encoder.get("name") or "unknown encoder",
        "protocol": summary.get("protocol") or "custom",
        "departures": summary.get("departures") or [],
        "warnings": summary.get("warnings") or [],
        "self_test": details.self_test_table(summary.get("self_test") or {}),
        "headline": content.headline(methods, references),
        "counts": _counts(methods),
        "intervals": content.interval_chart(methods, references),
        "summary_table": content.summary_table(methods, references),
        "above_real": warning_signs.above_real(
            methods, references, warning_signs.generated_provenance(summary)
        ),
        "references": [getattr(glossary, one.ink.upper()) for one in references],
        "terms": glossary.TERMS,
        "low_rate": glossary.LOW_RATE,
        "p10": glossary.P10,
        "ecdf": content.ecdf_chart(methods, references, tau),
        **_tail_context(methods, references),
        "primitives": content.primitive_charts(methods, references),
        "class_tables": content.class_tables(methods, references, tau),
        "cards": cards,
        "card_labels": _options(card.label for card in cards),
        "card_methods": _options(card.method for card in cards),
        "card_picks": _options(card.pick for card in cards),
        "explained": any(card.why or card.maps for card in cards),
        "ranked_by": (ranking(rows) or "").upper(),
        "low_rank": (summary.get("cas_v2") or {}).get("alpha"),
        "missing": details.missing_table(summary.get("missing") or {}),
        "notes": summary.get("notes") or [],
        "more": sections_of(run, methods),
        "failures": failures,
        "failures_left": failures_left,
        "provenance": details.provenance(summary),
    }
    return context | {"sections": _sections(context)}


def _explained(run: Run) -> dict[str, Explained]:
    """What ``cas explain`` wrote beside a run."""
    if run.path is None:
        return {}
    from cas_metric.report.explained import read_explained

    return read_explained(run)


def _with_calibrated(run: Run) -> pd.DataFrame:
    """The rows, with the alignment of cas-v2 where the run has it."""
    calibrated = getattr(run, "calibrated", None)
    if calibrated is None or len(calibrated) != len(run.rows):
        return run.rows
    return run.rows.assign(alignment=calibrated["alignment"].to_numpy())


def _tail_context(
    methods: Sequence[content.Entry], references: Sequence[content.Entry]
) -> dict[str, Any]:
    """The warning about tau, and the curve and table that it tells a reader to look at."""
    modes = warning_signs.modes_of_real(references)
    if modes is None or not modes.warning:
        return {"tail_notes": [], "stability": None, "graded": None}
    return {
        "tail_notes": [modes.message],
        "stability": warning_signs.stability_chart(methods, references),
        "graded": warning_signs.graded_table(methods, references),
    }


def _counts(methods: Sequence[content.Entry]) -> list[str]:
    """Badges of the headline: how many images of how many methods, and how many failed."""
    scored = sum(int(m.summary.get("n") or 0) for m in methods)
    failed = sum(int(m.summary.get("n_failed") or 0) for m in methods)
    words = [f"{count(scored)} images", f"{len(methods)} method{'s' if len(methods) != 1 else ''}"]
    return [*words, f"{count(failed)} failed"] if failed else words


def _options(values: Any) -> list[tuple[str, int]]:
    return sorted(Counter(values).items())


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Anchors of the navigation: the sections that this report has."""
    every = (
        ("summary", "Summary", True),
        ("distribution", "Distribution", context["ecdf"]),
        ("primitives", "Scores", context["primitives"]),
        ("classes", "Classes", context["class_tables"]),
        ("worst", "Images", context["cards"]),
        *((one.name, one.title, True) for one in context["more"]),
        ("failures", "Failures", True),
        ("provenance", "Provenance", True),
    )
    return [(name, title) for name, title, shown in every if shown]
