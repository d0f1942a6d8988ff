"""``wandb``: a run of Weights & Biases; ``WANDB_MODE=offline`` keeps it on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cas_metric.tracking import Entry


def log(entry: Entry) -> None:
    """Log settings, metrics, the rows as a table, pictures."""
    wandb: Any = import_module("wandb")
    with wandb.init(name=entry.name, config=entry.settings, dir=str(entry.folder)) as run:
        run.log(entry.metrics)
        run.log({"rows": wandb.Table(dataframe=entry.rows.astype(object))})
        run.log({"lowest": [wandb.Image(pixels, caption=text) for text, pixels in entry.pictures]})
