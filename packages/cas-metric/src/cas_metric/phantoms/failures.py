"""Planted failures: what a bad generator does, done on purpose and to a known degree.

Each function takes a renderer, the specification that was asked for, random numbers and a
severity in [0, 1], and returns the phantom that a failing generator would hand out: the label and
prompt of the request, the image of the failure. ``Phantom.spec`` says what was really drawn. At
severity 0 nothing is changed; failures that cannot be graded (a wrong class) are there in full at
any other severity. Everything that is not part of the failure stays as it was.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Protocol

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.base import FindingSpec, Phantom, Renderer

#: Standard deviation of the blur in frame units, and of the noise, at severity 1.
_BLUR: Final = 0.14
_NOISE: Final = 0.35
#: Share of the contrast that is lost at severity 1.
_CONTRAST_LOSS: Final = 0.9


class Failure(Protocol):
    """A planted failure.

    Examples:
        >>> sorted(FAILURES)[:4]
        ['blur', 'exaggeration', 'low_contrast', 'missing_finding']
    """

    def __call__(
        self,
        artist: Renderer,
        spec: FindingSpec,
        rng: np.random.Generator,
        severity: float = 1.0,
        size: int = 64,
    ) -> Phantom:
        """The failed phantom of ``spec``, ``size`` pixels wide."""
        ...


def faithful(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 0.0,
    size: int = 64,
) -> Phantom:
    """No failure: the same finding with fresh nuisance and a fresh pixel seed.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Pneumonia", 0)
        >>> spec = artist.sample("Pneumonia", rng)
        >>> faithful(artist, spec, rng).spec.finding == spec.finding
        True
    """
    return _as_requested(artist, spec, fresh_nuisance(artist, spec, rng), size)


def fresh_nuisance(artist: Renderer, spec: FindingSpec, rng: np.random.Generator) -> FindingSpec:
    """The finding of ``spec`` in another picture, of which the same prompt holds."""
    fresh = artist.sample(spec.label, rng)
    kept = {key: spec.nuisance[key] for key in artist.context}
    return dataclasses.replace(fresh, finding=spec.finding, nuisance={**fresh.nuisance, **kept})


def wrong_class(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """The finding of another class in the same picture.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Pneumonia", 0)
        >>> made = wrong_class(artist, artist.sample("Pneumonia", rng), rng)
        >>> made.label, made.spec.label == "Pneumonia"  # asked for, and drawn
        ('Pneumonia', False)
    """
    if severity == 0:
        return _as_requested(artist, spec, spec, size)
    other = str(rng.choice([label for label in artist.classes if label != spec.label]))
    sampled = artist.sample(other, rng)
    # A class may need nuisance that others lack; what both know stays as it was.
    nuisance = {key: spec.nuisance.get(key, value) for key, value in sampled.nuisance.items()}
    drawn = dataclasses.replace(sampled, nuisance=nuisance, seed=spec.seed)
    return _as_requested(artist, spec, drawn, size)


def missing_finding(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """The same picture without its sign; unchanged where the class has none (No Finding).

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Cardiomegaly", 0)
        >>> spec = artist.sample("Cardiomegaly", rng)
        >>> missing_finding(artist, spec, rng).spec == artist.remove_finding(spec)
        True
    """
    return _as_requested(artist, spec, artist.remove_finding(spec) if severity else spec, size)


def wrong_side(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """The sign on the wrong side, or where it cannot be.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Pleural Effusion", 0)
        >>> spec = artist.sample("Pleural Effusion", rng)
        >>> wrong_side(artist, spec, rng).spec == spec
        False
    """
    drawn = artist.misplace_finding(spec, rng) if severity else spec
    return _as_requested(artist, spec, drawn, size)


def exaggeration(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """The sign beyond its natural range.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Cardiomegaly", 0)
        >>> spec = artist.sample("Cardiomegaly", rng)
        >>> exaggeration(artist, spec, rng).spec.finding == spec.finding
        False
    """
    return _as_requested(artist, spec, artist.exaggerate_finding(spec, severity), size)


def blur(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """Out of focus.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Pneumonia", 0)
        >>> spec = artist.sample("Pneumonia", rng)
        >>> bool(blur(artist, spec, rng).image.std() < artist.render(spec).std())
        True
    """
    canvas = draw.blur(_canvas(artist, spec, size), _BLUR * severity)
    return _with_pixels(artist, spec, canvas)


def noise(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """White noise in every pixel and channel.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Pneumonia", 0)
        >>> spec = artist.sample("Pneumonia", rng)
        >>> noise(artist, spec, rng, severity=0.5).image.shape
        (64, 64, 3)
    """
    canvas = draw.sensor_noise(_canvas(artist, spec, size), rng, _NOISE * severity)
    return _with_pixels(artist, spec, canvas)


def low_contrast(
    artist: Renderer,
    spec: FindingSpec,
    rng: np.random.Generator,
    severity: float = 1.0,
    size: int = 64,
) -> Phantom:
    """Every channel drawn towards its mean.

    Examples:
        >>> from cas_metric.phantoms import generator, renderer
        >>> artist, rng = renderer("chexpert"), generator("chexpert", "Pneumonia", 0)
        >>> spec = artist.sample("Pneumonia", rng)
        >>> bool(low_contrast(artist, spec, rng).image.std() < artist.render(spec).std())
        True
    """
    canvas = _canvas(artist, spec, size)
    mean = canvas.mean(axis=(0, 1))
    return _with_pixels(artist, spec, mean + (canvas - mean) * (1 - _CONTRAST_LOSS * severity))


#: Every failure of a single image. Copying a training image is a failure of a set: see
#: :func:`cas_metric.phantoms.dataset.plant_copies`.
FAILURES: Final[dict[str, Failure]] = {
    "wrong_class": wrong_class,
    "missing_finding": missing_finding,
    "wrong_side": wrong_side,
    "exaggeration": exaggeration,
    "blur": blur,
    "noise": noise,
    "low_contrast": low_contrast,
}


def _as_requested(
    artist: Renderer, requested: FindingSpec, drawn: FindingSpec, size: int
) -> Phantom:
    """``drawn`` under the label and prompt of ``requested``."""
    return Phantom(artist.render(drawn, size), requested.label, artist.describe(requested), drawn)


def _canvas(artist: Renderer, spec: FindingSpec, size: int) -> draw.Array:
    return artist.render(spec, size).astype(np.float32) / 255


def _with_pixels(artist: Renderer, spec: FindingSpec, canvas: draw.Array) -> Phantom:
    return Phantom(draw.to_rgb8(canvas), spec.label, artist.describe(spec), spec)
