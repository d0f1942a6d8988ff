"""Which checklist items does an image show, by an external evaluator?"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.mllm.asking import Asked, Asking, put_questions
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.runs.folder import result_folder
from cas_metric.runs.provenance import provenance
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number, p_value, percent
from cas_metric.verbs.audit_graded import (
    best_table,
    graded_markdown,
    graded_summary,
    read_verdicts,
)
from cas_metric.verbs.audit_report import audit_reports, refuse_with_reports
from cas_metric.verbs.inputs import made_of, path_name
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import FolderResult

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cas_metric.mllm.sources import Images

#: Packages that decide the bits of a result, of ``audit`` and of ``judge``.
PACKAGES: Final = ("cas-metric", "numpy", "pandas", "pillow", "pydantic", "scipy")


def audit(
    sources: Sequence[str],
    mllm: str | Asking,
    *,
    domain: str | None = None,
    seed: int | None = None,
    cases: int | None = None,
    control: bool = False,
    graded: bool = False,
    against: str | Path | None = None,
    report: bool = False,
    draw_seed: int = BOOTSTRAP_SEED,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Have a multimodal language model judge every checklist item of every image.

    Args:
        sources: Runs, manifests or folders, ``PATH`` or ``NAME=PATH`` each.
        mllm: The model, as :func:`cas_metric.mllm.open_model` takes it, or with everything that
            decides how it is asked.
        domain: Classes and checklists; by default what the sources say.
        seed: Only images of this generation seed.
        cases: Audit only so many randomly drawn cases, the same for all methods.
        control: Also ask for the checklist of another class.
        graded: Ask for each item apart, and read how sure the model is of yes.
        against: An audit by verdicts, whose audit.csv the graded scores are calibrated against.
        report: Have every image reported on in place of judging items, and hold what the
            report says against the label: see
            :func:`cas_metric.verbs.audit_report.audit_reports`.
        draw_seed: Seed of the drawn cases and of the other classes.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told after every answer.

    Returns:
        One row an item (``audit``), and in the summary pass rates by method, class and item; of a
        graded audit also the scores, and the best image of each case that has several
        (``best_of_n``). Saved by default into ``audit/NAME``.

    Raises:
        InputError: Sources or verdicts that cannot be read, or no domain.
        ModelUnavailable: The model cannot be had.

    Examples:
        >>> sets = ["demo/generated/faithful", "demo/generated/wrong"]
        >>> result = audit(sets, "openai:my-model", cases=6)  # the server of CAS_MLLM_BASE_URL
        >>> faithful, wrong = (one["pass_rate"]["estimate"] for one in result.summary["methods"])
        >>> faithful > wrong
        True
    """
    import pandas as pd

    from cas_metric.mllm.audit import audit_requests, audit_rows, control_labels
    from cas_metric.mllm.graded import graded_requests, graded_rows
    from cas_metric.mllm.sources import draw_cases, read_images, split_source

    if against is not None and not graded and not report:
        raise InputError("--against calibrates graded scores", fix="add --graded")
    if report:
        refuse_with_reports(control=control, graded=graded, against=against)
    verdicts = None if against is None else read_verdicts(Path(against))
    asking = mllm if isinstance(mllm, Asking) else Asking(mllm)
    every_image = read_images(sources, domain=domain, seed=seed, offline=asking.offline)
    images = draw_cases(every_image, cases, draw_seed)
    kind = "audit by reports" if report else "audit"
    origin = made_of(kind, sources, asking.spec, seed=seed, graded=True if graded else None)
    default = Path("audit") / path_name(split_source(sources[0])[1])
    folder = result_folder(out, default, origin)
    if report:
        return audit_reports(images, asking, origin, folder, progress=progress)
    table, pack = images.table, images.domain
    put, read = (graded_requests, graded_rows) if graded else (audit_requests, audit_rows)
    own = table["label"].tolist()
    other = control_labels(own, pack, draw_seed) if control else []
    requests = put(table, pack, own)
    count = len(requests)
    if control:
        requests += put(table, pack, other)
    asked = put_questions(requests, asking, counting(progress, "items" if graded else "images"))
    answers = asked.answers
    rows = read(table, answers[:count], pack, own)
    others = read(table, answers[count:], pack, other) if control else None
    summary = audit_summary(images, rows, others, asked)
    summary["provenance"]["origin"] = origin.as_dict()
    summary["graded"] = graded_summary(images, rows, others, verdicts) if graded else None
    every = rows if others is None else pd.concat([rows, others], ignore_index=True)
    tables = {"audit": every}
    if graded and not (best := best_table(images, rows)).empty:
        tables["best_of_n"] = best
    return FolderResult(
        "audit",
        summary,
        audit_markdown(summary),
        tables,
        (partial(_write_rows, every), partial(_write_report, images, rows, summary)),
        {one["image"]: one["error"] for one in summary["failures"]},
        notes=tuple(summary["notes"]),
        folder=folder,
        closing=_closing(summary),
    )


