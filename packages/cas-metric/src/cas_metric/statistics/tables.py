"""Comparison results as Markdown tables and CSV rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from cas_metric.statistics.method_table import COLUMNS
from cas_metric.statistics.rounding import bracketed, fixed, percent, points

__all__ = ["PHANTOM_NOTICE", "markdown_table", "number", "p_value", "percent"]

#: Column of a table to its heading, with the direction in which it improves.
_HEADINGS = {"vdc": "VDC ↑", "ccs": "CCS ↑", "dd": "DD ↑", "sfs": "SFS ↑", "cas": "CAS ↑"}
#: What a Markdown viewer would read as the start of a tag; "p < 0.001" is none.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
#: First line of every report on drawn images.
PHANTOM_NOTICE = (
    "**Drawn phantoms, not medical data.** Every image in this report was drawn by a program; "
    "nothing here says anything about patients."
)
_TAILS = {
    "by_cas": "CAS, threshold from Real",
    "by_graded": "graded CAS (probability in place of 0/1 DD), threshold from Real",
    "by_floor": "CAS, threshold from the floor (real against another real)",
}


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks within cells are made harmless."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def markdown_report(result: dict[str, Any], title: str = "Comparison") -> str:
    """All tables of :func:`cas_metric.statistics.method_table.compare_methods` as one document."""
    parts = [PHANTOM_NOTICE] if result.get("embedded_world") else []
    parts += [f"# {_cell(title)}", *_warnings(result), _scores(result), _seeds(result)]
    parts.append(_pairs(result))
    if "tail" in result:
        parts += [_tails(result), _reductions(result)]
    if "exceeds_real" in result:
        parts.append(_excess(result))
    return "\n\n".join(part for part in parts if part) + "\n"


def csv_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row a method: means, intervals, class-balanced means, seed spread and tail."""
    references = [n for n in ("real", "floor") if n in result]
    return [
        *(_flat(entry, result.get("tail")) for entry in result["methods"]),
        *(_flat({"method": name.capitalize(), **result[name]}, None) for name in references),
    ]


number = fixed


def p_value(value: float) -> str:
    """A p-value at three decimals; an en dash where there is none."""
    return "< 0.001" if value < 0.001 else fixed(value)


def told_p(value: float, name: str = "p") -> str:
    """A p-value with its name: ``p = 0.012`` or ``p < 0.001``."""
    text = p_value(value)
    return f"{name} {text}" if text.startswith("<") else f"{name} = {text}"


def _cell(text: str) -> str:
    text = str(text).replace("|", "\\|").replace("\n", " ")
    return _TAG.sub("&lt;", text)


def _warnings(result: dict[str, Any]) -> list[str]:
    return ["\n".join(f"- **Warning.** {_cell(w)}" for w in result["warnings"])]


def with_bounds(entry: dict[str, Any], digits: int = 3) -> str:
    """An estimate with its interval in brackets; alone where it has none."""
    write = partial(fixed, digits=digits)
    bounds = bracketed([entry["low"], entry["high"]], write)
    return write(entry["estimate"]) + (f" {bounds}" if bounds.startswith("[") else "")


def _scores(result: dict[str, Any]) -> str:
    level = f"{result['settings']['level']:.0%}"
    references = [n for n in ("real", "floor") if n in result]
    lines = [
        *([name.capitalize(), *_score_cells(result[name], {}, "")] for name in references),
        *(
            [entry["method"], *_score_cells(entry, result["best"], entry["method"])]
            for entry in result["methods"]
        ),
    ]
    headings = ["Method", "n", "failed", *_HEADINGS.values(), f"CAS {level} interval"]
    table = markdown_table([*headings, "CAS, class-balanced ↑"], lines)
    return (
        "## Means over images\n\nBest of the methods in bold, ties at three decimals shared. "
        f"{level} intervals hold cases, or patients where they are known, together.\n\n{table}"
    )


def _score_cells(entry: dict[str, Any], best: dict[str, list[str]], name: str) -> list[str]:
    cells = [str(entry["n"]), str(entry["n_failed"])]
    for column in COLUMNS:
        text = number(entry["mean"][column])
        cells.append(f"**{text}**" if name in best.get(column, ()) else text)
    low, high = entry["interval"]["cas"]
    balanced = {
        "estimate": entry["class_balanced"]["cas"],
        **dict(zip(("low", "high"), entry["class_balanced_interval"]["cas"], strict=True)),
    }
    return [*cells, bracketed([low, high]), with_bounds(balanced)]


def _seeds(result: dict[str, Any]) -> str:
    if all(entry["seeds"]["cas"]["seeds"] < 2 for entry in result["methods"]):
        return ""
    lines = [
        [
            entry["method"],
            str(entry["seeds"]["cas"]["seeds"]),
            *(
                f"{number(entry['seeds'][c]['mean'])} ± {number(entry['seeds'][c]['std'])}"
                for c in COLUMNS
            ),
        ]
        for entry in result["methods"]
    ]
    table = markdown_table(["Method", "seeds", *_HEADINGS.values()], lines)
    return (
        "## Spread over generation seeds\n\nMean ± standard deviation of the seed means: the noise "
        f"of sampling from one trained model. Training variance is not in it.\n\n{table}"
    )


