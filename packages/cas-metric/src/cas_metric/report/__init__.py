"""Reports for people: one HTML file a run, and figures for publication."""

from cas_metric.report.document import write_report

__all__ = ["write_report"]