def audit_summary(
    images: Images, rows: pd.DataFrame, control: pd.DataFrame | None, asked: Asked
) -> dict[str, Any]:
    """Content of ``summary.json``.

    Args:
        images: What was audited.
        rows: Verdicts on the checklists of the images' classes.
        control: Verdicts on those of other classes, where they were asked for.
        asked: Who gave them.
    """
    from cas_metric.statistics.pass_rates import compare_with_control, image_table, summarise_audit

    domain = images.domain
    rows = rows.iloc[_order(rows, images)]
    own = image_table(rows)
    other = None if control is None else image_table(control)
    return {
        "kind": "audit",
        "domain": domain.name,
        "title": domain.title,
        "embedded_world": domain.embedded,
        "evaluator": asked.model,
        "settings": {"resamples": RESAMPLES, "level": CONFIDENCE, "seed": BOOTSTRAP_SEED},
        **summarise_audit(rows),
        "control": None if other is None else compare_with_control(own, other),
        "incomplete": len(_failures([rows])) - int((~own["answered"]).sum()),
        "control_unanswered": 0 if other is None else int((~other["answered"]).sum()),
        "agreement": _agreement(images, own),
        "failures": _failures([rows] if control is None else [rows, control]),
        "notes": [*images.notes, *asked.notes],
        "provenance": provenance("audit", PACKAGES, images.inputs),
        "timing": asked.timing,
    }


def _write_rows(every: pd.DataFrame, folder: Path) -> None:
    buffer = io.BytesIO()
    every.to_parquet(buffer, index=False)
    write_bytes(folder / "audit.parquet", buffer.getvalue())


def _write_report(
    images: Images, rows: pd.DataFrame, summary: Mapping[str, Any], folder: Path
) -> None:
    from cas_metric.report.audit import write_audit_report

    paths = dict(zip(_keys(images.table), images.table["path"], strict=True))
    write_audit_report(summary, rows, paths, folder)


def _order(rows: pd.DataFrame, images: Images) -> np.ndarray:
    """Positions of the rows by method, as the sources came, and class, as the pack lists them."""
    import numpy as np

    methods = [images.methods.index(name) for name in rows["method"]]
    classes = [images.domain.index(name) for name in rows["label"]]
    return np.lexsort([classes, methods])


def _agreement(images: Images, own: pd.DataFrame) -> dict[str, Any] | None:
    """Agreement with CCS where a run gave it."""
    from cas_metric.statistics.pass_rates import agreement_with_score

    scores = dict(zip(_keys(images.table), images.table["ccs"].astype(float), strict=True))
    table = own.assign(ccs=[scores[key] for key in _keys(own)])
    return agreement_with_score(table) if table["ccs"].notna().any() else None


