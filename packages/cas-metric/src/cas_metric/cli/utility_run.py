"""From the predictions of all classifiers to tables, figure and ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cas_metric.cli.common import console_err, emit_json
from cas_metric.cli.correlate import coefficient_table, correlate_columns
from cas_metric.downstream.comparison import SCORES, best_method, by_method, compare_all
from cas_metric.downstream.grid import REAL_ONLY
from cas_metric.errors import InputError
from cas_metric.files import to_json, write_bytes
from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.report.figures import save_figure
from cas_metric.report.utility import utility_figure
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number, p_value

if TYPE_CHECKING:
    from cas_metric.downstream.comparison import Outcome

#: Fewest methods that a correlation is worth computing for.
_FEWEST: Final = 3
_LABELS: Final = {"accuracy": "accuracy", "macro_f1": "macro-F1"}


def summarise(outcome: Outcome, focus: str | None) -> dict[str, Any]:
    """Scores, comparisons and one row a classifier.

    Args:
        outcome: What the classifiers said.
        focus: Method that is held against the best other one; None takes the most accurate.
    """
    chosen = focus or best_method(outcome)
    rows = [
        {
            **entry._asdict(),
            **{
                score: outcome.scores(entry.method, entry.scale)[score][position]
                for score in SCORES
            },
        }
        for entry, position in _positions(outcome)
    ]
    return {
        "kind": "utility",
        "focus": {"method": chosen, "chosen_after_the_fact": focus is None},
        "classifiers": rows,
        "methods": by_method(outcome),
        "comparisons": compare_all(outcome, chosen),
    }


def _positions(outcome: Outcome) -> list[tuple[Any, int]]:
    """Every cell with the place of its seed among those of its method and scale."""
    cells = sorted(outcome.predictions)
    seeds = sorted({cell.seed for cell in cells})
    return [(cell, seeds.index(cell.seed)) for cell in cells]


def correlation(runs: Sequence[str], outcome: Outcome) -> dict[str, Any] | None:
    """CAS of the methods with both scores at the largest data scale (Appendix G, Table 13).

    Args:
        runs: Directories of ``cas score`` runs, each with or without ``NAME=``.
        outcome: What the classifiers said.

    Returns:
        ``rows`` (method, cas, scores) and ``results``; None without runs.

    Raises:
        InputError: A run's method was not trained with, two runs have one method, or fewer than
            three methods have a CAS.
    """
    if not runs:
        return None
    cas = _mean_cas(runs)
    unknown = sorted(set(cas) - set(outcome.methods))
    if unknown:
        raise InputError(
            f"the runs hold a method {unknown[0]!r} that no classifier was trained with",
            fix=f"rename it with NAME=RUN; the methods are {', '.join(outcome.methods[1:])}",
        )
    if len(cas) < _FEWEST:
        raise InputError(f"a correlation needs three methods, the runs hold {len(cas)}")
    scale = outcome.scales[-1]
    table = pd.DataFrame(
        [
            {
                "method": method,
                "cas": value,
                **{s: v.mean() for s, v in outcome.scores(method, scale).items()},
            }
            for method, value in cas.items()
        ]
    )
    # A score that is the same for every method has no correlation, which is no reason to fail now.
    varying = [score for score in SCORES if np.ptp(table[score]) > 0]
    results = [correlate_columns(table, "", "cas", score, BOOTSTRAP_SEED) for score in varying]
    return {"scale": scale, "rows": table.to_dict("records"), "results": results}


def _mean_cas(runs: Sequence[str]) -> dict[str, float]:
    """Mean CAS of every method of the runs."""
    from cas_metric.cli.utility import named_path
    from cas_metric.runs.folder import read_run

    found: dict[str, float] = {}
    for argument in runs:
        name, path = named_path(argument)
        rows = read_run(path).rows
        methods = rows["method"].fillna("").astype(str)
        if "=" in argument and not Path(argument).exists():
            if (methods != methods.iloc[0]).any():
                raise InputError(f"{path} holds several methods", fix="leave NAME= out")
            methods[:] = name
        for method, cas in rows.groupby(methods.mask(methods == "", path.name))["cas"]:
            if method in found:
                raise InputError(f"two runs hold the method {method!r}", fix="use NAME=RUN")
            found[str(method)] = float(cas.mean())
    return found


def deliver_utility(summary: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    """Write all files, ``summary.json`` last, and print the tables or the summary."""
    classifiers = pd.DataFrame(summary["classifiers"])
    for column, known in (("n_real", summary["n_real"]), ("n_synthetic", summary["n_synthetic"])):
        key = classifiers["scale"].astype(str) if column == "n_real" else classifiers["method"]
        classifiers[column] = key.map(known).fillna(0).astype(int)
    _write_csv(folder / "utility.csv", classifiers)
    if summary["correlation"]:
        _write_csv(folder / "cas_utility.csv", pd.DataFrame(summary["correlation"]["rows"]))
    n_real = {float(scale): count for scale, count in summary["n_real"].items()}
    figure = utility_figure(
        summary["methods"], n_real, reference=REAL_ONLY, title=summary["domain"]
    )
    save_figure(figure, folder / "utility")
    text = markdown(summary)
    write_bytes(folder / "utility.md", text.encode())
    write_bytes(folder / "summary.json", to_json(summary).encode())
    for warning in summary["warnings"]:
        console_err().print(f"warning: {warning}", markup=False)
    if as_json:
        emit_json({**summary, "run": str(folder)})
    else:
        print(text, end="")


def markdown(summary: dict[str, Any]) -> str:
    """Scores, tests and correlation as one document."""
    recipe = summary["recipe"]
    parts = [PHANTOM_NOTICE] if summary["embedded_world"] else []
    parts += [
        "# Downstream utility",
        f"{recipe['network']} on {recipe['size']}×{recipe['size']} pictures, {recipe['steps']} "
        f"updates with batches of {recipe['batch_size']}, {recipe['share']:.0%} of each synthetic; "
        f"{len(summary['seeds'])} seeds, {summary['n_test']:,} test images of "
        f"{len(summary['classes'])} classes.",
        *(f"**Warning.** {warning}." for warning in summary["warnings"]),
        f"## Scores\n\nMean ± standard deviation over seeds.\n\n{_scores(summary)}",
        _tests(summary),
    ]
    if summary["correlation"]:
        parts.append(_correlations(summary["correlation"]))
    if summary["failures"]:
        parts.append(f"{len(summary['failures'])} images could not be read; see summary.json.")
    return "\n\n".join(parts) + "\n"


def _scores(summary: dict[str, Any]) -> str:
    scales = sorted(map(float, summary["n_real"]))
    found = {(e["method"], e["scale"]): e for e in summary["methods"]}
    best = {
        (score, scale): max(e[score]["mean"] for e in summary["methods"] if e["scale"] == scale)
        for score in SCORES
        for scale in scales
    }
    columns = [(score, scale) for score in SCORES for scale in scales]
    headings = ["Method", "images"] + [
        f"{_LABELS[score]}, {summary['n_real'][str(scale)]:,} real" for score, scale in columns
    ]
    lines = []
    for method in dict.fromkeys(e["method"] for e in summary["methods"]):
        cells = []
        for score, scale in columns:
            entry = found[method, scale][score]
            text = f"{number(entry['mean'])} ± {number(entry['std'])}"
            cells.append(f"**{text}**" if entry["mean"] == best[score, scale] else text)
        lines.append([method, f"{summary['n_synthetic'].get(method, 0):,}", *cells])
    return markdown_table(headings, lines)


def _tests(summary: dict[str, Any]) -> str:
    headings = [
        "real images", "comparison", "accuracy", "over seeds: 95%", "p (t)", "p (sign flip)",
        "over images: 95%", "p (sign flip)", "macro-F1", "over seeds: 95%", "p (t)",
    ]  # fmt: skip
    lines = []
    for entry in summary["comparisons"]:
        accuracy, f1 = entry["accuracy"], entry["macro_f1"]
        best = " (best other)" if entry["best_baseline"] else ""
        lines.append(
            [
                f"{summary['n_real'][str(entry['scale'])]:,}",
                f"{entry['left']} − {entry['right']}{best}",
                _signed(accuracy["seeds"]["difference"]["estimate"]),
                _interval(accuracy["seeds"]["difference"]),
                _p(accuracy["seeds"]["p_t_holm"]),
                p_value(accuracy["seeds"]["p_sign_flip"]),
                _interval(accuracy["images"]["difference"]),
                p_value(accuracy["images"]["p_holm"]),
                _signed(f1["seeds"]["difference"]["estimate"]),
                _interval(f1["seeds"]["difference"]),
                _p(f1["seeds"]["p_t_holm"]),
            ]
        )
    count = len(summary["seeds"])
    lead = (
        "Over seeds: paired t interval and test, and the exact sign-flip test, whose smallest "
        f"p-value with {count} seeds is {2 / 2**count:.3g}. Over images: bootstrap interval and "
        "sign-flip test of test images (patients, where known), each with its mean over seeds; "
        "with one seed it is the exact McNemar test. The columns p (t) and, over images, p (sign "
        "flip) are corrected by Holm over all rows."
    )
    if summary["focus"]["chosen_after_the_fact"]:
        lead += (
            f" {summary['focus']['method']} is compared with the best other method because it was "
            "the most accurate: name a method with --focus before looking, for a fair test."
        )
    return f"## Differences\n\n{lead}\n\n{markdown_table(headings, lines)}"


def _correlations(found: dict[str, Any]) -> str:
    parts = [f"## CAS and utility\n\nAt {found['scale']:.0%} of the real images (cas_utility.csv)."]
    for result in found["results"]:  # those of the scores that differ between methods
        parts.append(f"CAS with {_LABELS[result['y']]}:")
        parts.append(coefficient_table(result["coefficients"]))
    return "\n\n".join(parts)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _p(value: float) -> str:
    """A p-value; a dash where the seeds differ by one and the same amount, or there is one seed."""
    return p_value(value) if value == value else "–"  # NaN is unequal to itself


def _interval(entry: dict[str, Any]) -> str:
    return f"{number(entry['low'])} to {number(entry['high'])}".replace("-", "−")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())
