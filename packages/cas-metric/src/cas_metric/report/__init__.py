"""Reports for people: one HTML file a run, and figures for publication."""

from cas_metric.report.document import write_report
from cas_metric.report.leakage import write_leakage_report
from cas_metric.report.memorization import write_memorization_report

__all__ = ["write_leakage_report", "write_memorization_report", "write_report"]
