"""The embedded world: drawings whose truth is known, in the four modalities of the paper.

None of it is medical data. See :mod:`cas_metric.phantoms.base` for what a phantom is.
"""

from __future__ import annotations

import hashlib
import importlib
from functools import lru_cache
from typing import Final

import numpy as np

from cas_metric.errors import InputError
from cas_metric.phantoms.base import FindingSpec, Phantom, Renderer

#: domain -> (module, class); imported on use.
_RENDERERS: Final[dict[str, tuple[str, str]]] = {
    "phantom-fitzpatrick17k": ("dermatology", "Dermatology"),
    "phantom-chexpert": ("radiograph", "Radiograph"),
    "phantom-breakhis": ("histology", "Histology"),
    "phantom-origa": ("fundus", "Fundus"),
}

#: The phantom domains, in the order of the paper's tables.
DOMAINS: Final[tuple[str, ...]] = tuple(_RENDERERS)

__all__ = [
    "DOMAINS",
    "FindingSpec",
    "Phantom",
    "Renderer",
    "canonical_domain",
    "generator",
    "make_phantom",
    "render_phantom",
    "renderer",
]


def canonical_domain(name: str) -> str:
    """Full name of a phantom domain: ``chexpert`` and ``phantom-chexpert`` are the same.

    Raises:
        InputError: There is no such phantom domain.
    """
    full = name if name.startswith("phantom-") else f"phantom-{name}"
    if full not in _RENDERERS:
        raise InputError(
            f"no phantom domain {name!r}",
            fix=f"choose one of {', '.join(d.removeprefix('phantom-') for d in DOMAINS)}",
        )
    return full


@lru_cache(maxsize=len(_RENDERERS))
def _load(domain: str) -> Renderer:
    module, cls = _RENDERERS[domain]
    made: Renderer = getattr(importlib.import_module(f"{__name__}.{module}"), cls)()
    return made


def renderer(domain: str) -> Renderer:
    """The renderer of a domain, with or without the prefix ``phantom-``."""
    return _load(canonical_domain(domain))


def generator(domain: str, label: str, *numbers: int) -> np.random.Generator:
    """Random numbers of one phantom: the same on every machine and in every process.

    Args:
        domain: Phantom domain.
        label: One of its classes.
        numbers: Which phantom of the class: a seed, or several non-negative integers.

    Raises:
        InputError: ``label`` is no class of the domain.
    """
    domain = canonical_domain(domain)
    classes = renderer(domain).classes
    if label not in classes:
        raise InputError(f"{domain} has no class {label!r}", fix=f"one of {', '.join(classes)}")
    # Python's own hash() differs between processes.
    name = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([name, classes.index(label), *numbers]))


def make_phantom(domain: str, label: str, seed: int, size: int = 64) -> Phantom:
    """Draw phantom number ``seed`` of a class.

    Args:
        domain: Phantom domain, e.g. ``phantom-chexpert``.
        label: One of its classes.
        seed: Number of the phantom within its class.
        size: Side of the image in pixels.
    """
    artist = renderer(domain)
    return render_phantom(artist, artist.sample(label, generator(domain, label, seed)), size)


def render_phantom(artist: Renderer, spec: FindingSpec, size: int = 64) -> Phantom:
    """Image, label and prompt of a specification."""
    return Phantom(artist.render(spec, size), spec.label, artist.describe(spec), spec)
