"""``trackio``: a run in the project ``cas-metric``, on this machine (``TRACKIO_DIR``)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cas_metric.tracking import Entry

_PROJECT = "cas-metric"


def log(entry: Entry) -> None:
    """Log settings, metrics, the rows as a table and pictures."""
    trackio: Any = import_module("trackio")
    trackio.init(project=_PROJECT, name=entry.name, config=entry.settings)
    try:
        trackio.log(entry.metrics)
        trackio.log({"rows": trackio.Table(dataframe=entry.rows.astype(str))})
        pictures = [trackio.Image(pixels, caption=text) for text, pixels in entry.pictures]
        trackio.log({f"lowest/{number:02d}": one for number, one in enumerate(pictures)})
    finally:
        trackio.finish()
