"""What every figure of a report means, in plain words: what it sees, and what it misses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Term:
    """One column of the summary table."""

    key: str
    short: str
    name: str
    what: str
    sees: str
    misses: str
    higher_is_better: bool = True


PRIMITIVE_TERMS: Final = (
    Term(
        "vdc",
        "VDC",
        "Visual Description Consistency",
        "Cosine similarity of the image and its own prompt.",
        "whether this image shows what its prompt asks for: place, shape, colour, texture.",
        "what the prompt leaves unsaid, words past the encoder's limit, and findings too small "
        "for the encoder.",
    ),
    Term(
        "ccs",
        "CCS",
        "Clinical Criteria Satisfaction",
        "Cosine similarity of the image and the checklist of its class.",
        "whether the image looks like its diagnosis in general.",
        "which single criterion fails: the whole checklist is one embedding.",
    ),
    Term(
        "dd",
        "DD",
        "Diagnostic Discriminability",
        "1 where a classifier fitted on real images assigns the image to its label, else 0; the "
        "mean is an accuracy.",
        "whether the image can be told from the other classes.",
        "how narrowly it was decided, and what the classifier itself gets wrong on real images.",
    ),
    Term(
        "sfs",
        "SFS",
        "Semantic Feature Similarity",
        "Cosine similarity of the image and its real reference image.",
        "drift away from real appearance, exaggeration.",
        "valid variety, which it punishes, and copying, which it rewards. Real images score 1 by "
        "construction, since each is compared with itself.",
    ),
)

CAS_TERM: Final = Term(
    "cas",
    "CAS",
    "Clinical Alignment Score",
    "Mean of the four scores above, image by image.",
    "overall agreement with prompt, diagnosis and reference.",
    "anything its encoder cannot see. It stands in for clinical judgement and does not replace it.",
)

TERMS: Final = (*PRIMITIVE_TERMS, CAS_TERM)

LOW_RATE: Final = (
    "Share of images whose CAS lies below τ, the 25th percentile of the real images. "
    "A quarter of the real images lies below it by definition."
)
P10: Final = "CAS that nine images in ten exceed: how bad the bad ones are."
REAL: Final = (
    "Real: every real image scored as if it had been generated, with itself as reference. "
    "A point of reference, not an upper bound."
)
FLOOR: Final = (
    "Floor: every real image against another real image of its class. What a faithful, "
    "independent image of the same diagnosis scores."
)
