"""``phantom-origa``: phantom retinal fundus photographs, normal and with glaucoma.

The sign is the optic cup. The prompts and checklists speak of what is drawn: the size of the cup
in the disc, the neuroretinal rim around it, the course of the vessels and the region around the
disc.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy.retina import draw_fundus
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array

#: Vertical cup-to-disc ratio from which a word for the cup applies.
_CUPS: Final = {"small": 0.0, "moderate": 0.36, "large": 0.60, "very large": 0.80}
_FUNDUS: Final = {"pale": 0.0, "orange": 0.33, "dark": 0.70}


class Fundus:
    """Renderer of ``phantom-origa``.

    Finding, of both classes: ``vcdr`` and ``hcdr`` (cup-to-disc ratios), ``notch`` (none,
    superior, inferior), ``vessels`` (regular, nasalised, bayoneting), ``haemorrhage`` and
    ``nerve_fibre_defect`` (none, superior, inferior), ``atrophy`` (width of the peripapillary
    zone in disc radii), ``cup_shift`` (how far the cup lies from the disc's centre, in disc
    radii; other than (0, 0) only in a planted failure).
    """

    domain = "phantom-origa"
    classes = ("Normal", "Glaucoma")
    context = ("eye", "pigment")

    def sample(self, label: str, rng: np.random.Generator) -> FindingSpec:
        """Draw a specification of the class ``label``."""
        finding = _sample_glaucoma(rng) if label == "Glaucoma" else _sample_normal(rng)
        nuisance = _sample_nuisance(rng)
        return FindingSpec(self.domain, label, finding, nuisance, int(rng.integers(2**31)))

    def render(self, spec: FindingSpec, size: int = 64) -> Array:
        """Draw ``spec`` as a ``(size, size, 3)`` uint8 RGB image, the same scene at any size."""
        return draw.to_rgb8(draw_fundus(spec, size))

    def describe(self, spec: FindingSpec) -> str:
        """The prompt: at most 40 words; names label, cup, rim, vessels and what lies around."""
        style = spec.seed % 3
        eye = {"od": "right eye", "os": "left eye"}[spec.nuisance["eye"]]
        opening = (
            f"Retinal fundus photograph, {eye}",
            f"Fundus photograph of the {eye}",
            f"Optic disc photograph, {eye}",
        )[style]
        phrase = _PHRASES[spec.label](spec.finding, style)
        colour = f"{_word(_FUNDUS, spec.nuisance['pigment'])} retina"
        return f"{opening}, {spec.label.lower()}: {phrase}, {colour}."

    def remove_finding(self, spec: FindingSpec) -> FindingSpec:
        """A healthy disc in the same eye. A Normal phantom comes back unchanged."""
        if spec.label == "Normal":
            return spec
        ratio = round(0.3 + 0.5 * (spec.finding["vcdr"] - 0.66), 4)
        return dataclasses.replace(spec, finding={**_HEALTHY, "vcdr": ratio, "hcdr": ratio})

    def misplace_finding(self, spec: FindingSpec, rng: np.random.Generator) -> FindingSpec:
        """The cup beside the disc instead of inside it."""
        turn = rng.uniform(0, 2 * np.pi)
        shift = [round(1.25 * float(np.cos(turn)), 4), round(1.25 * float(np.sin(turn)), 4)]
        return spec.with_finding(cup_shift=shift)

    def exaggerate_finding(self, spec: FindingSpec, severity: float) -> FindingSpec:
        """A cup wider than its disc, a cratered retina around it; for Normal a vanishing cup."""
        if severity == 0:
            return spec
        finding = spec.finding
        if spec.label == "Normal":
            return spec.with_finding(
                vcdr=_towards(finding["vcdr"], 0.02, severity),
                hcdr=_towards(finding["hcdr"], 0.02, severity),
            )
        return spec.with_finding(
            vcdr=_towards(finding["vcdr"], 1.45, severity),
            hcdr=_towards(finding["hcdr"], 1.40, severity),
            atrophy=_towards(finding["atrophy"], 0.9, severity),
        )


def _towards(value: float, extreme: float, severity: float) -> float:
    return round(value + severity * (extreme - value), 4)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


_HEALTHY: Final[Mapping[str, Any]] = {
    "vcdr": 0.35,
    "hcdr": 0.35,
    "notch": "none",
    "vessels": "regular",
    "haemorrhage": "none",
    "nerve_fibre_defect": "none",
    "atrophy": 0.0,
    "cup_shift": [0.0, 0.0],
}


def _sample_normal(rng: np.random.Generator) -> dict[str, Any]:
    """Cup-to-disc ratio 0.2 to 0.5; in some eyes a thin crescent that means nothing."""
    ratio = _uniform(rng, 0.20, 0.50)
    return {
        **_HEALTHY,
        "vcdr": ratio,
        "hcdr": round(ratio * float(rng.uniform(0.95, 1.10)), 4),
        "atrophy": _uniform(rng, 0.08, 0.16) if rng.random() < 0.15 else 0.0,
    }


def _sample_glaucoma(rng: np.random.Generator) -> dict[str, Any]:
    """Vertical cup-to-disc ratio above 0.65 and some of the signs that come with it."""
    ratio = _uniform(rng, 0.66, 0.88)
    pole = str(rng.choice(["superior", "inferior"], p=[0.35, 0.65]))
    notched = rng.random() < 0.45
    return {
        "vcdr": ratio,
        "hcdr": round(ratio * float(rng.uniform(0.82, 0.98)), 4),
        "notch": pole if notched else "none",
        "vessels": str(rng.choice(["regular", "nasalised", "bayoneting"], p=[0.2, 0.4, 0.4])),
        "haemorrhage": pole if rng.random() < 0.25 else "none",
        "nerve_fibre_defect": pole if rng.random() < 0.30 else "none",
        "atrophy": _uniform(rng, 0.22, 0.45) if rng.random() < 0.35 else 0.0,
        "cup_shift": [0.0, 0.0],
    }


def _sample_nuisance(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "eye": str(rng.choice(["od", "os"])),
        "pigment": _uniform(rng, 0, 1),
        "disc": _uniform(rng, 0.34, 0.50),
        "oval": _uniform(rng, 0.84, 0.98),
        "tilt": _uniform(rng, -0.22, 0.22),
        "dx": _uniform(rng, -0.26, 0.02),
        "dy": _uniform(rng, -0.12, 0.12),
        "hue": _uniform(rng, -1, 1),
        "rim": _uniform(rng, 0.72, 1.04),
        "pallor": _uniform(rng, 0.25, 1.0),
        "exposure": _uniform(rng, 0.78, 1.12),
        "light_angle": _uniform(rng, 0, 2 * np.pi),
        "light": _uniform(rng, 0.02, 0.22),
        "aperture": _uniform(rng, 1.12, 1.45),
        "vignette": _uniform(rng, 0.1, 0.5),
        "calibre": _uniform(rng, 0.75, 1.30),
        "tessellation": _uniform(rng, 0, 1),
        "blur": _uniform(rng, 0.0, 0.038),
        "reflection": _uniform(rng, 0.15, 0.5) if rng.random() < 0.3 else 0.0,
        "noise": _uniform(rng, 0.006, 0.05),
    }


# -- prompts --------------------------------------------------------------------------------------


def _word(scale: Mapping[str, float], value: float) -> str:
    """The last word of ``scale`` whose threshold ``value`` reaches."""
    return [word for word, threshold in scale.items() if value >= threshold][-1]


def cup_word(ratio: float) -> str:
    """The size of a cup by its vertical cup-to-disc ratio, in words."""
    return _word(_CUPS, ratio)


def _normal_phrase(finding: Mapping[str, Any], style: int) -> str:
    cup = cup_word(finding["vcdr"])
    crescent = ", thin pale crescent beside the disc" if finding["atrophy"] else ""
    return (
        f"{cup} central cup, broad intact pink rim, vessels in regular course{crescent}",
        f"optic disc with {cup} cup and even intact rim, regular vessels{crescent}",
        f"{cup} optic cup, balanced cup-to-disc ratio, preserved rim all around{crescent}",
    )[style]


def _glaucoma_phrase(finding: Mapping[str, Any], style: int) -> str:
    cup = cup_word(finding["vcdr"])
    pole = finding["notch"]
    rim = f"{pole} rim notch" if pole != "none" else "thin rim all around"
    signs = [rim]
    if finding["vessels"] != "regular":
        signs.append(f"{finding['vessels']} vessels")
    if finding["haemorrhage"] != "none":
        signs.append(f"{finding['haemorrhage']} disc haemorrhage")
    if finding["nerve_fibre_defect"] != "none":
        signs.append(f"{finding['nerve_fibre_defect']} nerve fibre defect")
    if finding["atrophy"]:
        signs.append("peripapillary atrophy")
    listed = ", ".join(signs)
    return (
        f"{cup} excavated cup, {listed}",
        f"optic disc with {cup} cup, {listed}",
        f"{cup} pale optic cup, increased cup-to-disc ratio, {listed}",
    )[style]


_PHRASES: Final = {"Normal": _normal_phrase, "Glaucoma": _glaucoma_phrase}


RENDERER: Final = Fundus()
