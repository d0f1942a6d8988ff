"""Stains, nuclei, stroma and slide of the phantom breast section.

Tissue is a pair of dye concentrations: haematoxylin, which nuclei take up, and eosin, which stains
collagen and cytoplasm. Light passes through both (Beer-Lambert); the stain vectors follow Ruifrok
and Johnston (2001), with eosin moved towards the pink of routine slides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.draw import Array, Grid
from cas_metric.phantoms.fields import Mosaic, mosaic

Truth = Mapping[str, Any]

_HAEMATOXYLIN: Final = np.array([0.72, 0.78, 0.30], dtype=np.float32)
_EOSIN: Final = np.array([0.07, 0.62, 0.26], dtype=np.float32)
_GLASS: Final = np.float32(0.965)

#: Eosin in collagen of ordinary stroma.
COLLAGEN: Final = 0.62


@dataclass
class Tissue:
    """Dye concentrations ``(size, size)`` float32; 1 is a strong stain."""

    haematoxylin: Array
    eosin: Array

    def lay(self, mask: Array, haematoxylin: float | Array, eosin: float | Array) -> None:
        """Replace what is there by other concentrations where ``mask`` is 1."""
        self.haematoxylin += (haematoxylin - self.haematoxylin) * mask
        self.eosin += (eosin - self.eosin) * mask

    def stain(self, nuclei: Array, strength: float | Array = 1.25) -> None:
        """Add nuclei."""
        self.haematoxylin += (strength - self.haematoxylin) * nuclei
        self.eosin = self.eosin * (1 - 0.35 * nuclei)


def nuclei(
    rng: np.random.Generator,
    g: Grid,
    n: int,
    *,
    radius: float,
    spread: float = 0.12,
    aspect: float = 1.0,
    angle: float = 0.0,
    density: Array | float = 1.0,
) -> Array:
    """Mask of nuclei strewn over the frame.

    Args:
        rng: Random numbers.
        g: Coordinates.
        n: Places for nuclei along each axis.
        radius: Mean radius in scene units.
        spread: Relative standard deviation of the radii: pleomorphism.
        aspect: Long over short axis; above 1 the nuclei are spindles.
        angle: Main direction of spindles in radians.
        density: Share of the places that are taken, everywhere or pixel by pixel.
    """
    cells = mosaic(rng, g, n, jitter=0.85)
    sizes = radius * np.maximum(1 + spread * rng.standard_normal(n * n, dtype=np.float32), 0.4)
    taken = rng.random(n * n, dtype=np.float32)
    distance = cells.distance
    if aspect > 1:
        turns = angle + 0.35 * rng.standard_normal(n * n, dtype=np.float32)
        cos, sin = np.cos(turns)[cells.which], np.sin(turns)[cells.which]
        u, v = cells.dx * cos + cells.dy * sin, cells.dy * cos - cells.dx * sin
        stretch = np.float32(np.sqrt(aspect))
        distance = np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2)
    shape = draw.fill(distance - sizes[cells.which], 0.02, g.pixel)
    return shape * (taken[cells.which] < density)


def palisade(
    rng: np.random.Generator,
    cells: Mosaic,
    depth: Array,
    pixel: float,
    *,
    at: float,
    radius: float,
    around: int,
) -> Array:
    """Mask of nuclei in a row around each gland.

    Args:
        rng: Random numbers.
        cells: The glands.
        depth: Distance from the outline of the gland inwards, in scene units.
        pixel: ``Grid.pixel``.
        at: Depth of the row.
        radius: Radius of a nucleus.
        around: Nuclei in each row.
    """
    phase = rng.random(int(cells.which.max()) + 1, dtype=np.float32)[cells.which]
    turn = (np.arctan2(cells.dy, cells.dx) / np.float32(2 * np.pi) + phase) * around
    along = (turn - np.round(turn)) * np.float32(2 * np.pi / around) * cells.distance
    return draw.fill(np.hypot(along, depth - at) - radius, 0.02, pixel)


def stroma(
    rng: np.random.Generator, g: Grid, *, density: float, pale: float = 1.0, angle: float = 0.0
) -> Tissue:
    """Collagen in wavy bundles with spindle nuclei.

    Args:
        rng: Random numbers.
        g: Coordinates.
        density: Share of the places for nuclei that are taken.
        pale: Relative strength of the eosin.
        angle: Direction of the bundles in radians.
    """
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    across = g.y * cos - g.x * sin
    bend = draw.smooth_noise(rng, g.size, 4)
    fibres = np.sin(across * 38 + 2.6 * bend) * np.sin(across * 17 - 1.7 * bend + 1)
    clouds = draw.smooth_noise(rng, g.size, 9)
    eosin = np.float32(COLLAGEN * pale) * (1 + 0.16 * fibres + 0.07 * clouds)
    tissue = Tissue(np.full_like(eosin, 0.06), eosin)
    spindles = nuclei(rng, g, 22, radius=0.021, aspect=2.6, angle=angle, density=density)
    tissue.stain(spindles, 0.85)
    return tissue


def normal_tissue(rng: np.random.Generator, g: Grid) -> Tissue:
    """Quiet breast tissue without any gland: collagen, few nuclei, a lobe of fat."""
    tissue = stroma(rng, g, density=0.16)
    fat = mosaic(rng, g, 7, jitter=0.6)
    lobe = np.maximum(0.35 + 0.3 * draw.smooth_noise(rng, g.size, 2) - 0.7 * g.x, -1)
    vacuoles = draw.fill(0.016 - fat.wall, 0.02, g.pixel) * draw.fill(lobe, 0.1, g.pixel)
    tissue.lay(vacuoles, 0.0, 0.02)
    return tissue


def photomicrograph(
    tissue: Tissue, frame: Grid, nuisance: Truth, rng: np.random.Generator
) -> Array:
    """Colours of a stained section: ``(size, size, 3)`` float32."""
    gap = _gaps(frame, nuisance, rng)
    light = draw.illumination(frame, nuisance["light_angle"], nuisance["light"])
    wedge = draw.illumination(frame, nuisance["wedge_angle"], nuisance["wedge"])
    fold = _fold(frame, nuisance)
    thickness: Array = np.float32(nuisance["thickness"]) * wedge * (1 + fold) * (1 - gap)
    hue = np.float32(nuisance["hue"])
    blue = _HAEMATOXYLIN * np.array([1 + 0.14 * hue, 1.0, 1 - 0.20 * hue], dtype=np.float32)
    pink = _EOSIN * np.array([1.0, 1.0, 1 + 0.35 * nuisance["eosin_hue"]], dtype=np.float32)
    density = (tissue.haematoxylin * np.float32(nuisance["haematoxylin"]))[..., None] * blue
    density = density + (tissue.eosin * np.float32(nuisance["eosin"]))[..., None] * pink
    image = _GLASS * np.exp(-density * thickness[..., None]) * light[..., None]
    image = draw.blur(image, nuisance["blur"])
    return draw.sensor_noise(image, rng, nuisance["noise"])


def _gaps(frame: Grid, nuisance: Truth, rng: np.random.Generator) -> Array | float:
    """Where the section is torn or ends: bare glass."""
    if nuisance["artefact"] not in ("tear", "edge"):
        return 0.0
    ragged = 0.05 * draw.smooth_noise(rng, frame.size, 6)
    g = frame.posed(angle=nuisance["artefact_angle"])
    if nuisance["artefact"] == "edge":
        return draw.fill(0.72 - g.y + ragged, 0.03, frame.pixel)
    tear = np.abs(g.y - 0.45 + ragged) - 0.07 * np.clip(1 - np.abs(g.x), 0, 1)
    return draw.fill(tear, 0.03, frame.pixel)


def _fold(frame: Grid, nuisance: Truth) -> Array | float:
    """Extra thickness along a fold of the section."""
    if nuisance["artefact"] != "fold":
        return 0.0
    g = frame.posed(angle=nuisance["artefact_angle"])
    return 0.9 * draw.fill(np.abs(g.y - 0.5 + 0.1 * g.x * g.x) - 0.06, 0.03, frame.pixel)
