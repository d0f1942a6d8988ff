"""The findings of :func:`cas_metric.fidelity` for people and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from cas_metric.sets.cohort import FLAG_LEVEL
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number
from cas_metric.verbs.text import failures_line

if TYPE_CHECKING:
    import pandas as pd

#: Measures taken block by block: heading and decimals.
_MEASURES: Final = {
    "kernel_distance": ("kernel (KID) ↓", 4),
    "cmmd": ("CMMD ↓", 3),
    "precision": ("precision ↑", 3),
    "recall": ("recall ↑", 3),
    "density": ("density ↑", 3),
    "coverage": ("coverage ↑", 3),
}


def fidelity_table(entries: dict[str, dict[str, dict[str, Any]]]) -> pd.DataFrame:
    """One row a method and scope with every number."""
    import pandas as pd

    return pd.DataFrame(
        [
            _flat({"method": method, "scope": scope, **entry})
            for method, scopes in entries.items()
            for scope, entry in scopes.items()
        ]
    )


def fidelity_markdown(summary: dict[str, Any]) -> str:
    """The result as Markdown."""
    reference = summary["reference"]
    parts = [
        *([PHANTOM_NOTICE] if summary["embedded_world"] else []),
        f"# Fidelity\n\n{summary['n_generated']} generated and {summary['n_real']} real images "
        f"(of {reference['clusters']} patients or, where none are named, images) in the space of "
        f"{summary['encoder']['name']} ({summary['dimensions']} dimensions, raw features), "
        f"{summary['neighbours']} neighbours.",
        *(f"**Warning.** {warning}." for warning in summary["warnings"]),
        "## Against other real patients\n\n" + _cohort_table(summary),
        _COHORT_NOTE,
        "## Other measures at that size, generated / real against real\n\n"
        + _measures_table(summary),
        "## All images\n\n" + _whole_table(summary),
    ]
    if "copying" in summary:
        parts.append("## Copying of training images\n\n" + _copying_table(summary["copying"]))
    if "radiomics" in summary:
        lines = [[name, number(value)] for name, value in summary["radiomics"].items()]
        parts.append(markdown_table(["method", "FRD (log) ↓"], lines))
    if summary["failures"]:
        parts.append(failures_line(summary["failures"]))
    return "\n\n".join(parts) + "\n"


_COHORT_NOTE: Final = (
    "Fréchet distance of blocks of that many images: generated against real, and real against "
    "other real patients; their ratio with its 95% interval. z and p come from a kernel distance "
    "over all images, z in standard deviations of real patients from real patients; p is "
    f"one-sided and corrected for the rows of this table, and a set is *farther* at p ≤ "
    f"{FLAG_LEVEL}."
)


def _entries(summary: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for method, scopes in summary["methods"].items():
        yield method, "all images", scopes["all"]
        yield from ((method, scope, entry) for scope, entry in scopes["by_class"].items())


def _cohort_table(summary: dict[str, Any]) -> str:
    headings = ["method", "of", "images / real", "block", "Fréchet", "real–real", "ratio"]
    headings += ["z", "p", ""]
    lines = []
    for method, scope, entry in _entries(summary):
        matched, test = entry["matched"], entry["test"]
        distance = matched.get("frechet_distance")
        lines.append(
            [
                method,
                scope,
                f"{entry['n_generated']} / {entry['n_real']}",
                str(matched["size"]),
                *([_short(distance["generated"]), _short(distance["real"])] if distance else "––"),
                _ratio(distance) if distance else "–",
                *([f"{test['z']:.1f}".replace("-", "−"), _p(test["p_holm"])] if test else "––"),
                _verdict(test),
            ]
        )
    return markdown_table(headings, lines)


def _measures_table(summary: dict[str, Any]) -> str:
    trial = summary["recall_trial"]
    shown = {k: v for k, v in _MEASURES.items() if k != "recall" or trial is None or trial["seen"]}
    lines = []
    for method, scope, entry in _entries(summary):
        pairs = [
            f"{number(one['generated'], digits)} / {number(one['real'], digits)}" if one else "–"
            for one, digits in (
                (entry["matched"].get(name), digits) for name, (_, digits) in shown.items()
            )
        ]
        lines.append([method, scope, *(text.replace("-", "−") for text in pairs)])
    return markdown_table(["method", "of", *(heading for heading, _ in shown.values())], lines)


def _whole_table(summary: dict[str, Any]) -> str:
    lines = [
        [
            *(method, scope, f"{entry['n_generated']} / {entry['n_real']}"),
            *(_short(entry[key]) for key in ("frechet_distance", "frechet_infinity")),
            _kernel(entry["kernel_distance"]),
            number(entry["cmmd"]),
        ]
        for method, scope, entry in _entries(summary)
    ]
    headings = ["method", "of", "images / real", "Fréchet ↓", "Fréchet ∞ ↓", "kernel (KID) ↓"]
    note = (
        "\n\nThese depend on the number of images, all but the kernel distance and Fréchet ∞ "
        "(which takes ten times more images than dimensions): to be compared at equal sizes only."
    )
    return markdown_table([*headings, "CMMD ↓"], lines) + note


def _copying_table(copying: dict[str, Any]) -> str:
    lines = [
        [name, number(one["authenticity"], 1), number(one.get("c_t", math.nan), 2)]
        for name, one in copying.items()
        if name != "n_train"
    ]
    note = (
        f"Against {copying['n_train']} training images. AuthPct: percentage farther from their "
        "nearest training image than that one from its own; C_T: below about −3 generated images "
        "lie nearer to training images than REAL does, which is copying."
    )
    table = markdown_table(["method", "AuthPct ↑", "C_T"], lines).replace("| -", "| −")
    return table.replace("| −--", "| ---") + f"\n\n{note}"


def _verdict(test: dict[str, Any] | None) -> str:
    if test is None:
        return "too few to say"
    return "**farther**" if test["flagged"] else "within"


def _ratio(distance: dict[str, float]) -> str:
    text = number(distance["ratio"], 2)
    if math.isnan(distance["low"]):
        return text
    return f"{text} [{number(distance['low'], 2)}, {number(distance['high'], 2)}]"


def _kernel(entry: dict[str, Any]) -> str:
    """Mean and deviation over subsets; the mean alone where there was one subset."""
    deviation = number(entry["std"], 4)
    text = number(entry["mean"], 4) + (f" ± {deviation}" if deviation != "–" else "")
    return text.replace("-", "−")


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _short(value: float) -> str:
    """Four significant digits, without an exponent where people can read it."""
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _flat(entry: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in entry.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}_") if isinstance(value, dict) else {name: value}
    return found
