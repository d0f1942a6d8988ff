"""What a published table lets one recompute, and whether it comes out as printed.

:func:`check_document` takes a :class:`Document` and returns one :class:`Finding` for each thing
that could be recomputed, with one of five verdicts:

* ``holds``: recomputed from the printed numbers, the claim comes out as printed;
* ``rounding``: it does not, but numbers exist that round to those printed and satisfy it;
* ``mismatch``: no such numbers exist under the stated reading;
* ``weak``: the arithmetic holds, but it does not carry the conclusion;
* ``impossible``: no data of the stated size can give the printed number.
"""

from cas_metric.statistics.claims.checks import check_document
from cas_metric.statistics.claims.document import Document, load_document, load_paper, read_document
from cas_metric.statistics.claims.finding import VERDICTS, Finding

__all__ = [
    "VERDICTS",
    "Document",
    "Finding",
    "check_document",
    "load_document",
    "load_paper",
    "read_document",
]
