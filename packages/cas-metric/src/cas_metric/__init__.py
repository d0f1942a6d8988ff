"""Clinical Alignment Score: per-image clinical faithfulness of synthetic medical images.

Everything a user calls is here by name, and is imported on use: ``import cas_metric`` loads neither
torch nor pandas.

Examples:
    >>> import cas_metric
    >>> cas_metric.load_domain("phantom-chexpert").class_names[0]
    'Atelectasis'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from cas_metric.discovery import alias

if TYPE_CHECKING:
    from cas_metric.domains import load_domain
    from cas_metric.encoders import load_encoder
    from cas_metric.manifest import read_manifest
    from cas_metric.metric import ClinicalAlignmentScore
    from cas_metric.runs import Run
    from cas_metric.verbs.compare import compare
    from cas_metric.verbs.diversity import diversity
    from cas_metric.verbs.explain import explain
    from cas_metric.verbs.fidelity import fidelity
    from cas_metric.verbs.gate import gate
    from cas_metric.verbs.leakage import leakage
    from cas_metric.verbs.memorization import memorization
    from cas_metric.verbs.preference import preference
    from cas_metric.verbs.score import score
    from cas_metric.verbs.select import select
    from cas_metric.verbs.utility import utility

__version__ = "0.1.0"

#: Public name to the module that defines it.
_HOMES: Final = {
    "ClinicalAlignmentScore": "metric",
    "Run": "runs",
    "load_domain": "domains",
    "load_encoder": "encoders",
    "read_manifest": "manifest",
    "compare": "verbs.compare",
    "diversity": "verbs.diversity",
    "fidelity": "verbs.fidelity",
    "leakage": "verbs.leakage",
    "memorization": "verbs.memorization",
    "preference": "verbs.preference",
    "score": "verbs.score",
    "explain": "verbs.explain",
    "gate": "verbs.gate",
    "select": "verbs.select",
    "utility": "verbs.utility",
}

__all__ = [
    "ClinicalAlignmentScore",
    "Run",
    "compare",
    "diversity",
    "explain",
    "fidelity",
    "gate",
    "leakage",
    "load_domain",
    "load_encoder",
    "memorization",
    "preference",
    "read_manifest",
    "score",
    "select",
    "utility",
]

alias(
    __name__,
    {
        "adapters": "manifest.adapters",
        "cache": "embedding.cache",
        "decoding": "embedding.decoding",
        "derangement": "scoring.pipeline",
        "distributed": "embedding.ranks",
        "inputs": "scoring.inputs",
        "judging": "scoring.diagnosis",
        "material": "scoring.embeddings",
        "precision": "scoring.precision",
        "probe": "scoring.probe",
        "rows": "scoring.per_image",
        "summary": "runs.summary",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
