"""The embedded world: drawings whose truth is known, in the four modalities of the paper.

None of it is medical data. See :mod:`cas_metric.phantoms.base` for what a phantom is.
"""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import numpy as np

from cas_metric.discovery import named_modules
from cas_metric.errors import InputError
from cas_metric.phantoms.base import FindingSpec, Phantom, Renderer

#: Entry points by which another package brings renderers: a domain and its module.
ENTRY_POINTS: Final = "cas_metric.phantoms"
#: In the order of the paper's tables; any other comes after them.
_ORDER: Final = tuple(f"phantom-{n}" for n in ("fitzpatrick17k", "chexpert", "breakhis", "origa"))
#: Domain to the module of its renderer; imported on use.
_MODULES: Final = {
    name: f"{__name__}.renderers.{module}"
    for name, (module, _) in named_modules(Path(__file__).parent / "renderers").items()
}

#: The phantom domains of this package.
DOMAINS: Final[tuple[str, ...]] = tuple(
    sorted(_MODULES, key=lambda name: (_ORDER.index(name) if name in _ORDER else 99, name))
)

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
    if full not in _MODULES and full not in entry_points(group=ENTRY_POINTS).names:
        raise InputError(
            f"no phantom domain {name!r}",
            fix=f"choose one of {', '.join(d.removeprefix('phantom-') for d in DOMAINS)}",
        )
    return full


@cache
def _load(domain: str) -> Renderer:
    module = _MODULES.get(domain)
    if module is None:
        module = entry_points(group=ENTRY_POINTS)[domain].module
    made: Renderer = importlib.import_module(module).RENDERER
    return made


def renderer(domain: str) -> Renderer:
    """The renderer of a domain, with or without the prefix ``phantom-``.

    Examples:
        >>> renderer("breakhis").domain
        'phantom-breakhis'
    """
    return _load(canonical_domain(domain))


def generator(domain: str, label: str, *numbers: int) -> np.random.Generator:
    """Random numbers of one phantom: the same on every machine and in every process.

    Args:
        domain: Phantom domain.
        label: One of its classes.
        numbers: Which phantom of the class: a seed, or several non-negative integers.

    Raises:
        InputError: ``label`` is no class of the domain.

    Examples:
        >>> one, again = (generator("chexpert", "Pneumonia", 7) for _ in range(2))
        >>> one.random() == again.random()
        True
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

    Examples:
        >>> make_phantom("phantom-chexpert", "Pneumonia", seed=0, size=128).image.shape
        (128, 128, 3)
    """
    artist = renderer(domain)
    return render_phantom(artist, artist.sample(label, generator(domain, label, seed)), size)


def render_phantom(artist: Renderer, spec: FindingSpec, size: int = 64) -> Phantom:
    """Image, label and prompt of a specification.

    Examples:
        >>> artist = renderer("chexpert")
        >>> spec = artist.sample("Pneumonia", generator("chexpert", "Pneumonia", 0))
        >>> render_phantom(artist, spec, size=32).image.shape
        (32, 32, 3)
    """
    return Phantom(artist.render(spec, size), spec.label, artist.describe(spec), spec)
