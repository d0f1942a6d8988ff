"""Which image, label, prompt, reference, patient, method and seed belong together.

A manifest is a table (CSV, Parquet, JSON Lines) or a folder. Every row names one image; generated
and real images are joined by key and never by order, and what does not fit is listed in full
before anything is computed.
"""

from cas_metric.manifest.checks import preflight
from cas_metric.manifest.config import (
    CONFIG_NAME,
    FolderConfig,
    read_folder_config,
    write_folder_config,
)
from cas_metric.manifest.pairing import pair
from cas_metric.manifest.reading import read_manifest
from cas_metric.manifest.rows import ANYWHERE, COLUMNS, Manifest
from cas_metric.manifest.sources import as_manifest
from cas_metric.manifest.writing import write_manifest

__all__ = [
    "ANYWHERE",
    "COLUMNS",
    "CONFIG_NAME",
    "FolderConfig",
    "Manifest",
    "as_manifest",
    "pair",
    "preflight",
    "read_folder_config",
    "read_manifest",
    "write_folder_config",
    "write_manifest",
]
