"""A scoring run as an object and as a folder."""

from cas_metric.runs.folder import read_run, write_run
from cas_metric.runs.run import Run

__all__ = ["Run", "read_run", "write_run"]
