"""What phantom-sd is told about a picture while it learns: its modality, never its finding."""

from __future__ import annotations

import numpy as np

#: Ways to name each modality, in the words that the prompts of its domain use for it.
MODALITIES = {
    "phantom-chexpert": (
        "a chest radiograph",
        "frontal chest x-ray",
        "chest x-ray",
        "frontal chest radiograph",
        "portable chest radiograph",
        "a drawing of a chest radiograph",
    ),
    "phantom-fitzpatrick17k": (
        "a clinical photograph of skin",
        "photograph of skin",
        "close-up of skin",
        "skin of the trunk",
        "skin of the limb",
        "skin of the face",
        "a drawing of a clinical photograph of skin",
    ),
    "phantom-breakhis": (
        "an H&E breast section",
        "breast histology",
        "breast tissue, H&E stain",
        "H&E patch of breast tissue",
        "a histology section of the breast",
        "a drawing of an H&E breast section",
    ),
    "phantom-origa": (
        "a retinal fundus photograph",
        "fundus photograph",
        "optic disc photograph",
        "retinal photograph, right eye",
        "fundus photograph of the left eye",
        "a drawing of a retinal fundus photograph",
    ),
}
#: Words that any picture may be described with; they are drawn regardless of what it shows.
GENERIC = (
    "small",
    "large",
    "left",
    "right",
    "upper",
    "lower",
    "centre",
    "many",
    "few",
    "pale",
    "dark",
    "pink",
    "red",
    "white",
    "smooth",
    "round",
    "mild",
    "moderate",
    "thin",
    "clear",
    "normal",
    "with",
    "and",
    "in the",
)
#: Shares of the captions that are empty, for guidance, and that carry generic words.
EMPTY, WORDY = 0.1, 0.3


def caption(domain: str, rng: np.random.Generator) -> str:
    """A caption of any picture of ``domain``: it depends on nothing that the picture shows."""
    kind = rng.random()
    if kind < EMPTY:
        return ""
    named = str(rng.choice(MODALITIES[domain]))
    if kind < EMPTY + WORDY:
        words = rng.choice(GENERIC, rng.integers(2, 20), replace=False)
        return f"{named}, {' '.join(words)}"
    return named
