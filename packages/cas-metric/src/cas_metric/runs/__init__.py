"""A scoring run as an object and as a folder."""

from cas_metric.runs.folder import Run, read_run, write_run

__all__ = ["Run", "read_run", "write_run"]
