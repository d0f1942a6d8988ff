"""What a lower precision of the encoder does to the scores, measured on some of the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cas_metric import primitives
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files, embed_texts
from cas_metric.errors import CasError
from cas_metric.scoring.inputs import Inputs

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder

#: Generated images that are embedded twice.
SAMPLE: Final = 64


def precision_change(
    inputs: Inputs,
    encoder: Encoder,
    exact: Callable[[], Encoder],
    cache: EmbeddingCache,
    *,
    images: int = SAMPLE,
) -> dict[str, Any]:
    """How far each cosine moves from what the same encoder gives in float32.

    DD is not among them: its probe is fitted in the encoder's own space, in either precision.

    Args:
        inputs: What is scored; the sample is spread evenly over its generated images.
        encoder: In the precision of the run; its model is let go before the other is loaded.
        exact: Loads the same in float32.
        cache: Store of embeddings.
        images: Size of the sample.

    Returns:
        ``dtype``, ``images``, and for VDC, CCS and SFS, where there is any, the ``mean`` and
        ``max`` of the absolute difference; or ``problem``, why there was no comparison.
    """
    rows = np.unique(np.linspace(0, len(inputs.generated) - 1, images).astype(np.int64))
    found: dict[str, Any] = {"dtype": encoder.dtype, "images": len(rows)}
    ours = _cosines(inputs, rows, encoder, cache)
    if release := getattr(encoder, "release", None):
        release()
    try:
        theirs = _cosines(inputs, rows, exact(), cache)
    except (CasError, RuntimeError) as error:  # torch's out-of-memory errors are the latter
        return {**found, "problem": str(error).splitlines()[0]}
    for name, values in ours.items():
        moved = np.abs(values - theirs[name])
        if np.isfinite(moved).any():
            found[name] = {"mean": float(np.nanmean(moved)), "max": float(np.nanmax(moved))}
    return found


def _cosines(
    inputs: Inputs, rows: NDArray[np.int64], encoder: Encoder, cache: EmbeddingCache
) -> dict[str, NDArray[np.float64]]:
    """VDC, CCS and SFS of some rows; NaN where a text, a partner or a readable file is missing."""
    table = inputs.generated.iloc[rows]
    partners = table["reference_row"].to_numpy()
    files = inputs.real["path"].tolist()
    paths = [
        *table["path"],
        *(files[row] if row >= 0 else table["path"].iloc[0] for row in partners),
    ]
    sides = ("generated", "real")
    windows = [inputs.windows[side] for side in sides for _ in range(len(rows))]
    embedded = embed_image_files(paths, encoder, cache, windows=windows).embeddings
    image, reference = np.split(embedded, 2)
    reference = np.where((partners >= 0)[:, None], reference, np.float32(np.nan))
    found = {"sfs": primitives.sfs(image, reference)}
    if encoder.token_limit:
        checklists = [inputs.checklist(label) for label in table["label"]]
        for name, texts in (("vdc", table["prompt"].tolist()), ("ccs", checklists)):
            known = np.array([bool(text) for text in texts])
            words = embed_texts([text or "-" for text in texts], encoder, cache).embeddings
            cosine = (primitives.vdc if name == "vdc" else primitives.ccs)(image, words)
            found[name] = np.where(known, cosine, np.nan)
    return {name: values.astype(np.float64) for name, values in found.items()}
