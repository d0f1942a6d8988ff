"""``phantom-breakhis``: phantom H&E sections of the breast, the eight lesions of Table 9.

Each lesion is drawn by its architecture, as its checklist words it: how glands, cells and stroma
are arranged. Stain, thickness, magnification, focus and artefacts of the section are nuisance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy.breast_tissue import draw_section
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array


@dataclass(frozen=True)
class _Traits:
    """Natural range of the findings of a class.

    Attributes:
        extent: Characteristic length: radius of glands and islands, half-length of slits, width
            of fronds, distance between cords, thickness of a lining.
        sizes: Words for the lower and the upper half of that range.
        count: Number of lobules, slits, fronds, islands or branches.
        variants: Forms of the architecture.
    """

    extent: tuple[float, float]
    sizes: tuple[str, str]
    count: tuple[int, int]
    variants: tuple[str, str]


_TRAITS: Final[Mapping[str, _Traits]] = {
    "Adenosis": _Traits((0.072, 0.098), ("tiny", "small"), (2, 4), ("open", "compressed")),
    "Fibroadenoma": _Traits((0.26, 0.46), ("short", "long"), (3, 6), ("curved", "branching")),
    "Phyllodes Tumor": _Traits(
        (0.27, 0.36), ("broad", "very broad"), (3, 5), ("cellular", "highly cellular")
    ),
    "Tubular Adenoma": _Traits((0.15, 0.22), ("small", "medium"), (1, 1), ("round", "oval")),
    "Ductal Carcinoma": _Traits(
        (0.20, 0.30), ("small", "large"), (1, 1), ("solid", "small lumina")
    ),
    "Lobular Carcinoma": _Traits(
        (0.16, 0.24), ("closely spaced", "widely spaced"), (1, 1), ("linear", "targetoid")
    ),
    "Mucinous Carcinoma": _Traits((0.15, 0.22), ("small", "large"), (3, 7), ("rounded", "strips")),
    "Papillary Carcinoma": _Traits((0.075, 0.11), ("thin", "thick"), (4, 8), ("delicate", "broad")),
}


class Histology:
    """Renderer of ``phantom-breakhis``.

    Finding, of every class: ``extent`` (characteristic length), ``size`` (word for it), ``count``,
    ``variant``, ``chromatin`` (relative stain of the lesion's nuclei), ``place`` and ``reach``
    (middle and radius of the lesion; a reach of 3 fills the frame). Ductal Carcinoma
    adds ``density`` (scattered, crowded). An empty finding is normal tissue.
    """

    domain = "phantom-breakhis"
    classes = (
        "Adenosis", "Fibroadenoma", "Phyllodes Tumor", "Tubular Adenoma", "Ductal Carcinoma",
        "Lobular Carcinoma", "Mucinous Carcinoma", "Papillary Carcinoma",
    )  # fmt: skip
    context = ("haematoxylin", "eosin", "thickness")

    def sample(self, label: str, rng: np.random.Generator) -> FindingSpec:
        """Draw a specification of the class ``label``."""
        traits = _TRAITS[label]
        low, high = traits.extent
        extent = _uniform(rng, low, high)
        finding: dict[str, Any] = {
            "extent": extent,
            "size": traits.sizes[int(extent > (low + high) / 2)],
            "count": int(rng.integers(traits.count[0], traits.count[1] + 1)),
            "variant": _pick(rng, traits.variants),
            "chromatin": _uniform(rng, 0.88, 1.12),
            "place": [_uniform(rng, -0.3, 0.3), _uniform(rng, -0.3, 0.3)],
            "reach": _uniform(rng, 0.85, 1.05) if rng.random() < 0.45 else 3.0,
        }
        if label == "Ductal Carcinoma":
            finding["density"] = _pick(rng, ("scattered", "crowded"))
        nuisance = _sample_nuisance(rng)
        return FindingSpec(self.domain, label, finding, nuisance, int(rng.integers(2**31)))

    def render(self, spec: FindingSpec, size: int = 64) -> Array:
        """Draw ``spec`` as a ``(size, size, 3)`` uint8 RGB image, the same scene at any size."""
        return draw.to_rgb8(draw_section(spec, size))

    def describe(self, spec: FindingSpec) -> str:
        """The prompt: at most 40 words; names stain, tissue context, label and architecture."""
        stain = stain_word(spec.nuisance)
        opening = (
            f"H&E breast section, {stain} stain",
            f"Breast histology, {stain} H&E stain",
            f"{stain.capitalize()} H&E patch of breast tissue",
        )[spec.seed // 3 % 3]
        if not spec.finding:
            return f"{opening}: quiet fibrous stroma with fat."
        context, phrase = _PHRASES[spec.label]
        architecture = phrase(spec.finding, spec.seed % 3)
        return f"{opening}, {context} tissue, {spec.label.lower()}: {architecture}."

    def remove_finding(self, spec: FindingSpec) -> FindingSpec:
        """Normal stroma with fat in the same section, without the architecture of the lesion."""
        return dataclasses.replace(spec, finding={})

    def misplace_finding(self, spec: FindingSpec, rng: np.random.Generator) -> FindingSpec:
        """The lesion pushed to the far edge of the frame; normal tissue everywhere else."""
        turn = rng.uniform(0, 2 * np.pi)
        place = [round(float(1.1 * np.cos(turn)), 4), round(float(1.1 * np.sin(turn)), 4)]
        return spec.with_finding(place=place, reach=0.75)

    def exaggerate_finding(self, spec: FindingSpec, severity: float) -> FindingSpec:
        """Structures up to 1.8 times as large, twice as many, with far darker nuclei.

        The fronds of a phyllodes tumor, which would close their clefts if they grew, become thin.
        """
        if severity == 0 or not spec.finding:
            return spec
        finding = spec.finding
        growth = -0.45 if spec.label == "Phyllodes Tumor" else 0.8
        return spec.with_finding(
            extent=round(finding["extent"] * (1 + growth * severity), 4),
            count=round(finding["count"] * (1 + severity)),
            chromatin=round(finding["chromatin"] * (1 + 1.5 * severity), 4),
        )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _pick(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


_ARTEFACTS: Final = {"none": 0.55, "fold": 0.15, "tear": 0.15, "edge": 0.15}


def _sample_nuisance(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "angle": _uniform(rng, 0, 2 * np.pi),
        "magnification": _uniform(rng, 0.75, 1.30),
        "haematoxylin": _uniform(rng, 0.55, 1.40),
        "eosin": _uniform(rng, 0.55, 1.45),
        "hue": _uniform(rng, -1, 1),
        "eosin_hue": _uniform(rng, -1, 1),
        "thickness": _uniform(rng, 0.75, 1.25),
        "wedge": _uniform(rng, 0.0, 0.18),
        "wedge_angle": _uniform(rng, 0, 2 * np.pi),
        "light": _uniform(rng, 0.0, 0.07),
        "light_angle": _uniform(rng, 0, 2 * np.pi),
        "artefact": str(rng.choice(list(_ARTEFACTS), p=list(_ARTEFACTS.values()))),
        "artefact_angle": _uniform(rng, 0, 2 * np.pi),
        "blur": _uniform(rng, 0.0, 0.2) ** 2,
        "noise": _uniform(rng, 0.004, 0.045),
    }


# -- prompts --------------------------------------------------------------------------------------

Truth = Mapping[str, Any]

_NUMBERS: Final = ("", "one", "two", "three", "four", "five", "six", "seven", "eight")


def stain_word(nuisance: Truth) -> str:
    """The balance and strength of the two dyes in a word."""
    balance = nuisance["haematoxylin"] / nuisance["eosin"]
    if balance > 1.25:
        return "purple"
    if balance < 0.8:
        return "pink"
    strength = nuisance["haematoxylin"] * nuisance["thickness"]
    return "pale" if strength < 0.9 else "strong" if strength > 1.15 else "balanced"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else "many"


def _adenosis(f: Truth, style: int) -> str:
    size, lumina, lobules = f["size"], f["variant"], _number(f["count"])
    return (
        f"{lobules} lobules crowded with {size} round acini, {lumina} lumina, fibrous stroma",
        f"clustered {size} round acini in {lobules} lobules, {lumina} lumina, pink fibrous stroma",
        f"crowded {size} acini with {lumina} lumina forming {lobules} lobules in fibrous stroma",
    )[style]


def _fibroadenoma(f: Truth, style: int) -> str:
    ducts = f"{_number(f['count'])} {f['size']} {f['variant']} slit-like ducts"
    return (
        f"{ducts} compressed by pale pink collagen",
        f"pale smooth collagenous stroma with {ducts}",
        f"{ducts} in pale fibrous stroma, bland epithelium",
    )[style]


def _phyllodes(f: Truth, style: int) -> str:
    fronds = f"{_number(f['count'])} {f['size']} leaf-like fronds"
    stroma = f"{f['variant']} stroma"
    return (
        f"{fronds} of {stroma} projecting into white clefts",
        f"white clefts between {fronds}, {stroma}",
        f"{stroma} in {fronds}, epithelial-lined clefts",
    )[style]


def _tubular(f: Truth, style: int) -> str:
    tubules = f"{f['size']} {f['variant']} tubules"
    return (
        f"tightly packed {tubules} with open white lumina, minimal stroma",
        f"dense orderly {tubules}, open lumina, scant stroma between",
        f"back-to-back {tubules}, uniform nuclei around open lumina",
    )[style]


def _ductal(f: Truth, style: int) -> str:
    nests = f"{f['density']} {f['size']} irregular angulated nests"
    inside = {"solid": "solid", "small lumina": "with small lumina"}[f["variant"]]
    return (
        f"{nests}, {inside}, dark pleomorphic nuclei in desmoplastic pink stroma",
        f"{nests} of crowded dark pleomorphic cells, {inside}, desmoplastic stroma",
        f"{nests}, {inside}, jagged edges, large hyperchromatic nuclei, dense pink stroma",
    )[style]


def _lobular(f: Truth, style: int) -> str:
    cords = {
        "linear": f"{f['size']} linear single-file cords",
        "targetoid": f"{f['size']} targetoid single-file cords around a duct",
    }[f["variant"]]
    return (
        f"{cords} of small dark nuclei in pale pink stroma",
        f"small monotonous dark cells in {cords}, loose stroma",
        f"{cords}, discohesive small cells, pale stroma",
    )[style]


def _mucinous(f: Truth, style: int) -> str:
    shape = {"rounded": "rounded islands", "strips": "strips"}[f["variant"]]
    islands = f"{_number(f['count'])} {f['size']} {shape} of tumor cells"
    return (
        f"{islands} floating in pale blue mucin lakes",
        f"large pale blue mucin pools with {islands}",
        f"{islands} suspended in smooth gelatinous mucin",
    )[style]


def _papillary(f: Truth, style: int) -> str:
    fronds, lining = f"{_number(f['count'])} branching papillary fronds", f["size"]
    core = f["variant"]
    return (
        f"{fronds}, {core} pink fibrovascular cores, {lining} lining of crowded dark cells",
        f"{fronds} with {core} pink cores and {lining} dark layered epithelium in white space",
        f"{core} pink fibrovascular stalks lined by {lining} crowded cells, {fronds}",
    )[style]


#: Tissue context of Appendix B and the phrase of each class.
_PHRASES: Final[Mapping[str, tuple[str, Callable[[Truth, int], str]]]] = {
    "Adenosis": ("glandular", _adenosis),
    "Fibroadenoma": ("fibroepithelial", _fibroadenoma),
    "Phyllodes Tumor": ("fibroepithelial", _phyllodes),
    "Tubular Adenoma": ("glandular", _tubular),
    "Ductal Carcinoma": ("infiltrative", _ductal),
    "Lobular Carcinoma": ("infiltrative", _lobular),
    "Mucinous Carcinoma": ("mucinous", _mucinous),
    "Papillary Carcinoma": ("papillary", _papillary),
}


def tissue_context(label: str) -> str:
    """The tissue context of a class, in a word (Appendix B)."""
    return _PHRASES[label][0]


RENDERER: Final = Histology()
