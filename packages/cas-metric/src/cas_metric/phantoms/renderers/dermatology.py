"""``phantom-fitzpatrick17k``: phantom clinical photographs of skin, the 20 conditions of Table 7.

Each sign is drawn as the checklist of its class words it, on skin of varied tone, body part, light
and clutter. Lengths are in frame units (the frame is 2 wide).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy.skin import SITES, TONES
from cas_metric.phantoms.anatomy.skin_eruptions import draw_photograph
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array
from cas_metric.phantoms.renderers.dermatology_prompts import sentence


@dataclass(frozen=True)
class _Traits:
    """Natural range of the findings of a class.

    Attributes:
        extent: Radius of the sign or of one of its lesions.
        count: Number of lesions, or of the parts that the class counts.
        light: Colours on fair and medium skin.
        dark: Colours on brown and dark skin.
        variants: Forms that the sign takes.
        reach: How far from the middle of the frame the sign may lie.
        sites: Body parts.
    """

    extent: tuple[float, float]
    count: tuple[int, int]
    light: tuple[str, ...]
    dark: tuple[str, ...]
    variants: tuple[str, ...] = ("",)
    reach: float = 0.12
    sites: tuple[str, ...] = ("trunk", "limb")


_INFLAMED: Final = (("pink", "red"), ("dark red", "purple-brown"))

_TRAITS: Final[Mapping[str, _Traits]] = {
    "Acne": _Traits(
        (0.085, 0.11), (10, 18), *_INFLAMED, reach=0.1, sites=("face", "trunk"),
        variants=("mostly blackheads", "mostly whiteheads", "mostly inflamed pimples"),
    ),
    "Actinic Keratosis": _Traits(
        (0.22, 0.34), (1, 1), ("pink", "brown"), ("red-brown", "brown"), ("thin", "thick"), 0.45,
        ("face", "limb", "trunk"),
    ),
    "Allergic Contact Dermatitis": _Traits(
        (0.42, 0.58), (7, 13), ("red", "bright red"), ("dark red", "purple-brown"),
        ("square", "band-shaped", "triangular"), 0.22, ("face", "limb", "trunk"),
    ),
    "Basal Cell Carcinoma": _Traits(
        (0.28, 0.44), (4, 7), ("skin-coloured",), ("skin-coloured",),
        ("central depression", "central ulcer"), 0.38, ("face", "trunk"),
    ),
    "Eczema": _Traits((0.42, 0.60), (1, 3), *_INFLAMED, ("flaky", "scratched"), 0.2),
    "Erythema Multiforme": _Traits((0.25, 0.36), (2, 5), ("red",), ("dark red",)),
    "Folliculitis": _Traits(
        (0.085, 0.11), (5, 10), ("pink", "red"), ("dark red", "purple-brown"),
    ),
    "Granuloma Annulare": _Traits(
        (0.42, 0.58), (1, 2), ("pink", "skin-coloured"), ("purple-brown", "red-brown"),
        ("complete", "open"), 0.2,
    ),
    "Keloid": _Traits((0.48, 0.66), (3, 6), ("pink", "red"), ("purple-brown", "brown"), reach=0.25),
    "Lichen Planus": _Traits(
        (0.15, 0.20), (5, 11), ("violet",), ("violet", "purple-brown"), ("grouped", "merging"),
    ),
    "Lupus Erythematosus": _Traits(
        (0.36, 0.46), (1, 1), ("pink", "red"), ("dark red", "purple-brown"), ("smooth", "scaly"),
        0.0, ("face",),
    ),
    "Melanoma": _Traits((0.30, 0.48), (2, 4), ("brown",), ("brown",), ("notched", "ragged"), 0.35),
    "Mycosis Fungoides": _Traits(
        (0.55, 0.80), (1, 1), ("pink", "red-brown"), ("red-brown", "purple-brown"), reach=0.2,
        sites=("trunk",),
    ),
    "Pityriasis Rosea": _Traits(
        (0.24, 0.32), (6, 11), ("salmon", "pink"), ("violet", "purple-brown"), sites=("trunk",),
    ),
    "Prurigo Nodularis": _Traits(
        (0.14, 0.19), (4, 8), ("pink", "red"), ("brown", "purple-brown"), ("crusted", "scratched"),
    ),
    "Psoriasis": _Traits((0.40, 0.58), (1, 3), *_INFLAMED, ("round", "irregular"), 0.2),
    "Sarcoidosis": _Traits(
        (0.26, 0.36), (2, 5), ("red-brown",), ("red-brown", "purple-brown"), ("plaques", "nodules"),
        sites=("face", "limb", "trunk"),
    ),
    "Scabies": _Traits((0.34, 0.48), (2, 4), ("pink", "red"), ("brown", "purple-brown")),
    "Squamous Cell Carcinoma": _Traits(
        (0.32, 0.46), (1, 1), ("pink", "red"), ("dark red", "brown"), ("keratin", "bleeding"), 0.35,
        ("face", "limb", "trunk"),
    ),
    "Vitiligo": _Traits(
        (0.38, 0.52), (2, 5), ("chalk-white", "pale"), ("chalk-white", "pale"),
        sites=("face", "limb", "trunk"),
    ),
}  # fmt: skip
_SHADES: Final = ("blue-grey", "red", "white")
_CLOTHS: Final = ([0.10, 0.12, 0.16], [0.16, 0.36, 0.42], [0.24, 0.44, 0.34], [0.75, 0.76, 0.78])


class Dermatology:
    """Renderer of ``phantom-fitzpatrick17k``.

    Finding, of every class: ``place`` (x and y of its middle), ``angle``, ``extent`` (radius),
    ``size`` (small, mid-sized, large within the class), ``count``, ``colour``, ``vividness`` (power
    of the colour, around 1) and ``variant``. Melanoma adds ``shades`` (beside brown and black),
    Scabies ``papules`` (bumps beside the burrows). An empty finding is bare skin.
    """

    domain = "phantom-fitzpatrick17k"
    classes = tuple(_TRAITS)
    context = ("site", "tone")

    def sample(self, label: str, rng: np.random.Generator) -> FindingSpec:
        """Draw a specification of the class ``label``."""
        traits = _TRAITS[label]
        nuisance = _sample_nuisance(rng, traits)
        finding = _sample_finding(rng, label, traits, nuisance)
        return FindingSpec(self.domain, label, finding, nuisance, int(rng.integers(2**31)))

    def render(self, spec: FindingSpec, size: int = 64) -> Array:
        """Draw ``spec`` as a ``(size, size, 3)`` uint8 RGB image, the same scene at any size."""
        return draw.to_rgb8(draw_photograph(spec, size))

    def describe(self, spec: FindingSpec) -> str:
        """The prompt: at most 40 words; names body part, skin tone, label and sign."""
        return sentence(spec)

    def remove_finding(self, spec: FindingSpec) -> FindingSpec:
        """Bare skin of the same person in the same light."""
        return dataclasses.replace(spec, finding={})

    def misplace_finding(self, spec: FindingSpec, rng: np.random.Generator) -> FindingSpec:
        """The sign pushed out of the frame by about half.

        The butterfly of lupus slides off nose and cheeks, down over the chin or up over the
        forehead, and stays whole.
        """
        if spec.label == "Lupus Erythematosus":
            return spec.with_finding(place=[0.0, float(rng.choice([-0.72, 0.72]))])
        turn = rng.uniform(0, 2 * np.pi)
        away = [round(float(1.05 * np.cos(turn)), 4), round(float(1.05 * np.sin(turn)), 4)]
        return spec.with_finding(place=away)

    def exaggerate_finding(self, spec: FindingSpec, severity: float) -> FindingSpec:
        """Up to twice the size, twice the number and a far stronger colour."""
        if severity == 0 or not spec.finding:
            return spec
        finding = spec.finding
        return spec.with_finding(
            extent=round(finding["extent"] * (1 + severity), 4),
            count=round(finding["count"] * (1 + severity)),
            vividness=round(finding["vividness"] * (1 + 1.2 * severity), 4),
        )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _pick(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _sample_finding(
    rng: np.random.Generator, label: str, traits: _Traits, nuisance: Mapping[str, Any]
) -> dict[str, Any]:
    low, high = traits.extent
    extent = _uniform(rng, low, high)
    reach = traits.reach
    low_y, high_y = (-0.1, 0.3) if nuisance["site"] == "face" and reach else (-reach, reach)
    finding: dict[str, Any] = {
        "place": [_uniform(rng, -reach, reach), _uniform(rng, low_y, high_y)],
        "angle": _uniform(rng, -0.35, 0.35) if label in _UPRIGHT else _uniform(rng, 0, 2 * np.pi),
        "extent": extent,
        "size": ("small", "mid-sized", "large")[min(int(3 * (extent - low) / (high - low)), 2)],
        "count": int(rng.integers(traits.count[0], traits.count[1] + 1)),
        "colour": _pick(
            rng, traits.light if nuisance["tone"] in ("fair", "medium") else traits.dark
        ),
        "vividness": _uniform(rng, 0.70, 1.05),
        "variant": _pick(rng, traits.variants),
    }
    if label == "Melanoma":
        finding["shades"] = sorted(
            str(s) for s in rng.choice(_SHADES, int(rng.integers(1, 3)), replace=False)
        )
    if label == "Scabies":
        finding["papules"] = int(rng.integers(3, 9))
    return finding


#: Classes with an up and a down: the fir tree of pityriasis rosea.
_UPRIGHT: Final = ("Pityriasis Rosea",)


def _sample_nuisance(rng: np.random.Generator, traits: _Traits) -> dict[str, Any]:
    return {
        "tone": _pick(rng, tuple(TONES)),
        "site": _pick(rng, [site for site in SITES if site in traits.sites]),
        "ruddiness": _uniform(rng, -1, 1),
        "texture": _uniform(rng, 0.3, 1.4),
        "face_angle": _uniform(rng, -0.2, 0.2),
        "face_scale": _uniform(rng, 0.9, 1.15),
        "face_x": _uniform(rng, -0.12, 0.12),
        "face_y": _uniform(rng, -0.12, 0.12),
        "limb_angle": _uniform(rng, 0, np.pi),
        "limb_width": _uniform(rng, 0.88, 1.15),
        "cloth": _pick(rng, _CLOTHS),
        "hairs": int(rng.integers(4, 16)) if rng.random() < 0.25 else 0,
        "mark": ("ruler", "ink", "none")[int(np.searchsorted((0.12, 0.24), rng.random()))],
        "mark_angle": _uniform(rng, 0, 2 * np.pi),
        "light_angle": _uniform(rng, 0, 2 * np.pi),
        "light": _uniform(rng, 0.0, 0.22),
        "vignette": _uniform(rng, 0.0, 0.30),
        "exposure": _uniform(rng, 0.82, 1.12),
        "warmth": _uniform(rng, -0.06, 0.06),
        "blur": _uniform(rng, 0.0, 0.022),
        "noise": _uniform(rng, 0.006, 0.03),
    }


RENDERER: Final = Dermatology()
