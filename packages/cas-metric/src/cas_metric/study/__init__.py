"""A blinded ranking study that a clinic can run: create it, serve it, export what was ranked.

A study is a folder: ``study.yaml`` (what raters read), ``study.sqlite3`` (cases, orders, answers)
and ``images/`` (copies under random names, without metadata). Method names and original file names
stay in the database; nothing that a browser receives holds either.

Source: Appendix D and section 4.2.6 of the paper.
"""

from cas_metric.study.building import Link, create_study
from cas_metric.study.cases import Candidate, Case, collect_cases, draw_cases, with_window
from cas_metric.study.design import Design, Question
from cas_metric.study.store import Store, open_study
from cas_metric.study.wording import Wording, read_wording

__all__ = [
    "Candidate",
    "Case",
    "Design",
    "Link",
    "Question",
    "Store",
    "Wording",
    "collect_cases",
    "create_study",
    "draw_cases",
    "open_study",
    "read_wording",
    "with_window",
]
