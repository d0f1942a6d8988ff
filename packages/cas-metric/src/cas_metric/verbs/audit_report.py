"""The report-based rival: image to report by a language model, its findings against the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.mllm.asking import Asked, Asking, put_questions
from cas_metric.protocol import CONFIDENCE
from cas_metric.runs.provenance import provenance
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import FolderResult

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.mllm.sources import Images
    from cas_metric.mllm.types import Answer
    from cas_metric.runs.folder import Origin

#: Scores of a run that support is held against, and what people call them.
AGAINST: Final = {"ccs": "CCS", "dd": "DD", "cas": "CAS", "alignment": "cas-v2"}
#: Columns of reports.csv; ``read`` lists what the report says of each class that it mentions.
COLUMNS: Final = (
    *("id", "method", "seed", "label", "findings", "impression", "read", "support"),
    *("status", "error", "image", "reference"),
)


def audit_reports(
    images: Images,
    asking: Asking,
    origin: Origin,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> FolderResult:
    """Have every image reported on, and hold what the reports say against the labels.

    Args:
        images: Those of all sources.
        asking: Whom to ask.
        origin: What the audit is made from.
        folder: Where it is saved by default.
        progress: Told after every answer.

    Returns:
        One row an image (``reports``) with its ``support`` in [0, 1], see
        :func:`cas_metric.mllm.labeller.support`; in the summary its mean by method and class, and
        how far it goes with the scores of runs.
    """
    from cas_metric.mllm.report import report_requests

    requests = report_requests(images.table, images.domain)
    asked = put_questions(requests, asking, counting(progress, "reports"))
    rows = report_rows(images, asked.answers)
    summary = _summary(images, rows, asked)
    summary["provenance"]["origin"] = origin.as_dict()
    return FolderResult(
        "audit",
        summary,
        _markdown(summary),
        {"reports": rows},
        (),
        {one["image"]: one["error"] for one in summary["failures"]},
        notes=tuple(summary["notes"]),
        folder=folder,
        closing="Reports: {folder}/reports.csv",
    )


def report_rows(images: Images, answers: Sequence[Answer]) -> pd.DataFrame:
    """One row an image with :data:`COLUMNS`; without a report ``support`` is NaN."""
    import pandas as pd

    from cas_metric.mllm.labeller import read_report, support

    rows = []
    for image, answer in zip(images.table.to_dict("records"), answers, strict=True):
        report = answer.value if answer.accepted else None
        findings, impression = (report.findings, report.impression) if report else ("", "")
        said = read_report(findings, impression, images.domain) if report else {}
        rows.append(
            {
                **{name: image[name] for name in ("id", "method", "seed", "label")},
                "findings": " ".join(findings.split()),
                "impression": " ".join(impression.split()),
                "read": "; ".join(
                    f"{name}: {status}"
                    for name, status in said.items()
                    if status != "not mentioned"
                ),
                "support": support(said, image["label"]) if report else float("nan"),
                "status": "ok" if report else answer.outcome,
                "error": answer.reason,
                **{name: image[name] for name in ("image", "reference")},
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def refuse_with_reports(*, control: bool, graded: bool, against: object) -> None:
    """Reports know no items.

    Raises:
        InputError: An option of the audits by items is given as well.
    """
    given = [f"--{name}" for name, on in (("control", control), ("graded", graded)) if on]
    given += ["--against"] if against is not None else []
    if given:
        raise InputError(
            f"--report puts no item of a checklist, and {', '.join(given)} is about items",
            fix="run the two audits one after the other, with another --out",
        )


def _summary(images: Images, rows: pd.DataFrame, asked: Asked) -> dict[str, Any]:
    from cas_metric.statistics.graded import method_scores
    from cas_metric.statistics.pass_rates import agreement_with_score

    scored = images.table.assign(score=rows["support"].to_numpy())
    passed = scored.assign(pass_rate=scored["score"], complete=scored["score"] == 1)
    failed = rows[rows["status"] != "ok"]
    return {
        "kind": "audit by reports",
        "domain": images.domain.name,
        "title": images.domain.title,
        "embedded_world": images.domain.embedded,
        "evaluator": asked.model,
        "settings": {"level": CONFIDENCE},
        "methods": {
            name: {**_counted(scored[scored["method"] == name]), "support": found}
            for name, found in method_scores(scored).items()
        },
        "classes": {
            str(name): {**_counted(group), "support": float(group["score"].mean())}
            for name, group in scored.groupby("label", sort=True)
        },
        "agreement": {
            title: agreement_with_score(passed, name)
            for name, title in AGAINST.items()
            if passed[name].notna().any()
        },
        "failures": [
            {"set": row["method"], "id": row["id"], "image": row["image"],
             "error": f"{row['status']}: {row['error']}"}
            for row in failed.to_dict("records")
        ],
        "notes": [*images.notes, *asked.notes],
        "provenance": provenance(
            "audit", ("cas-metric", "numpy", "pandas", "pillow", "scipy"), images.inputs
        ),
        "timing": asked.timing,
    }  # fmt: skip


def _counted(scored: pd.DataFrame) -> dict[str, int]:
    """All images, and those behind the mean support."""
    return {"images": len(scored), "rated": int(scored["score"].notna().sum())}


def _markdown(summary: Mapping[str, Any]) -> str:
    total = sum(one["images"] for one in summary["methods"].values())
    missing = len(summary["failures"])
    lines = [
        [name, str(one["rated"]), _interval(one["support"])]
        for name, one in summary["methods"].items()
    ]
    parts = [PHANTOM_NOTICE] if summary["embedded_world"] else []
    parts += [
        f"# Reports on images of {summary['domain']}",
        f"{total - missing} images reported on by {summary['evaluator']['spec']}"
        f"{f' ({missing} of {total} got no report)' if missing else ''}, which was told neither "
        "label nor classes. Support of an image: what its report says of its label (present 1, "
        "uncertain 0.5, else 0), shared with other classes that it names; 95% intervals. Words "
        "are read by rules; a language model is no clinician.",
        markdown_table(["Method", "images", "support"], lines),
    ]
    classes = [
        [name, str(one["rated"]), number(one["support"])]
        for name, one in summary["classes"].items()
    ]
    parts.append(f"## Classes\n\n{markdown_table(['Class', 'images', 'support'], classes)}")
    if summary["agreement"]:
        names = ("spearman", "spearman_within_class")
        found = [
            [title, method, str(one["n"]), *(_interval(one[name]) for name in names)]
            for title, by_method in summary["agreement"].items()
            for method, one in by_method.items()
        ]
        headings = ["Score", "Images of", "n", "Spearman", "Spearman within classes"]
        parts.append(f"## Support beside the scores of runs\n\n{markdown_table(headings, found)}")
    return "\n\n".join(parts) + "\n"


def _interval(entry: Mapping[str, float]) -> str:
    return f"{number(entry['estimate'])} [{number(entry['low'])}, {number(entry['high'])}]"
