"""Several runs on one set of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric import protocol
from cas_metric.errors import InputError
from cas_metric.statistics.comparison import PERMUTATIONS
from cas_metric.verbs.inputs import load_run, run_name, run_warnings
from cas_metric.verbs.result import Result, require_free
from cas_metric.verbs.text import listed

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs import Run

#: Means of Real that differ by more are means of different images, texts or probes.
_SAME_REAL = 1e-3


def compare(
    runs: Sequence[str | Path | Run] | Mapping[str, str | Path | Run],
    *,
    real: str | Path | Run | None = None,
    method: str | None = None,
    by: str | Sequence[str] = (),
    quantile: float = protocol.TAIL_QUANTILE,
    resamples: int = PERMUTATIONS,
    seed: int = protocol.BOOTSTRAP_SEED,
    offline: bool = False,
    out: str | Path | None = None,
) -> Result:
    """Compare methods and seeds that were scored on one set of cases.

    Args:
        runs: Folders of `cas score` or :class:`~cas_metric.runs.Run` objects; ``NAME=FOLDER`` or a
            mapping of names renames the method of a run.
        real: Run whose real images set the threshold; the first run by default.
        method: Method whose tail is held against all others; by default the best mean CAS.
        by: Columns of the runs, scored with ``--by``, whose groups are held against each other.
        quantile: Quantile of Real that makes tau.
        resamples: Random sign patterns of the permutation tests.
        seed: Of the sign patterns.
        offline: Never use the network.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.

    Returns:
        A result named ``comparison``; its summary is that of
        :func:`cas_metric.statistics.method_table.compare_methods`.

    Raises:
        InputError: A run cannot be read, the runs are of different encoders, an image occurs twice
            under one name, or no method is called ``method``.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.compare(["demo/run"])
        >>> found.summary["focus"]
        'faithful'
    """
    from cas_metric.runs.folder import Origin
    from cas_metric.statistics.method_table import Settings, compare_methods
    from cas_metric.statistics.subgroups import by_method, markdown
    from cas_metric.statistics.tables import csv_rows, markdown_report

    by, loaded = listed(by), _load(runs)
    reference = _reference(real, loaded)
    origin = Origin.of_verb(
        "comparison", {"runs": [run.path for _, run in loaded], "real": reference.path}
    )
    require_free(out, "comparison", origin, tables=("comparison",))
    rows = _join(loaded)
    settings = Settings(resamples=resamples, seed=seed, quantile=quantile)
    summary = compare_methods(
        rows,
        reference.real,
        reference.floor,
        focus=method,
        settings=settings,
        provenance=_provenance(loaded, offline),
    )
    summary["runs"] = [run_name(run) for _, run in loaded]
    summary["embedded_world"] = any(run.summary.get("embedded_world") for _, run in loaded)
    summary["protocol"] = sorted({str(run.summary["protocol"]) for _, run in loaded})
    summary["warnings"] = [
        *run_warnings([*(run for _, run in loaded), reference]),
        *summary["warnings"],
        *_doubts(loaded, reference),
    ]
    groups = by_method(rows, by, tau=(summary.get("tail") or {}).get("tau")) if by else {}
    grouped = (f"### {name}, by group\n\n{markdown(one)}" for name, one in groups.items())
    summary["subgroups"] = {name: one.as_dict() for name, one in groups.items()}
    return Result(
        "comparison",
        summary,
        "\n\n".join([markdown_report(summary), *grouped]),
        {"comparison": _frame(csv_rows(summary))},
        (partial(_draw, summary, rows, reference),),
        origin=origin,
    )


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)


def _load(
    runs: Sequence[str | Path | Run] | Mapping[str, str | Path | Run],
) -> list[tuple[str | None, Run]]:
    """Name given to the run, if any, and the run."""
    named: list[tuple[str | None, str | Path | Run]] = []
    if isinstance(runs, Mapping):
        named = list(runs.items())
    else:
        for one in runs:
            name, found, folder = str(one).partition("=") if isinstance(one, str) else ("", "", "")
            renamed = bool(found) and not Path(str(one)).exists()
            named.append((name, folder) if renamed else (None, one))
    if not named:
        raise InputError("no run was given", fix="name at least one folder of `cas score`")
    loaded = [(name, load_run(source)) for name, source in named]
    fingerprints = {run.summary["encoder"]["fingerprint"] for _, run in loaded}
    if len(fingerprints) > 1:
        raise InputError(
            "the runs were scored by different encoders: "
            + "; ".join(
                f"{run_name(run)}: {run.summary['encoder'].get('name')}" for _, run in loaded
            ),
            fix="score all of them with the same encoder, revision, dtype and text policy",
        )
    return loaded


def _reference(real: str | Path | Run | None, loaded: list[tuple[str | None, Run]]) -> Run:
    run = load_run(real) if real is not None else loaded[0][1]
    if run.summary["encoder"]["fingerprint"] != loaded[0][1].summary["encoder"]["fingerprint"]:
        raise InputError(
            f"the real images of {run_name(run)} were scored by another encoder than the runs",
            fix="take them from a run of the same encoder",
        )
    if real is not None and run.real is None:
        raise InputError(
            f"{run_name(run)} holds no real images", fix="choose a run scored against real ones"
        )
    return run


def _join(loaded: list[tuple[str | None, Run]]) -> pd.DataFrame:
    """Rows of all runs under the names of their methods."""
    import pandas as pd

    tables = [_named_rows(name, run) for name, run in loaded]
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


def _named_rows(name: str | None, run: Run) -> pd.DataFrame:
    rows = run.rows.copy()
    # A folder without seeds leaves the column empty, or out.
    rows["seed"] = rows["seed"].astype("string").fillna("").astype(str) if "seed" in rows else ""
    if name is not None:
        return rows.assign(method=name)
    methods = rows["method"].fillna("").astype(str)
    unnamed = run.path.name if run.path is not None else "generated"
    return rows.assign(method=methods.mask(methods == "", unnamed))


def _provenance(loaded: list[tuple[str | None, Run]], offline: bool) -> dict[str, Any]:
    """Method to how its images were made: what the run says, and ``cas.yaml`` of their folder."""
    from cas_metric.manifest import read_folder_config

    found: dict[str, Any] = {}
    for name, run in loaded:
        generated = ((run.summary.get("provenance") or {}).get("inputs") or {}).get("generated")
        root = Path((generated or {}).get("root") or "")
        for method in _named_rows(name, run)["method"].unique():
            told: list[Any] = [run.summary.get("generated_provenance"), generated]
            for folder in (root, root / method):
                there = root.name and folder.is_dir()
                config = read_folder_config(folder, offline=offline) if there else None
                told.append(config.provenance if config else None)
            found[str(method)] = [one for one in told if one]
    return found


def _doubts(loaded: list[tuple[str | None, Run]], reference: Run) -> list[str]:
    """What makes runs less comparable without forbidding it."""
    doubts = []
    for _, run in loaded:
        if run.summary["protocol"] != protocol.VERSION:
            points = ", ".join(map(str, run.summary.get("departures", []))) or "see its summary"
            doubts.append(f"{run_name(run)} departs from {protocol.VERSION}: {points}")
        if run.real is None or reference.real is None or run is reference:
            continue
        if abs(run.real["cas"].mean() - reference.real["cas"].mean()) > _SAME_REAL:
            doubts.append(
                f"the real images of {run_name(run)} have another mean CAS than those of "
                f"{run_name(reference)}: another set of cases, texts or another probe"
            )
    if reference.real is None:
        doubts.append("no real images: the low-alignment tail is left out (see --real)")
    return doubts


def _draw(summary: dict[str, Any], rows: pd.DataFrame, reference: Run, out: Path) -> None:
    """Means, distributions and the stability of the tail."""
    from cas_metric.report import figures
    from cas_metric.statistics.uncertainty import Interval

    level = summary["settings"]["level"]

    def interval(entry: dict[str, Any]) -> Interval:
        low, high = entry["interval"]["cas"]
        return Interval(entry["mean"]["cas"], low, high, level)

    drawn = [entry for entry in summary["methods"] if entry["mean"]["cas"] == entry["mean"]["cas"]]
    means = {entry["method"]: interval(entry) for entry in drawn}
    real = interval(summary["real"]) if "real" in summary else None
    figures.save_figure(figures.forest(means, real=real), out / "means")
    if "tail" not in summary or reference.real is None:
        return
    values = {name: rows.loc[rows["method"] == name, "cas"] for name in means}
    floor = None if reference.floor is None else reference.floor["cas"]
    tau = summary["tail"]["tau"]
    figure = figures.ecdf(values, reference.real["cas"], tau=tau, floor=floor)
    figures.save_figure(figure, out / "ecdf")
    curves = summary["tail"]["stability"]
    quantile = summary["settings"]["quantile"]
    figures.save_figure(figures.stability(curves, quantile=quantile), out / "stability")
