"""``mlflow``: a run at ``MLFLOW_TRACKING_URI``, in the experiment of ``MLFLOW_EXPERIMENT_NAME``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cas_metric.tracking import Entry

#: MLflow refuses longer values of parameters.
_LONGEST = 6000


def log(entry: Entry) -> None:
    """Log parameters, metrics, the rows as a table, pictures."""
    mlflow: Any = import_module("mlflow")
    with mlflow.start_run(run_name=entry.name):
        mlflow.log_params({key: str(value)[:_LONGEST] for key, value in entry.settings.items()})
        mlflow.log_metrics(entry.metrics)
        mlflow.log_table(entry.rows.astype(object).where(entry.rows.notna(), None), "rows.json")
        for number, (_, pixels) in enumerate(entry.pictures):
            mlflow.log_image(pixels, f"lowest/{number:02d}.png")
        mlflow.log_dict({f"{n:02d}": text for n, (text, _) in enumerate(entry.pictures)},
                        "lowest/captions.json")  # fmt: skip
