"""What a report warns of: scores above Real, and a threshold between the two modes of Real.

Where it tells a reader to look at the stability curve and the graded score, it shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cas_metric.protocol import TAIL_QUANTILE
from cas_metric.report import charts
from cas_metric.report.charts import Chart
from cas_metric.report.content import Entry
from cas_metric.report.tables import Cell, Column, Table, TableRow, between, share
from cas_metric.statistics.aggregate import (
    case_clusters,
    graded_cas,
    of_cases,
    real_clusters,
    scored,
)
from cas_metric.statistics.bimodality import Bimodality, bimodality
from cas_metric.statistics.exceeds_real import exceeds_real, excess_message, reward_trained
from cas_metric.statistics.tail import stability_curve, tail_statistics

if TYPE_CHECKING:
    import pandas as pd


def above_real(
    methods: Sequence[Entry], references: Sequence[Entry], provenance: Mapping[str, Any]
) -> list[str]:
    """Scores above those of the real images of the same cases, beyond chance.

    Args:
        methods: Of the report.
        references: Real among them, or nothing is tested.
        provenance: How the generated set was made: whether a reward trained it.
    """
    real = _real(references)
    if real is None:
        return []
    trained = reward_trained(provenance)
    found = exceeds_real({one.name: scored(one.rows) for one in methods}, scored(real.rows))
    return [
        excess_message(name, excess, trained=trained)
        for name, entries in found.items()
        for excess in entries
    ]


def generated_provenance(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How the generated images were made: ``cas.yaml`` of their folder, where it is still there."""
    from cas_metric.manifest import read_folder_config

    inputs = (summary.get("provenance") or {}).get("inputs") or {}
    generated = inputs.get("generated") or {}
    folder = Path(generated.get("root") or "")
    config = read_folder_config(folder) if folder.name and folder.is_dir() else None
    return {"told": generated.get("provenance"), "folder": config.provenance if config else {}}


def modes_of_real(references: Sequence[Entry]) -> Bimodality | None:
    """Where tau lies in the mixture of Real; None without real images that have a CAS."""
    real = _real(references)
    if real is None or not real.rows["cas"].notna().any():
        return None
    return bimodality(real.rows["cas"], real.rows["dd"], clusters=case_clusters(real.rows))


def stability_chart(methods: Sequence[Entry], references: Sequence[Entry]) -> Chart:
    """The low-alignment rate at every choice of the quantile."""
    real = _real(references)
    reference = real.rows["cas"] if real is not None else np.empty(0)
    curves = {
        one.name: (one.ink, stability_curve(one.rows["cas"], reference))
        for one in methods
        if one.rows["cas"].notna().any()
    }
    return charts.stability_chart(curves, TAIL_QUANTILE)


def graded_table(methods: Sequence[Entry], references: Sequence[Entry]) -> Table | None:
    """Low-alignment rates of the 0/1 diagnosis and of its probability beside each other."""
    real = _real(references)
    rows = []
    for one in methods:
        known = None if real is None else of_cases(real.rows, one.rows)
        told = [_rate(score, one.rows, known) for score in (_cas, graded_cas)]
        rows.append(TableRow((Cell(one.name, one.name), *told), one.ink))
    columns = (
        Column("Method", numeric=False),
        Column("below τ", "By CAS, whose diagnosis is 0 or 1."),
        Column("below τ, graded", "By CAS with the probability of the label as its diagnosis."),
    )
    return Table("graded", "Low-alignment rate by either score", columns, tuple(rows))


def _cas(rows: pd.DataFrame) -> Any:
    return rows["cas"].to_numpy(dtype=float)


def _rate(score: Callable[..., Any], rows: pd.DataFrame, real: pd.DataFrame | None) -> Cell:
    if real is None or not all(np.isfinite(score(one)).any() for one in (rows, real)):
        return Cell(share(None))
    rate = tail_statistics(
        score(rows),
        score(real),
        clusters=case_clusters(rows),
        real_clusters=real_clusters(real),
    ).rate
    return Cell(share(rate.estimate), rate.estimate, between([rate.low, rate.high], share))


def _real(references: Sequence[Entry]) -> Entry | None:
    return next((one for one in references if one.ink == "real"), None)
