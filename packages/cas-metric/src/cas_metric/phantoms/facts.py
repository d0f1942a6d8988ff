"""What a phantom shows, in the words of its pack's prompt schema.

A language model is asked for these facts (Stage 1 of the paper); here they come from the
specification, so that its answers can be held against the truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from cas_metric.errors import InputError
from cas_metric.phantoms import renderer
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.renderers.fundus import cup_word
from cas_metric.phantoms.renderers.histology import stain_word, tissue_context
from cas_metric.phantoms.renderers.radiograph import enlargement

Facts = dict[str, str | list[str]]
#: What is drawn where the sign of a class has been taken out of a picture, else nothing.
NORMAL: Final[Mapping[str, str]] = {"phantom-chexpert": "No Finding", "phantom-origa": "Normal"}


def facts(spec: FindingSpec) -> Facts:
    """The answer that the prompt schema of the domain wants, true of the drawing.

    Args:
        spec: Of a phantom that shows the sign of its label.

    Raises:
        InputError: The domain has no such facts, or the specification shows no sign.

    Examples:
        >>> from cas_metric.phantoms import make_phantom
        >>> facts(make_phantom("chexpert", "Pleural Effusion", seed=0).spec)["location"]
        'right lung base'
    """
    read = _FACTS.get(spec.domain)
    if read is None or not spec.finding:
        raise InputError(
            f"a {spec.label} of {spec.domain} with the finding {dict(spec.finding)} has no facts",
            fix=f"take a phantom of {', '.join(_FACTS)} as it was sampled",
        )
    return read(spec)


def summary(spec: FindingSpec) -> str:
    """What the prompt says of the finding, in one wording and without the context around it.

    Examples:
        >>> from cas_metric.phantoms import make_phantom
        >>> summary(make_phantom("chexpert", "No Finding", seed=0).spec)
        'clear dark lungs, normal heart, sharp costophrenic angles'
    """
    text = renderer(spec.domain).describe(dataclasses.replace(spec, seed=0))
    phrase = text.split(": ", 1)[1].rstrip(".")
    if spec.domain == "phantom-chexpert":
        return phrase.removesuffix(f", {spec.nuisance['device']}")
    return phrase.rpartition(", ")[0] if spec.domain == "phantom-origa" else phrase


def _radiograph(spec: FindingSpec) -> Facts:
    finding, label = spec.finding, spec.label
    heart = f"{finding['heart']} heart"
    if label == "Pneumonia":
        place = f"{finding['side']} {finding['zone']} zone"
        found = [f"{finding['size']} opacity", f"{finding['density']} opacity"]
        found += ["air bronchograms"] * finding["bronchograms"] + [heart]
    elif label == "Pleural Effusion":
        both = finding["side"] == "bilateral"
        place = "both lung bases" if both else f"{finding['side']} lung base"
        found = [f"{finding['volume']} fluid", "meniscus", heart]
    elif label == "Cardiomegaly":
        place = "central chest"
        found = [f"{enlargement(finding['ctr'])} enlarged heart", "globular heart", "clear lungs"]
    else:
        place, found = "both lungs", ["clear lungs", "sharp costophrenic angles", heart]
    return {
        "devices": [spec.nuisance["device"]],
        "location": place,
        "key_findings": found,
        "visual_summary": summary(spec),
    }


def _photograph(spec: FindingSpec) -> Facts:
    return {
        "body_part": spec.nuisance["site"],
        "skin_type": spec.nuisance["tone"],
        "lesion_features": summary(spec),
    }


#: Findings of every image of a class, and those of its variants.
_TISSUE: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]] = {
    "Adenosis": (
        ("crowded acini", "fibrous stroma"),
        {"open": "open lumina", "compressed": "compressed lumina"},
    ),
    "Fibroadenoma": (
        ("slit-like ducts", "pale stroma"),
        {"curved": "curved ducts", "branching": "branching ducts"},
    ),
    "Phyllodes Tumor": (
        ("leaf-like fronds",),
        {"cellular": "cellular stroma", "highly cellular": "highly cellular stroma"},
    ),
    "Tubular Adenoma": (
        ("tightly packed tubules", "open lumina"),
        {"round": "round tubules", "oval": "oval tubules"},
    ),
    "Ductal Carcinoma": (
        ("angulated nests", "desmoplastic stroma"),
        {"solid": "solid nests", "small lumina": "small lumina"},
    ),
    "Lobular Carcinoma": (
        ("single-file cords", "discohesive cells"),
        {"linear": "linear cords", "targetoid": "targetoid pattern"},
    ),
    "Mucinous Carcinoma": (
        ("mucin lakes",),
        {"rounded": "rounded islands", "strips": "floating strips"},
    ),
    "Papillary Carcinoma": (
        ("papillary fronds",),
        {"delicate": "delicate cores", "broad": "broad cores"},
    ),
}


def _section(spec: FindingSpec) -> Facts:
    always, by_variant = _TISSUE[spec.label]
    return {
        "tissue_context": tissue_context(spec.label),
        "stain": stain_word(spec.nuisance),
        "key_findings": [*always, by_variant[spec.finding["variant"]]],
        "visual_summary": summary(spec),
    }


def _fundus(spec: FindingSpec) -> Facts:
    finding = spec.finding
    notch = finding["notch"]
    if spec.label == "Normal":
        rim = "intact rim"
    else:
        rim = "thin rim" if notch == "none" else f"{notch} rim notch"
    found = [rim, f"{finding['vessels']} vessels"]
    for name, words in (("haemorrhage", "disc haemorrhage"), ("nerve_fibre_defect",) * 2):
        if finding[name] != "none":
            found.append(f"{finding[name]} {words.replace('_', ' ')}")
    if finding["atrophy"]:
        found.append("thin crescent" if spec.label == "Normal" else "peripapillary atrophy")
    return {
        "eye": {"od": "right eye", "os": "left eye"}[spec.nuisance["eye"]],
        "cup": f"{cup_word(finding['vcdr'])} cup",
        "key_findings": found,
        "visual_summary": summary(spec),
    }


_FACTS: Final[Mapping[str, Callable[[FindingSpec], Facts]]] = {
    "phantom-chexpert": _radiograph,
    "phantom-fitzpatrick17k": _photograph,
    "phantom-breakhis": _section,
    "phantom-origa": _fundus,
}
