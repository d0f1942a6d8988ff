"""Models that know the truth about phantoms: what to answer to a call of the scripted server.

They see what any model sees, the pixels and the text of the call, and look the pixels up among the
images whose specification is known.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cas_metric.domains import Domain
from cas_metric.phantoms import FindingSpec
from cas_metric.phantoms.dataset import read_specs
from tests.support.mllm_server import Action, Call, Say

#: Below this spread of grey values the texture of a phantom cannot be judged.
FLAT = 20.0


def pixels_of(content: bytes | Path) -> np.ndarray:
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    with Image.open(source) as image:
        return np.asarray(image.convert("RGB"))


def shows_its_class(spec: FindingSpec) -> bool:
    """Whether the sign of the class was drawn, read from the finding alone."""
    finding = spec.finding
    if spec.domain == "phantom-chexpert":
        sign = {"Cardiomegaly": finding["heart"] == "globular", "No Finding": True}
        return sign.get(spec.label, "side" in finding)
    if spec.domain == "phantom-origa":
        return spec.label == "Normal" or finding["vcdr"] >= 0.6
    return bool(finding)


def drawn_class(spec: FindingSpec) -> str | None:
    """The class that an image shows; None for tissue or skin without any sign."""
    healthy = {"phantom-chexpert": "No Finding", "phantom-origa": "Normal"}
    return spec.label if shows_its_class(spec) else healthy.get(spec.domain)


def item_truth(asked: str, spec: FindingSpec, pixels: np.ndarray, domain: Domain) -> dict[str, str]:
    """Verdict of each item of the class asked for.

    An item is present if the class drawn has the same one: a wrong class shows the items that the
    two share, a missing finding those of a healthy image. Texture is lost in a flat image.
    """
    drawn = drawn_class(spec)
    shown = domain.checklist(drawn) if drawn else {}
    verdicts = {}
    for attribute, text in domain.checklist(asked).items():
        verdicts[attribute] = "present" if shown.get(attribute) == text else "absent"
        if attribute == "Texture" and pixels.std() < FLAT:
            verdicts[attribute] = "not assessable"
    return verdicts


class Gallery:
    """Known images: file and specification by pixels."""

    def __init__(self, *folders: Path) -> None:
        self.specs: dict[bytes, FindingSpec] = {}
        self.folder: dict[bytes, Path] = {}
        for folder in folders:
            for name, spec in read_specs(folder).items():
                key = pixels_of(folder / "images" / f"{name}.png").tobytes()
                self.specs[key] = spec
                self.folder[key] = folder


def audit_oracle(
    gallery: Gallery,
    domain: Domain,
    *,
    change: Callable[[str, str], str] = lambda verdict, attribute: verdict,
) -> Callable[[Call], Action]:
    """Answers every item by the truth; ``change`` may falsify a verdict."""
    classes = {domain.checklist_items(name): name for name in domain.class_names}

    def answer(call: Call) -> Action:
        asked = classes[tuple(re.findall(r"^\d+\. (.+)$", call.prompt, re.MULTILINE))]
        pixels = pixels_of(call.images[0])
        truth = item_truth(asked, gallery.specs[pixels.tobytes()], pixels, domain)
        items = {}
        for n, (attribute, verdict) in enumerate(truth.items(), start=1):
            said = change(verdict, attribute)
            items[f"item_{n}"] = {"evidence": f"drawn {attribute}", "verdict": said}
        return Say(items)

    return answer


def judge_oracle(
    gallery: Gallery, quality: Mapping[Path, float], noise: Callable[[], float] = lambda: 0.0
) -> Callable[[Call], Action]:
    """Ranks candidates by the known quality of the folder that each comes from."""

    def answer(call: Call) -> Action:
        folders = [gallery.folder[pixels_of(image).tobytes()] for image in call.images]
        values = [quality[folder] + noise() for folder in folders]
        order = np.argsort(values, kind="stable")[::-1]
        return Say({"ranking": ["ABCDEFGH"[k] for k in order]})

    return answer
