"""Every frozen constant of protocol ``cas-v1``.

A number published as "CAS" can only be compared with another when both were made the same way.
This file is that way. Whatever departs from it makes a result ``custom``, and the summary of the
run says in which points.

Sources are the equations, sections and tables of "CRAFT: Clinical Reward-Aligned Finetuning for
Medical Image Synthesis"; where the paper leaves a choice, the choice made here is marked (ours).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

VERSION: Final = "cas-v1"
CUSTOM: Final = "custom"

#: The four primitives, in the order of every table (§4.1.4).
PRIMITIVES: Final = ("vdc", "ccs", "dd", "sfs")

# -- the tail (§4.2.2, Appendix H) --------------------------------------------------------------
TAIL_QUANTILE: Final = 0.25
#: NumPy's name for the quantile rule (ours; the paper names none).
QUANTILE_METHOD: Final = "linear"
LOW_PERCENTILE: Final = 10.0

# -- the probe (§A.2) ---------------------------------------------------------------------------
PROBE_LEARNING_RATE: Final = 1e-3
PROBE_EPOCHS: Final = 50
PROBE_BATCH_SIZE: Final = 256
PROBE_WEIGHT_DECAY: Final = 0.0
PROBE_SEED: Final = 42

# -- text (ours: the paper does not say how t_c becomes one string) -----------------------------
TEXT_POLICY: Final = "truncate"
TEXT_POLICIES: Final = ("truncate", "chunk-mean", "per-attribute-mean")

# -- the evaluator (§4.1.4; checkpoint: ours) ---------------------------------------------------
EVALUATOR: Final = "siglip"
SCORE_DTYPE: Final = "float32"

# -- uncertainty (§A.3; resamples: ours) --------------------------------------------------------
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
BOOTSTRAP_SEED: Final = 42

# -- the calibrated score, cas-v2 (ours) ---------------------------------------------------------
CALIBRATED_VERSION: Final = "cas-v2"
#: Level at which an image is called low.
ALPHA: Final = 0.1
#: What each of :data:`PRIMITIVES` weighs in the alignment.
ALIGNMENT_WEIGHTS: Final = (4.0, 1.0, 1.0, 4.0)
#: Share of the identity in the covariance of real images around what is expected of them.
EXPECTATION_SHRINKAGE: Final = 0.3
#: Classes of fewer real images are calibrated together.
SMALL_CLASS: Final = 20

# -- memorization (Appendix M) ------------------------------------------------------------------
SSIM_THRESHOLD: Final = 0.95
PHASH_THRESHOLD: Final = 5
#: Side of the greyscale square on which SSIM is taken (ours; the paper names none).
SSIM_SIZE: Final = 256


@dataclass(frozen=True)
class Conditions:
    """What a run did where ``cas-v1`` prescribes something.

    Attributes:
        evaluator: Encoder spec whose space the primitives are computed in.
        dtype: Floating-point type of the encoder's forward pass.
        text_policy: How texts beyond the encoder's limit are treated.
        probe: ``train`` when the probe saw the real training split only, ``cross-fitted`` when
            it was fitted on folds of the scored real set, ``none`` without one.
        reference: ``paired`` when every generated image has its real partner, else ``none``.

    Examples:
        >>> version_of(Conditions())
        'cas-v1'
        >>> version_of(Conditions(dtype="bfloat16"))
        'custom'
    """

    evaluator: str = EVALUATOR
    dtype: str = SCORE_DTYPE
    text_policy: str = TEXT_POLICY
    probe: str = "train"
    reference: str = "paired"


def departures(conditions: Conditions) -> tuple[str, ...]:
    """Points in which a run departs from ``cas-v1``, as ``field: theirs (cas-v1: ours)``.

    Examples:
        >>> departures(Conditions(probe="cross-fitted"))
        ('probe: cross-fitted (cas-v1: train)',)
    """
    standard = Conditions()
    return tuple(
        f"{f.name}: {getattr(conditions, f.name)} ({VERSION}: {getattr(standard, f.name)})"
        for f in fields(Conditions)
        if getattr(conditions, f.name) != getattr(standard, f.name)
    )


def version_of(conditions: Conditions) -> str:
    """``cas-v1`` for a run that followed it in every point, else ``custom``.

    Examples:
        >>> version_of(Conditions(evaluator="phantom-siglip"))
        'custom'
    """
    return CUSTOM if departures(conditions) else VERSION
