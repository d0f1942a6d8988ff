"""What every phantom renderer offers.

A phantom is a drawing of which the truth is known: the finding that it shows, where, how large,
in which colour. It is no medical data and is never presented as such.

A renderer works in two steps. ``sample`` draws a :class:`FindingSpec` of a class: a *finding*,
which a clinician would name and the prompt describes, and *nuisance*, which must not matter to a
diagnosis. ``render`` turns the specification into pixels, deterministically. Planted failures are
edits of the specification, so that everything but the failure stays as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class FindingSpec:
    """The whole truth of one phantom; JSON-able by :func:`dataclasses.asdict`.

    Attributes:
        domain: Domain pack, e.g. ``phantom-chexpert``.
        label: Class of the finding as drawn.
        finding: What is to be seen, by attribute (strings, numbers, booleans).
        nuisance: What varies without meaning: pose, exposure, devices, hair, stain, noise.
        seed: Seeds the pixel-level randomness of the rendering.

    Examples:
        >>> spec = FindingSpec("phantom-chexpert", "Pneumonia", {"severity": 0.2})
        >>> spec.with_finding(severity=0.9).finding
        {'severity': 0.9}
    """

    domain: str
    label: str
    finding: Mapping[str, Any] = field(default_factory=dict)
    nuisance: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def with_finding(self, **changes: Any) -> FindingSpec:
        """The same phantom with some attributes of its finding changed."""
        return dataclasses.replace(self, finding={**self.finding, **changes})


@dataclass(frozen=True)
class Phantom:
    """A rendered specification: ``image`` is ``(H, W, 3)`` uint8 RGB.

    Examples:
        >>> from cas_metric.phantoms import make_phantom
        >>> phantom = make_phantom("chexpert", "Cardiomegaly", seed=1)
        >>> phantom.image.shape, phantom.label, phantom.prompt.split(":")[0]
        ((64, 64, 3), 'Cardiomegaly', 'Frontal chest x-ray, cardiomegaly')
    """

    image: np.ndarray
    label: str
    prompt: str
    spec: FindingSpec


class Renderer(Protocol):
    """One modality. Implementations hold no state: the same arguments give the same pixels.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist = renderer("origa")
        >>> spec = artist.sample("Glaucoma", generator("origa", "Glaucoma", 0))
        >>> bool((artist.render(spec) == artist.render(spec)).all())
        True
    """

    domain: str
    classes: tuple[str, ...]
    #: Nuisance that prompts name all the same (a device, the eye): kept by a faithful rendering.
    context: tuple[str, ...]

    def sample(self, label: str, rng: np.random.Generator) -> FindingSpec:
        """Draw a specification of the class ``label``."""
        ...

    def render(self, spec: FindingSpec, size: int = 64) -> np.ndarray:
        """Draw ``spec`` as a ``(size, size, 3)`` uint8 RGB image, the same scene at any size."""
        ...

    def describe(self, spec: FindingSpec) -> str:
        """The prompt: one sentence of at most 40 words that names label and finding.

        Of a specification as sampled: a failure keeps the prompt of what it was to show.
        """
        ...

    def remove_finding(self, spec: FindingSpec) -> FindingSpec:
        """The same scene without the sign of its class (planted failure: missing finding)."""
        ...

    def misplace_finding(self, spec: FindingSpec, rng: np.random.Generator) -> FindingSpec:
        """The sign on the wrong side or in the wrong place (planted failure)."""
        ...

    def exaggerate_finding(self, spec: FindingSpec, severity: float) -> FindingSpec:
        """The sign drawn beyond its natural range; ``severity`` in [0, 1], 0 changes nothing."""
        ...
