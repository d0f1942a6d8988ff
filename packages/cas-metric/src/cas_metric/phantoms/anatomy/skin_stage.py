"""How signs of disease are painted on skin: tinting, relief, and what a painter is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cas_metric.phantoms.draw import Array, Grid

#: Factors by which a colour of the prompts multiplies the RGB of the skin.
TINTS: Final[Mapping[str, tuple[float, float, float]]] = {
    "pink": (1.02, 0.74, 0.74),
    "salmon": (1.03, 0.66, 0.56),
    "red": (0.96, 0.50, 0.48),
    "bright red": (1.00, 0.42, 0.40),
    "dark red": (0.72, 0.34, 0.34),
    "violet": (0.68, 0.48, 0.80),
    "purple-brown": (0.70, 0.44, 0.56),
    "red-brown": (0.72, 0.44, 0.36),
    "brown": (0.60, 0.45, 0.36),
    "skin-coloured": (1.03, 0.92, 0.89),
}


@dataclass(frozen=True)
class Stage:
    """What a painter works with.

    Attributes:
        g: Coordinates with the origin in the middle of the sign, turned with it.
        pose: Where the sign lies: keywords of ``Grid.posed`` and ``draw.place``.
        finding: The finding as specified.
        rng: Random numbers of the sign.
        skin: RGB of the bare skin.
        depth: Skin tone, 0 for fair to 1 for dark.
        light: Unit vector towards the light, in the frame.
    """

    g: Grid
    pose: Mapping[str, Any]
    finding: Mapping[str, Any]
    rng: np.random.Generator
    skin: Array
    depth: float
    light: tuple[float, float]

    @property
    def size(self) -> int:
        """Side of the frame in pixels."""
        return self.g.size

    @property
    def extent(self) -> float:
        """Radius of the sign or of one of its lesions in scene units."""
        return float(self.finding["extent"])

    @property
    def count(self) -> int:
        """How many lesions there are, or parts of one."""
        return int(self.finding["count"])

    def tint(self, canvas: Array, mask: Array, colour: str = "") -> Array:
        """``canvas`` multiplied by a colour (the finding's own by default) where ``mask`` is 1."""
        factor = np.array(TINTS[colour or self.finding["colour"]], dtype=np.float32)
        factor = factor * np.array([1 + 0.25 * self.depth, 1, 1], dtype=np.float32)
        factor = factor ** np.float32(self.finding["vividness"])
        return canvas * (1 + (factor - 1) * mask[..., None])

    def relief(
        self, canvas: Array, height: Array, *, strength: float = 0.5, gloss: float = 0.0
    ) -> Array:
        """Light and shade of a raised surface.

        Args:
            canvas: What is raised.
            height: Elevation in scene units.
            strength: Contrast of the shading.
            gloss: Brightness of the reflections on slopes that face the light.
        """
        rows, columns = np.gradient(height, 2 / self.size)
        facing = -(self.light[0] * columns + self.light[1] * rows)
        shade = 1 + strength * np.tanh(facing)
        shine = gloss * np.clip(facing - 0.2, 0, 0.8)
        return canvas * shade[..., None] + shine[..., None]
