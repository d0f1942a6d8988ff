"""Statistics of a run in parts, with one part in memory at a time.

Everything is a sum over images, so it adds up over parts:

* **counts, means, per-class means** from sums: exact.
* **intervals of means and of the diagnosis**: the cluster-robust error needs the sum and the number
  of images of each case only, so they are those of a run in one piece, exactly. Memory grows with
  the number of cases (patients, references), not with that of images.
* **the share below tau and the 10th percentile** of CAS: scores have six decimals, so counts at
  each of the 2,000,001 values that a CAS can have are all of it: exact.

Not here, since they need more than sums: intervals of the share below tau (tau has an error of its
own) and of the 10th percentile, class-balanced means with theirs, subgroups, pictures. Up to the
rounding of float64 sums, exact means exact.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cas_metric.files import to_json, write_bytes
from cas_metric.protocol import (
    CONFIDENCE,
    LOW_PERCENTILE,
    QUANTILE_METHOD,
    TAIL_QUANTILE,
)
from cas_metric.statistics.aggregate import (
    BOUNDS,
    DD_WEIGHT,
    QUANTITIES,
    UNITS,
    case_clusters,
    cluster_unit,
)
from cas_metric.statistics.intervals import (
    Part,
    combine,
    mean_of_errors,
    nothing,
    rate_of_errors,
)
from cas_metric.statistics.tail import threshold
from cas_metric.statistics.uncertainty import Floats

if TYPE_CHECKING:
    from cas_metric.engine.parts import Parted

#: File of the statistics, in the folder of the run.
NAME: Final = "partitions.json"
#: Values of a CAS, from -1 to 1 in steps of a millionth.
_STEPS: Final = 1_000_000
#: Sums of cases are added up when there are so many times as many as after the last time.
_COMPACT: Final = 4

assert QUANTILE_METHOD == "linear"


class Sums:
    """What adds up over the parts of one method."""

    def __init__(self) -> None:
        self.units: set[str] = set()
        self.failed = 0
        self.references: set[str] = set()
        self.counts = np.zeros(2 * _STEPS + 1, dtype=np.int64)
        self._cases = pd.DataFrame()
        self._waiting: list[pd.DataFrame] = []
        self._classes = pd.DataFrame()

    def add(self, rows: pd.DataFrame) -> None:
        """Count the rows of one part."""
        kept = rows[rows["status"] != "failed"]
        self.failed += len(rows) - len(kept)
        self.units.add(cluster_unit(kept))
        self.references.update(kept["reference"].astype(str))
        values = kept[list(QUANTITIES)].astype(np.float64)
        whole = values["cas"].notna()
        columns = {f"{name}_sum": values[name].fillna(0.0) for name in QUANTITIES}
        columns |= {f"{name}_n": values[name].notna().astype(np.int64) for name in QUANTITIES}
        columns["whole_dd_sum"] = values["dd"].where(whole, 0.0)
        table = pd.DataFrame(columns).assign(images=1)
        self._waiting.append(table.groupby(case_clusters(kept)).sum())
        if sum(map(len, self._waiting)) > _COMPACT * max(len(self._cases), 1000):
            self._compact()
        classes = table.groupby(kept["label"].astype(str)).sum()
        self._classes = self._classes.add(classes, fill_value=0)
        found, counts = np.unique(
            np.rint((values["cas"][whole] + 1) * _STEPS).astype(np.int64), return_counts=True
        )
        self.counts[found] += counts

    def _compact(self) -> None:
        self._cases = pd.concat([self._cases, *self._waiting]).groupby(level=0).sum()
        self._waiting = []

    def statistics(self, tau: float | None, level: float = CONFIDENCE) -> dict[str, Any]:
        """Plain values, under the names of ``summary.json``."""
        self._compact()
        found = {q: self._part(q, level).interval(level, BOUNDS[q]) for q in QUANTITIES}
        return {
            "n": int(self._cases["images"].sum()),
            "n_failed": self.failed,
            "clusters": len(self._cases),
            "cluster_unit": next((name for name in UNITS if name in self.units), "row"),
            "mean": {name: one.estimate for name, one in found.items()},
            "interval": {name: [one.low, one.high] for name, one in found.items()},
            "per_class": {
                str(label): {
                    "n": int(row["images"]),
                    **{q: _ratio(row[f"{q}_sum"], row[f"{q}_n"]) for q in QUANTITIES},
                }
                for label, row in self._classes.iterrows()
            },
            "tail": self._tail(tau) if tau is not None and self.counts.any() else None,
        }

    def _part(self, name: str, level: float) -> Part:
        sums, sizes = (self._cases[f"{name}_{kind}"].to_numpy(float) for kind in ("sum", "n"))
        if name == "dd":
            return _part_of_sums(sums, sizes, level, rate_of_errors)
        if name != "cas":
            return _part_of_sums(sums, sizes, level, mean_of_errors)
        dd = self._cases["whole_dd_sum"].to_numpy(float)
        rest = _part_of_sums(sums - DD_WEIGHT * dd, sizes, level, mean_of_errors)
        right = _part_of_sums(dd, sizes, level, rate_of_errors)
        return combine([rest, right], [1.0, DD_WEIGHT])

    def _tail(self, tau: float) -> dict[str, Any]:
        below = np.arange(-_STEPS, _STEPS + 1) / _STEPS < tau
        n, low = int(self.counts.sum()), int(self.counts[below].sum())
        return {
            "n": n,
            "n_low": low,
            "tau": tau,
            "rate": low / n,
            "p10": self.quantile(LOW_PERCENTILE / 100),
        }

    def quantile(self, share: float) -> float:
        """A quantile of CAS, with linear interpolation between its neighbours."""
        cumulated = np.cumsum(self.counts)
        place = share * (cumulated[-1] - 1)
        ends = np.searchsorted(cumulated, [math.floor(place), math.ceil(place)], side="right")
        low, high = (ends - _STEPS) / _STEPS
        return float(low + (high - low) * (place - math.floor(place)))


def _part_of_sums(sums: Floats, sizes: Floats, level: float, kind: Callable[..., Part]) -> Part:
    """A mean or a rate with its limits, from the ``(C,)`` sums of cases and their numbers."""
    total = sizes.sum()
    if not total:
        return nothing(len(sums))
    mean = float(sums.sum() / total)
    return kind(mean, (sums - sizes * mean) / total, sizes, level)


def statistics(parted: Parted) -> dict[str, Any]:
    """Statistics of every method, from the files of the parts.

    Args:
        parted: All of whose parts are there.
    """
    paths = [parted.work.folder / part.name for part in parted.parts]
    sums: defaultdict[str, Sums] = defaultdict(Sums)
    columns = ["method", "label", "status", *UNITS, *QUANTITIES]
    for rows in _tables(paths, columns):
        for method, own in rows.groupby("method"):
            sums[str(method)].add(own)
    real = parted.head.real
    return {
        "parts": len(paths),
        "tau_quantile": TAIL_QUANTILE,
        "methods": [
            {"method": name, **one.statistics(_tau(real, one.references))}
            for name, one in sorted(sums.items())
        ],
    }


def _tau(real: pd.DataFrame, references: set[str]) -> float | None:
    """Threshold of the real images of a method's cases; None where they have no CAS."""
    cases = real["image"].isin(references)
    cas = real["cas"][cases if cases.any() else slice(None)]
    return threshold(cas.to_numpy()) if cas.notna().any() else None


def write_statistics(parted: Parted) -> Path:
    """Write :func:`statistics` beside the parts' folder, and return the file."""
    path = parted.work.folder.parent / NAME
    write_bytes(path, to_json(statistics(parted)).encode())
    return path


def _tables(paths: list[Path], columns: list[str]) -> Iterator[pd.DataFrame]:
    """These columns of each part; a column that a part lacks is empty text."""
    import pyarrow.parquet as pq

    for path in paths:
        held = [name for name in columns if name in pq.read_schema(path).names]
        table = pd.read_parquet(path, columns=held)
        yield table.reindex(columns=columns, fill_value="")


def _ratio(total: float, count: float) -> float:
    return float(total / count) if count else math.nan
