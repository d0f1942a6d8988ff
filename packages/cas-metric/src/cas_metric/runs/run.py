"""A scoring run as an object, and the image files behind its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cas_metric.errors import InputError
from cas_metric.files import place
from cas_metric.images import Window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cas_metric.scoring.probe import Probe


@dataclass(frozen=True, eq=False)
class Run:
    """What :func:`cas_metric.score` found, or what a folder holds of it.

    Attributes:
        rows: One row a generated image; columns of :data:`cas_metric.scoring.per_image.COLUMNS`.
        summary: Every aggregate, and how the run was made: the content of ``summary.json``.
        real: The real images against themselves; None where the run has none.
        floor: Each real image against another one of its class; None where the run has none.
        probe: The probe, where it was fitted on a training split in this run.
        calibrated: The columns of ``cas-v2``, one row an image in the order of ``rows``: see
            :mod:`cas_metric.calibrated`; None where the run was scored without them.
        path: Folder that it was read from or saved to; None for a run in memory.

    Examples:
        >>> run = Run.load("demo/run")
        >>> run.worst(3)["method"].tolist()
        ['wrong', 'wrong', 'wrong']
        >>> run.tail()[["method", "n"]].values.tolist()
        [['degraded', 16], ['faithful', 16], ['wrong', 16]]
    """

    rows: pd.DataFrame
    summary: dict[str, Any]
    real: pd.DataFrame | None = None
    floor: pd.DataFrame | None = None
    probe: Probe | None = None
    calibrated: pd.DataFrame | None = None
    path: Path | None = None

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read the folder that ``cas score`` or :meth:`save` wrote.

        Raises:
            InputError: No run, an interrupted one, or files that do not hold what they should.
        """
        from cas_metric.runs.folder import read_run

        return read_run(folder)

    def save(self, folder: str | Path, *, keep: Collection[Path] = ()) -> Path:
        """Write rows, summary, probe and report, and return the folder.

        Nothing of an earlier run there is removed before all of this one is written, and no file of
        ``keep``.

        Raises:
            InputError: It holds another run, or the result of another verb.
            CasError: The folder cannot be written to.
        """
        from cas_metric.runs.folder import SUMMARY, made_from, require_own, write_run

        require_own(Path(folder) / SUMMARY, made_from(self.summary) or {})

        return write_run(
            folder, self.rows, self.summary, real=self.real, floor=self.floor, probe=self.probe,
            calibrated=self.calibrated, report=self.to_html(), keep=keep,
        )  # fmt: skip

    def tail(self) -> pd.DataFrame:
        """The low-alignment tail, one row a method: tau, rate and P10 with their intervals.

        Empty where no image has a CAS.
        """
        tails = [
            {"method": one["method"], **one["tail"]}
            for one in self.summary["methods"]
            if one["tail"]
        ]
        return pd.DataFrame(tails)

    def worst(self, count: int = 24) -> pd.DataFrame:
        """The ``count`` rows with the lowest CAS, worst first, or the first score that is there."""
        from cas_metric.report.gallery import worst

        return worst(self.rows, count)

    def plot(self) -> Figure:
        """Distribution of CAS by method, against Real and the floor (Fig. 4 of the paper).

        Raises:
            InputError: There is no CAS, of the generated or of the real images.
        """
        from cas_metric.report.figures import ecdf

        tau = self.summary["tau"]
        if self.real is None or tau is None or not self.rows["cas"].notna().any():
            raise InputError(
                "there is no CAS to draw", fix="summary['missing'] says what it would need"
            )
        methods = {str(name): rows["cas"] for name, rows in self.rows.groupby("method")}
        floor = None if self.floor is None else self.floor["cas"]
        return ecdf(methods, self.real["cas"], tau=tau, floor=floor)

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML file without neighbours, and return its path.

        Raises:
            CasError: It cannot be written there.
        """
        from cas_metric.files import write_bytes

        target = Path(path)
        write_bytes(target, self.to_html().encode())
        return target

    def to_html(self) -> str:
        """The report as HTML."""
        from cas_metric.report.document import render_report

        return render_report(self)

    def _repr_html_(self) -> str:
        """The table of means, for notebooks."""
        from cas_metric.report.document import render_table

        return render_table(self)


def roots(
    summary: Mapping[str, Any],
    generated: str | Path | None = None,
    real: str | Path | None = None,
) -> tuple[Path | None, Path | None]:
    """Folders of the generated and the real images: as given, else as the summary names them."""
    given = zip((generated, real), _inputs(summary), strict=True)
    first, second = (place(g or n["root"]) if g or n.get("root") else None for g, n in given)
    return first, second


def windows(summary: Mapping[str, Any]) -> tuple[Window | None, Window | None]:
    """Display windows of the generated and the real images, as the summary states them."""
    first, second = (Window(*w) if (w := n.get("window")) else None for n in _inputs(summary))
    return first, second


def domain_of(summary: Mapping[str, Any]) -> str:
    """The pack of the domain: its file where it was given so, else its name; empty without one."""
    told = (summary.get("provenance") or {}).get("domain_file")
    return str(told or summary.get("domain") or "")


def locate(root: Path | None, row: Mapping[Any, Any], column: str) -> Path | None:
    """The file that a row names in ``column``; an absolute path needs no root."""
    name = row.get(column)
    if not isinstance(name, str) or not name:
        return None
    if "://" in name:
        return place(name)
    path = Path(name)
    if ".." in path.parts or (root is None and not path.is_absolute()):
        return None
    return (root or Path()) / path


def _inputs(summary: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the summary says of the generated and of the real images."""
    inputs = (summary.get("provenance") or {}).get("inputs") or {}
    return inputs.get("generated") or {}, inputs.get("real") or {}
