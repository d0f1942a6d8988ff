"""The ``cas-v2`` part of a run: columns beside its rows, and a block of its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cas_metric import protocol
from cas_metric.calibrated.alignment import RANKS, calibrate
from cas_metric.calibrated.measures import measure
from cas_metric.calibrated.tail import tail_table
from cas_metric.scoring.per_image import DECIMALS

if TYPE_CHECKING:
    from cas_metric.scoring.pipeline import Scores

#: Columns of the table, in file order.
COLUMNS: Final = ("id", "method", "seed", "label", "image", *RANKS, "alignment", "low")


def calibrate_run(scores: Scores) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Calibrate the images of a run on its real ones.

    Args:
        scores: What the run found.

    Returns:
        :data:`COLUMNS`, one row an image in the order of ``scores.rows``; and the block ``cas_v2``
        of the summary: ``version``, ``alpha``, and ``tail``, of
        :func:`~cas_metric.calibrated.tail.tail_table`.
    """
    images, real = measure(scores)
    tables = {}
    for name, rows, measured in (("own", scores.rows, images), ("real", scores.real, real)):
        ranks = calibrate(measured, real).round(DECIMALS)
        kept = [c for c in ("patient", "reference") if c in rows]
        tables[name] = pd.concat(
            [rows[["id", "method", "seed", "label", "image", *kept]], ranks], axis=1
        )
    tail = tail_table(tables["own"], tables["real"])
    own = tables["own"]
    own["low"] = (
        (own["alignment"] <= protocol.ALPHA).astype("boolean").where(own["alignment"].notna())
    )
    block = {
        "version": protocol.CALIBRATED_VERSION,
        "alpha": protocol.ALPHA,
        "tail": tail.to_dict("records"),
    }
    return own[list(COLUMNS)], block