def _keys(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return [
        (str(method), str(seed), str(name))
        for method, seed, name in zip(table["method"], table["seed"], table["id"], strict=True)
    ]


def _failures(tables: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """Images without a verdict, once each, and why."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for table in tables:
        failed = table[table["status"] != "ok"]
        for key, row in zip(_keys(failed), failed.to_dict("records"), strict=True):
            reason = f"{row['status']}: {row['error']}"
            entry = {"set": row["method"], "id": row["id"], "image": row["image"], "error": reason}
            found.setdefault(key, entry)
    return list(found.values())


# -- tables for people ----------------------------------------------------------------------------


def audit_markdown(summary: Mapping[str, Any]) -> str:
    """What the terminal shows: everything but the single items, which the report has."""
    parts = [PHANTOM_NOTICE] if summary["embedded_world"] else []
    parts += [f"# Checklist audit of {summary['domain']}", _opening(summary), _table_3b(summary)]
    parts += [_methods(summary), _classes(summary), _pairs(summary), _control(summary)]
    parts += [_ccs(summary), graded_markdown(summary.get("graded"))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(summary: Mapping[str, Any]) -> str:
    total = sum(one["images"] for one in summary["methods"])
    missing = sum(one["unanswered"] for one in summary["methods"])
    others = summary["control_unanswered"]
    without = f"; of {total} images {missing} got no verdict, see audit.csv" if missing else ""
    if summary["incomplete"]:
        without += f"; {summary['incomplete']} lack the verdict on some item"
    if others:
        without += f"; {others} got none on the checklist of the other class"
    return (
        f"{total - missing} images judged by {summary['evaluator']['spec']}{without}. The pass "
        "rate of an image is the share of its assessable items that are present; 95% intervals. "
        "A language model is no clinician."
    )


def _table_3b(summary: Mapping[str, Any]) -> str:
    from cas_metric.report.audit import table_3b

    methods, values, best = table_3b(summary)
    cells = [f"**{number(v)}**" if v == best else number(v) for v in values]
    table = markdown_table(["Dataset", *methods], [[summary["domain"], *cells]])
    return f"## Pass rate, as in Table 3b\n\n{table}"


def _methods(summary: Mapping[str, Any]) -> str:
    lines = [
        [
            one["method"],
            str(one["images"]),
            str(one["unanswered"]),
            _interval(one["pass_rate"]),
            _interval(one["item_rate"]),
            _interval(one["complete"]),
            number(one["class_balanced"]),
            *(str(one[word]) for word in ("present", "absent", "not_assessable")),
        ]
        for one in summary["methods"]
    ]
    headings = ["Method", "images", "no verdict", "mean over images", "over items", "none absent"]
    headings += ["class-balanced", "present", "absent", "not assessable"]
    return f"## Methods\n\n{markdown_table(headings, lines)}"


def _classes(summary: Mapping[str, Any]) -> str:
    labels = dict.fromkeys(name for one in summary["methods"] for name in one["per_class"])
    lines = []
    for label in labels:
        entries = [one["per_class"].get(label) for one in summary["methods"]]
        cells = [f"{_interval(e['pass_rate'])} of {e['rated']}" if e else "–" for e in entries]
        lines.append([label, *cells])
    table = markdown_table(["Class", *(one["method"] for one in summary["methods"])], lines)
    return f"## Classes\n\n{table}"


def _pairs(summary: Mapping[str, Any]) -> str:
    if not summary["pairs"]:
        return ""
    lines = [
        [
            f"{pair['left']} − {pair['right']}",
            str(pair["n_cases"]),
            _interval(pair["difference"]),
            p_value(pair["p"]) + (" (exact)" if pair["p_exact"] else ""),
            p_value(pair["p_adjusted"]),
        ]
        for pair in summary["pairs"]
    ]
    table = markdown_table(["Pair", "cases", "difference", "p (sign flips)", "p (Holm)"], lines)
    return f"## Paired differences on common cases\n\n{table}"


def _control(summary: Mapping[str, Any]) -> str:
    if summary["control"] is None:
        return ""
    lines = [
        [name, str(one["n"]), _interval(one["pass_rate"]), _interval(one["difference"])]
        for name, one in summary["control"].items()
    ]
    table = markdown_table(["Method", "images", "other checklist", "own minus other"], lines)
    return (
        "## Control: the checklist of another class\n\nAn evaluator that agrees with everything "
        f"shows here: images should not pass.\n\n{table}"
    )


def _ccs(summary: Mapping[str, Any]) -> str:
    if summary["agreement"] is None:
        return ""
    names = ("spearman", "spearman_within_class", "point_biserial")
    lines = [
        [method, str(one["n"]), *(_interval(one[name]) for name in names)]
        for method, one in summary["agreement"].items()
    ]
    headings = ["Images of", "n", "Spearman", "Spearman within classes", "point-biserial"]
    return (
        "## Agreement with CCS\n\nPass rate of an image with its CCS; point-biserial: whether no "
        f"item is absent, with its CCS.\n\n{markdown_table(headings, lines)}"
    )


def _interval(entry: Mapping[str, float]) -> str:
    return f"{number(entry['estimate'])} [{number(entry['low'])}, {number(entry['high'])}]"


def _closing(summary: Mapping[str, Any]) -> str:
    """How many verdicts came, and where the report lies."""
    verdicts = sum(
        one[word] for one in summary["methods"] for word in ("present", "absent", "not_assessable")
    )
    unsure = sum(one["not_assessable"] for one in summary["methods"])
    share = percent(unsure / verdicts) if verdicts else "–"
    return f"{verdicts} verdicts, {share} of them not assessable. Report: {{folder}}/report.html"
