"""``cas compare``: compare runs of several methods: tables, tails, tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric import protocol
from cas_metric.cli.results import deliver
from cas_metric.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs.run import Run

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


HELP = """
Compare methods and seeds that were scored on one set of cases.

Prints the means of every primitive and of CAS with the best in bold, class-balanced means
beside them, the spread over generation seeds apart from case-level intervals, paired
differences with permutation p-values after Holm, win rates, and the low-alignment tail with
the uncertainty of its threshold. Warns where the threshold lies between the two modes of the
0/1 diagnosis, where the tail only restates 1 - DD, and where a method scores above Real.

Runs must share the encoder: scores of different checkpoints are never compared.

Example: `cas compare runs/lora runs/craft --real runs/craft --out comparison`
"""


@app.command(help=HELP)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Directories written by `cas score`. NAME=DIRECTORY renames the method of a run.",
            metavar="RUN…",
        ),
    ],
    real: Annotated[
        Path | None,
        typer.Option(help="Run whose real images set the threshold; the first run by default."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method whose tail is held against all others; by default the best mean CAS."
        ),
    ] = None,
    quantile: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Quantile of Real that makes tau.")
    ] = protocol.TAIL_QUANTILE,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap resamples of the cases.")
    ] = protocol.RESAMPLES,
    seed: Annotated[
        int, typer.Option(help="Seed of the resamples and permutations.")
    ] = protocol.BOOTSTRAP_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for tables (JSON, CSV, Markdown) and figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Compare runs; the help text is :data:`HELP`."""
    from cas_metric.statistics.method_table import Settings, compare_methods
    from cas_metric.statistics.tables import markdown_report

    loaded = _load(runs)
    reference = _reference(real, loaded)
    rows = _join(loaded)
    settings = Settings(resamples=resamples, seed=seed, quantile=quantile)
    result = compare_methods(rows, reference.real, reference.floor, focus=method, settings=settings)
    result["runs"] = [str(run.path) for _, run in loaded]
    result["embedded_world"] = any(run.summary.get("embedded_world") for _, run in loaded)
    result["protocol"] = sorted({str(run.summary["protocol"]) for _, run in loaded})
    result["warnings"] += _doubts(loaded, reference)
    if out is not None:
        _write_table(out, result)
        _draw(out, result, rows, reference)
    deliver(result, markdown_report(result), out=out, name="comparison", as_json=as_json)


def _load(runs: list[str]) -> list[tuple[str | None, Run]]:
    """Name given on the command line, if any, and the run."""
    from cas_metric.runs.folder import read_run

    loaded: list[tuple[str | None, Run]] = []
    for argument in runs:
        name, found, directory = argument.partition("=")
        if found and not Path(argument).exists():
            loaded.append((name, read_run(directory)))
        else:
            loaded.append((None, read_run(argument)))
    fingerprints = {run.summary["encoder"]["fingerprint"] for _, run in loaded}
    if len(fingerprints) > 1:
        raise InputError(
            "the runs were scored by different encoders: "
            + "; ".join(f"{run.path}: {run.summary['encoder'].get('name')}" for _, run in loaded),
            fix="score all of them with the same encoder, revision, dtype and text policy",
        )
    return loaded


def _reference(real: Path | None, loaded: list[tuple[str | None, Run]]) -> Run:
    from cas_metric.runs.folder import read_run

    run = read_run(real) if real is not None else loaded[0][1]
    if run.summary["encoder"]["fingerprint"] != loaded[0][1].summary["encoder"]["fingerprint"]:
        raise InputError(
            f"the real images of {run.path} were scored by another encoder than the runs",
            fix="take them from a run of the same encoder",
        )
    if real is not None and run.real is None:
        raise InputError(
            f"{real} holds no real images", fix="choose a run scored against real ones"
        )
    return run


def _join(loaded: list[tuple[str | None, Run]]) -> pd.DataFrame:
    """Rows of all runs under the names of their methods."""
    import pandas as pd

    tables = []
    for name, run in loaded:
        rows = run.rows.copy()
        empty = rows["method"].fillna("").astype(str) == ""
        rows["method"] = rows["method"].astype(object).mask(empty, str(run.path and run.path.name))
        tables.append(rows if name is None else rows.assign(method=name))
    joined = pd.concat(tables, ignore_index=True)
    repeated = joined.duplicated(["method", "seed", "id"])
    if repeated.any():
        first = joined[repeated].iloc[0]
        raise InputError(
            f"{int(repeated.sum())} images occur twice under one method and seed, for example "
            f"{first['id']!r} of {first['method']!r}",
            fix="give the runs different names, as in: cas compare a=runs/one b=runs/two",
        )
    return joined


def _doubts(loaded: list[tuple[str | None, Run]], reference: Run) -> list[str]:
    """What makes runs less comparable without forbidding it."""
    doubts = []
    for _, run in loaded:
        if run.summary["protocol"] != protocol.VERSION:
            points = ", ".join(map(str, run.summary.get("departures", []))) or "see its summary"
            doubts.append(f"{run.path} departs from {protocol.VERSION}: {points}")
        if run.real is None or reference.real is None or run is reference:
            continue
        if abs(run.real["cas"].mean() - reference.real["cas"].mean()) > 1e-3:
            doubts.append(
                f"the real images of {run.path} have another mean CAS than those of "
                f"{reference.path}: another set of cases, texts or another probe"
            )
    if reference.real is None:
        doubts.append("no real images: the low-alignment tail is left out (see --real)")
    return doubts


def _write_table(out: Path, result: dict[str, Any]) -> None:
    import pandas as pd

    from cas_metric.files import write_bytes
    from cas_metric.statistics.tables import csv_rows

    table = pd.DataFrame(csv_rows(result)).to_csv(index=False, lineterminator="\n")
    write_bytes(out / "comparison.csv", table.encode())


def _draw(out: Path, result: dict[str, Any], rows: pd.DataFrame, reference: Run) -> None:
    from cas_metric.report import figures
    from cas_metric.statistics.uncertainty import Interval

    level = result["settings"]["level"]

    def interval(entry: dict[str, Any]) -> Interval:
        low, high = entry["interval"]["cas"]
        return Interval(entry["mean"]["cas"], low, high, level)

    means = {entry["method"]: interval(entry) for entry in result["methods"]}
    real = interval(result["real"]) if "real" in result else None
    figures.save_figure(figures.forest(means, real=real), out / "means")
    if reference.real is None:
        return
    values = {name: rows.loc[rows["method"] == name, "cas"] for name in means}
    floor = None if reference.floor is None else reference.floor["cas"]
    tau = result["tail"]["tau"]
    figure = figures.ecdf(values, reference.real["cas"], tau=tau, floor=floor)
    figures.save_figure(figure, out / "ecdf")
    curves = result["tail"]["stability"]
    quantile = result["settings"]["quantile"]
    figures.save_figure(figures.stability(curves, quantile=quantile), out / "stability")
