"""``phantom-chexpert``: phantom frontal chest radiographs, normal and with one of three findings.

The drawing follows how a film comes about: soft tissue and bone add attenuation, air in the lungs
takes it away, and a window maps what remains to grey. A finding therefore *replaces air*: the
heart, a consolidation and fluid all whiten the lung that they cover, by as much air as there was.

Convention: the patient's left is on the right of the image (x > 0). Lengths are in frame units
(the frame is 2 wide).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy.thorax import SIDES, ZONES, draw_film
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array

_SIZES: Final = {"small": (0.15, 0.19), "moderate": (0.21, 0.26), "large": (0.29, 0.36)}
_DENSITIES: Final = {"hazy ground-glass": (0.55, 0.68), "dense": (0.82, 0.95)}
_VOLUMES: Final = {"small": (0.30, 0.38), "moderate": (0.50, 0.68), "large": (0.98, 1.30)}
_DEVICES: Final = {"none": 0.64, "pacemaker": 0.12, "picc line": 0.12, "ECG leads": 0.12}


class Radiograph:
    """Renderer of ``phantom-chexpert``.

    Finding, of every class: ``ctr`` (cardiothoracic ratio), ``heart`` (small, normal, globular),
    ``dextrocardia`` (only ever True in a planted failure). Pneumonia adds ``side``, ``zone``,
    ``size``, ``radius``, ``density``, ``strength``, ``bronchograms``; Pleural Effusion adds
    ``side``, ``volume``, ``height``, ``apical`` (only ever True in a planted failure).
    """

    domain = "phantom-chexpert"
    classes = ("No Finding", "Cardiomegaly", "Pneumonia", "Pleural Effusion")
    context = ("device",)

    def sample(self, label: str, rng: np.random.Generator) -> FindingSpec:
        """Draw a specification of the class ``label``."""
        finding: dict[str, Any] = _sample_heart(rng, enlarged=label == "Cardiomegaly")
        if label == "Pneumonia":
            finding |= _sample_opacity(rng)
        elif label == "Pleural Effusion":
            finding |= _sample_effusion(rng)
        nuisance = _sample_nuisance(rng)
        return FindingSpec(self.domain, label, finding, nuisance, int(rng.integers(2**31)))

    def render(self, spec: FindingSpec, size: int = 64) -> Array:
        """Draw ``spec`` as a ``(size, size, 3)`` uint8 RGB image, the same scene at any size."""
        return draw.to_rgb8(draw_film(spec, size))

    def describe(self, spec: FindingSpec) -> str:
        """The prompt: at most 40 words; names label, finding and device."""
        finding, device = spec.finding, spec.nuisance["device"]
        phrase = _PHRASES[spec.label](finding, spec.seed % 3)
        opening = ("Frontal chest radiograph", "Frontal chest x-ray", "Chest radiograph")
        extra = "" if device == "none" else f", {device}"
        return f"{opening[spec.seed // 3 % 3]}, {spec.label.lower()}: {phrase}{extra}."

    def remove_finding(self, spec: FindingSpec) -> FindingSpec:
        """Normal heart, clear lungs, sharp angles. A No Finding phantom comes back unchanged."""
        if spec.label == "No Finding":
            return spec
        kept = {k: spec.finding[k] for k in ("ctr", "heart", "dextrocardia")}
        if spec.label == "Cardiomegaly":
            kept |= {"ctr": round(0.34 + 0.2 * (spec.finding["ctr"] - 0.3), 4), "heart": "normal"}
        return dataclasses.replace(spec, finding=kept)

    def misplace_finding(self, spec: FindingSpec, rng: np.random.Generator) -> FindingSpec:
        """The other lung; bilateral fluid at the apices; otherwise the heart on the right side."""
        other = {"left": "right", "right": "left"}
        side = spec.finding.get("side")
        if side in other:
            return spec.with_finding(side=other[side])
        if side == "bilateral":
            return spec.with_finding(apical=True)
        return spec.with_finding(dextrocardia=True)

    def exaggerate_finding(self, spec: FindingSpec, severity: float) -> FindingSpec:
        """Heart as wide as the chest, white-out of a lung; for No Finding a vanishing heart."""
        finding = spec.finding
        if severity == 0:
            return spec
        if spec.label == "Pneumonia":
            return spec.with_finding(
                radius=_towards(finding["radius"], 0.75, severity),
                strength=_towards(finding["strength"], 1.0, severity),
            )
        if spec.label == "Pleural Effusion":
            return spec.with_finding(height=_towards(finding["height"], 1.75, severity))
        extreme = 1.0 if spec.label == "Cardiomegaly" else 0.16
        return spec.with_finding(ctr=_towards(finding["ctr"], extreme, severity))


def _towards(value: float, extreme: float, severity: float) -> float:
    return round(value + severity * (extreme - value), 4)


# -- sampling -------------------------------------------------------------------------------------


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _pick(rng: np.random.Generator, options: Any, weights: Any = None) -> str:
    return str(rng.choice(list(options), p=weights))


def _sample_heart(rng: np.random.Generator, *, enlarged: bool) -> dict[str, Any]:
    """Ratios are < 0.5 in every class but cardiomegaly, where they are > 0.55."""
    if enlarged:
        return {"ctr": _uniform(rng, 0.56, 0.72), "heart": "globular", "dextrocardia": False}
    ctr = _uniform(rng, 0.37, 0.49)
    return {"ctr": ctr, "heart": "small" if ctr < 0.42 else "normal", "dextrocardia": False}


def _sample_opacity(rng: np.random.Generator) -> dict[str, Any]:
    size, density = _pick(rng, _SIZES, (0.25, 0.4, 0.35)), _pick(rng, _DENSITIES, (0.45, 0.55))
    return {
        "side": _pick(rng, SIDES),
        "zone": _pick(rng, ZONES),
        "size": size,
        "radius": _uniform(rng, *_SIZES[size]),
        "density": density,
        "strength": _uniform(rng, *_DENSITIES[density]),
        "bronchograms": bool(density == "dense" and size != "small" and rng.random() < 0.5),
    }


def _sample_effusion(rng: np.random.Generator) -> dict[str, Any]:
    volume = _pick(rng, _VOLUMES, (0.3, 0.4, 0.3))
    side = _pick(rng, ("right", "left", "bilateral"), (0.38, 0.37, 0.25))
    if side == "bilateral" and volume == "large":
        volume = "moderate"
    return {
        "side": side,
        "volume": volume,
        "height": _uniform(rng, *_VOLUMES[volume]),
        "apical": False,
    }


def _sample_nuisance(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "angle": _uniform(rng, -0.09, 0.09),
        "scale": _uniform(rng, 0.88, 1.12),
        "aspect": _uniform(rng, 0.92, 1.10),
        "dx": _uniform(rng, -0.08, 0.08),
        "dy": _uniform(rng, -0.07, 0.07),
        "diaphragm": _uniform(rng, 0.26, 0.42),
        "habitus": _uniform(rng, 0, 1) ** 2,
        "breasts": _uniform(rng, 0.3, 1) if rng.random() < 0.45 else 0.0,
        "exposure": _uniform(rng, -0.13, 0.13),
        "contrast": _uniform(rng, 0.75, 1.25),
        "gamma": _uniform(rng, 0.75, 1.35),
        "noise": _uniform(rng, 0.01, 0.05),
        "device": _pick(rng, _DEVICES, list(_DEVICES.values())),
        "marker": _pick(rng, ("L", "R", "none"), (0.3, 0.3, 0.4)),
        "collimation": _uniform(rng, 0.02, 0.12) if rng.random() < 0.3 else 0.0,
    }


# -- prompts --------------------------------------------------------------------------------------


def _normal_phrase(finding: Any, style: int) -> str:
    heart = f"{finding['heart']} heart"
    return (
        f"clear dark lungs, {heart}, sharp costophrenic angles",
        f"well aerated clear lungs, sharp costophrenic angles, {heart} size",
        f"{heart} with clear lung fields and sharp diaphragm",
    )[style]


def enlargement(ctr: float) -> str:
    """How much the heart of a cardiothoracic ratio is enlarged, in a word."""
    return "mildly" if ctr < 0.61 else "moderately" if ctr < 0.665 else "markedly"


def _cardiomegaly_phrase(finding: Any, style: int) -> str:
    grade = enlargement(finding["ctr"])
    return (
        f"{grade} enlarged globular heart shadow, clear lungs, sharp costophrenic angles",
        f"{grade} widened central heart silhouette, globular, smooth borders, clear lungs",
        f"globular {grade} enlarged heart wider than half of the chest, clear lungs",
    )[style]


def _pneumonia_phrase(finding: Any, style: int) -> str:
    size, density = finding["size"], finding["density"]
    place = f"{finding['side']} {finding['zone']} zone"
    signs = " with air bronchograms" if finding["bronchograms"] else ""
    heart = f"{finding['heart']} heart"
    return (
        f"{size} {density} patchy opacity{signs} in the {place}, {heart}",
        f"{place} shows a {size} {density} fluffy opacity{signs}, {heart}",
        f"{size} ill-defined {density} cloud-like opacity{signs}, {place}, {heart}",
    )[style]


def _effusion_phrase(finding: Any, style: int) -> str:
    volume, side = finding["volume"], finding["side"]
    base = "both lung bases" if side == "bilateral" else f"{side} lung base"
    heart = f"{finding['heart']} heart"
    return (
        f"{volume} {side} fluid, homogeneous white opacity with meniscus at the {base}, {heart}",
        f"{volume} {side} effusion blunting costophrenic angle, meniscus, white {base}, {heart}",
        f"dense homogeneous opacity with meniscus over {base}, {volume} {side} fluid, {heart}",
    )[style]


_PHRASES: Final = {
    "No Finding": _normal_phrase,
    "Cardiomegaly": _cardiomegaly_phrase,
    "Pneumonia": _pneumonia_phrase,
    "Pleural Effusion": _effusion_phrase,
}


RENDERER: Final = Radiograph()