def _pairs(result: dict[str, Any]) -> str:
    if not result["pairs"]:
        return ""
    lines = [
        [
            f"{pair['left']} − {pair['right']}",
            str(pair["n_cases"]),
            with_bounds(pair["difference"]),
            p_value(pair["p"]) + (" (exact)" if pair["p_exact"] else ""),
            p_value(pair["p_adjusted"]),
            with_bounds(pair["win_rate"]),
        ]
        for pair in result["pairs"]
    ]
    headings = ["Pair", "cases", "difference in CAS", "p (sign flips)", "p (Holm)", "win rate"]
    return f"## Paired differences on common cases\n\n{markdown_table(headings, lines)}"


def _tails(result: dict[str, Any]) -> str:
    tail = result["tail"]
    sections = [f"## Low-alignment tail\n\nQuantile of the reference: {tail_quantile(result)}."]
    headings = ["Method", "n", "τ", "below τ ↓", "10th percentile ↑", "correct DD", "wrong DD"]
    for key, title in _TAILS.items():
        if key not in tail:
            continue
        lines = [
            [
                name,
                str(entry["n"]),
                f"{number(entry['tau'])} {bracketed(entry['tau_interval'])}",
                f"{percent(entry['rate'])} {bracketed(entry['rate_interval'], percent)}",
                f"{number(entry['p10'])} {bracketed(entry['p10_interval'])}",
                percent(entry["split"]["rate_correct"]),
                percent(entry["split"]["rate_wrong"]),
            ]
            for name, entry in tail[key].items()
        ]
        sections.append(f"### {title}\n\n{markdown_table(headings, lines)}")
    sections.append(
        "The last two columns are the rates among rightly and wrongly diagnosed images. Intervals "
        "hold the sampling error of the threshold as well. An interval of τ needs 13 independent "
        "real cases, one of the rate 13, one of the 10th percentile 36; cases of unequal numbers "
        "of images count as fewer. A dash stands for none."
    )
    return "\n\n".join(sections)


def tail_quantile(result: dict[str, Any]) -> str:
    """The quantile that made tau, in words."""
    return f"{100 * result['settings']['quantile']:g}th percentile"


def _reductions(result: dict[str, Any]) -> str:
    found = result["tail"]["reductions"]
    if not found:
        return ""
    lines = [
        [r["reading"], r["baseline"], averaging, *_reduction_cells(told)]
        for r in found
        for averaging, told in (("images", r), ("classes", r["class_balanced"]))
        if told
    ]
    headings = ["strongest baseline by", "baseline", "averaged over", "absolute", "relative"]
    table = markdown_table(headings, lines)
    return f"### Reduction of the tail by {_cell(result['focus'])}\n\n{table}"


def _reduction_cells(told: dict[str, Any]) -> list[str]:
    return [
        f"{points(told['absolute'])} points {bracketed(told['absolute_interval'], points)}",
        f"{percent(told['relative'])} {bracketed(told['relative_interval'], percent)}",
    ]


def _excess(result: dict[str, Any]) -> str:
    lines = []
    for name, found in result["exceeds_real"].items():
        for excess in found:
            leading = [c for c in excess["classes"] if c["contribution"] > 0][:3]
            classes = ", ".join(
                f"{c['label']} ({fixed(c['contribution'], signed=True)})" for c in leading
            )
            lines.append(
                [
                    name,
                    excess["primitive"].upper(),
                    with_bounds(excess["generated"]),
                    with_bounds(excess["real"]),
                    with_bounds(excess["difference"]),
                    p_value(excess["p_adjusted"]),
                    classes,
                ]
            )
    if not lines:
        return ""
    headings = [
        *("Method", "primitive", "generated", "Real", "difference on common cases", "p (Holm)"),
        "carried by",
    ]
    table = markdown_table(headings, lines)
    return (
        "## Above Real\n\nGenerated images that score better than the real ones of the same cases, "
        "by one-sided sign-flip tests with Holm's correction over methods and primitives. Where a "
        "reward trained the generator, a sign that the evaluator, not the finding, was optimised."
        f"\n\n{table}"
    )


def _flat(entry: dict[str, Any], tail: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {key: entry[key] for key in ("method", "n", "n_failed")}
    for column in (*COLUMNS, "dd_prob"):
        if column not in entry["mean"]:
            continue
        row[column] = entry["mean"][column]
        row[f"{column}_low"], row[f"{column}_high"] = entry["interval"][column]
        row[f"{column}_class_balanced"] = entry["class_balanced"][column]
    if "seeds" in entry:
        row["seeds"] = entry["seeds"]["cas"]["seeds"]
        row["cas_seed_std"] = entry["seeds"]["cas"]["std"]
    found = tail["by_cas"].get(entry["method"]) if tail else None
    if found:
        row |= {"tau": found["tau"], "low_rate": found["rate"], "p10": found["p10"]}
        row["low_rate_low"], row["low_rate_high"] = found["rate_interval"]
    return row
