"""The ``cas-v2`` part of a run: columns beside its rows, and a block of its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric import protocol
from cas_metric.calibrated.alignment import RANKS, calibrate, small_together
from cas_metric.calibrated.conformal import tie_breakers
from cas_metric.calibrated.measures import Measured, apart_from_training, measure
from cas_metric.calibrated.tail import tail_table
from cas_metric.scoring.per_image import DECIMALS

if TYPE_CHECKING:
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.encoders import Encoder
    from cas_metric.scoring.pipeline import Scores

#: Columns of the table, in file order.
KEYS: Final = ("id", "method", "seed", "label", "image")
COLUMNS: Final = (*KEYS, *RANKS, "alignment", "deviation", "low")


def calibrate_run(
    scores: Scores, encoder: Encoder, cache: EmbeddingCache
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Calibrate the images of a run on its real ones.

    Args:
        scores: What the run found.
        encoder: That it was found with.
        cache: Store of embeddings.

    Returns:
        :data:`COLUMNS`, one row an image in the order of ``scores.rows``; and the block ``cas_v2``
        of the summary: ``version``, ``alpha``, ``calibration`` (what was fitted and ranked on
        what), and ``tail``, of :func:`~cas_metric.calibrated.tail.tail_table`.
    """
    scores = apart_from_training(scores, encoder)
    images, real = measure(scores, encoder, cache)
    own = _table(scores.rows, images, real)
    tail = tail_table(own, _table(scores.real, real, real), held_out(real))
    own["low"] = low(own["alignment"])
    block = {
        "version": protocol.CALIBRATED_VERSION,
        "alpha": protocol.ALPHA,
        "calibration": {
            "fitted_on": "train" if scores.inputs.train is not None else "real, cross-fitted",
            "ranked_among": {
                name: int((real.classes == index).sum())
                for index, name in enumerate(scores.inputs.classes)
            },
            "together_below": protocol.SMALL_CLASS,
        },
        "tail": tail.to_dict("records"),
    }
    return own[list(COLUMNS)], block


def _table(rows: pd.DataFrame, images: Measured, real: Measured) -> pd.DataFrame:
    kept = [name for name in (*KEYS, "patient", "reference") if name in rows]
    return rows[kept].assign(**calibrate(images, real).round(DECIMALS))


def held_out(real: Measured) -> NDArray[np.float64]:
    """``(N,)`` alignment of each real image among those of the half that it is not in.

    Classes are ranked in together where they are in the whole.
    """
    peers = small_together(real.classes)
    half = tie_breakers([str(one) for one in real.groups], "half") > 0.5
    found = np.full(len(half), np.nan)
    for side in (half, ~half):
        found[side] = calibrate(real.take(side), real.take(~side), peers[~side])["alignment"]
    return found


def low(alignment: pd.Series) -> pd.Series:
    """Whether each image is low at the protocol's level; missing where it has no alignment."""
    return (alignment <= protocol.ALPHA).astype("boolean").where(alignment.notna())
