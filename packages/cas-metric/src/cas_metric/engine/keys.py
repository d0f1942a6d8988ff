"""What the rows of all parts depend on: a part of another key is scored again."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from cas_metric.embedding.cache import pixel_versions
from cas_metric.files import installed

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder
    from cas_metric.scoring.inputs import Inputs
    from cas_metric.scoring.pipeline import Scores
    from cas_metric.scoring.probe import Probe


def digest_of(inputs: Inputs, encoder: Encoder, head: Scores, probe: Probe | None) -> str:
    """Sha256, as hex, of all that the rows of every part depend on, but for its own images.

    Args:
        inputs: Of the run.
        encoder: The embedding space.
        head: The real side, scored.
        probe: One that was given; one that is fitted follows from the rest.
    """
    labels = sorted(set(inputs.generated["label"]) | set(inputs.real["label"]))
    real = head.material.images["real"]
    told = {
        "package": installed("cas-metric"),
        "pixels": pixel_versions(),
        "encoder": encoder.fingerprint,
        "windows": {name: one and one.bounds for name, one in inputs.windows.items()},
        "classes": inputs.classes,
        "checklists": {label: inputs.checklist(label) for label in labels},
        "judge": head.judge.describe(),
        "probe": hashlib.sha256(probe.to_bytes()).hexdigest() if probe is not None else None,
        "by": inputs.by,
        "real names": inputs.real["image"].tolist(),
        "real labels": inputs.real["label"].tolist(),
        "real patients": inputs.real["patient"].tolist(),  # they decide the folds of the probes
        "real contents": real.digests,
        "real errors": real.errors,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
