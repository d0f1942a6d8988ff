"""The four clinical data sets of the paper: verified, split, and written as manifests.

Images are never shipped or downloaded; :attr:`~cas_metric.datasets.base.Dataset.source` says where
each data set is obtained and under which terms.
"""

from cas_metric.datasets.base import Collection, Dataset, Partition, Source
from cas_metric.datasets.preparing import DATASETS, Preparation, Request, prepare, write

__all__ = [
    "DATASETS",
    "Collection",
    "Dataset",
    "Partition",
    "Preparation",
    "Request",
    "Source",
    "prepare",
    "write",
]
