"""Drawing helpers of the phantom renderers.

Everything is drawn on one coordinate system: ``x`` to the right and ``y`` downwards, both from -1
to 1 over the frame, so that a scene is the same at every size. Shapes are signed distances
(negative inside, in the same units) which :func:`fill` turns into soft-edged masks; masks are
``(size, size)`` float32 in [0, 1]; canvases are ``(size, size, 3)`` or ``(size, size)`` float32,
nominally in [0, 1].

Noise fields come from small grids of random numbers that are interpolated with cubic B-splines:
the field does not depend on the size of the frame, and costs two small matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

Array = np.ndarray
Point = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """Scene coordinates of every pixel centre.

    Attributes:
        x: ``(size, size)`` float32.
        y: ``(size, size)`` float32.
        pixel: Width of a pixel in scene units: the narrowest edge that can be drawn.
    """

    x: Array
    y: Array
    pixel: float

    @property
    def size(self) -> int:
        """Side of the frame in pixels."""
        return int(self.x.shape[0])

    def posed(
        self,
        *,
        angle: float = 0.0,
        scale: float = 1.0,
        shift: Point = (0.0, 0.0),
        aspect: float = 1.0,
    ) -> Grid:
        """Coordinates under which a scene appears turned, scaled and moved.

        Args:
            angle: Clockwise rotation of what is drawn, in radians.
            scale: Magnification of what is drawn.
            shift: Where the scene's origin comes to lie in the frame.
            aspect: Horizontal magnification relative to the vertical one.
        """
        cos, sin = np.cos(angle), np.sin(angle)
        dx, dy = self.x - np.float32(shift[0]), self.y - np.float32(shift[1])
        wide, high = scale * np.sqrt(aspect), scale / np.sqrt(aspect)
        x = (dx * np.float32(cos) + dy * np.float32(sin)) / np.float32(wide)
        y = (dy * np.float32(cos) - dx * np.float32(sin)) / np.float32(high)
        return Grid(x, y, self.pixel / scale)


@lru_cache(maxsize=8)
def grid(size: int) -> Grid:
    """The coordinates of a frame of ``size`` × ``size`` pixels."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    x.flags.writeable = y.flags.writeable = False
    return Grid(x, y, 2.0 / size)


def place(
    points: Sequence[Point] | Array,
    *,
    angle: float = 0.0,
    scale: float = 1.0,
    shift: Point = (0.0, 0.0),
    aspect: float = 1.0,
) -> Array:
    """Frame coordinates ``(N, 2)`` of scene points under a pose: the inverse of ``Grid.posed``."""
    p = np.asarray(points, dtype=np.float64)
    x, y = p[:, 0] * scale * np.sqrt(aspect), p[:, 1] * scale / np.sqrt(aspect)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin + shift[0], x * sin + y * cos + shift[1]], axis=1)


# -- shapes: signed distances, negative inside ----------------------------------------------------


def ellipse(g: Grid, centre: Point, radii: Point, angle: float = 0.0) -> Array:
    """Distance to an ellipse with the given half-axes, turned clockwise by ``angle`` radians.

    Exact for circles; for ellipses the first-order approximation, good near the outline.
    """
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = g.x - np.float32(centre[0]), g.y - np.float32(centre[1])
    u = (dx * cos + dy * sin) / np.float32(radii[0])
    v = (dy * cos - dx * sin) / np.float32(radii[1])
    level = np.sqrt(u * u + v * v) + np.float32(1e-6)
    slope = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2) / level + np.float32(1e-6)
    return (level - 1) / slope


def blob(g: Grid, centre: Point, radii: Sequence[float] | Array, angle: float = 0.0) -> Array:
    """Radial distance to a star-shaped outline.

    Args:
        g: Coordinates.
        centre: Point that the radii start from.
        radii: Radii at equally spaced angles, clockwise from the positive x axis; interpolated
            smoothly (periodic Catmull-Rom) between them.
        angle: Clockwise rotation of the outline in radians.
    """
    dx, dy = g.x - np.float32(centre[0]), g.y - np.float32(centre[1])
    turn = (np.arctan2(dy, dx) - np.float32(angle)) * np.float32(1 / (2 * np.pi)) % 1.0
    table = _periodic_table(np.asarray(radii, dtype=np.float64))
    index = (turn * len(table)).astype(np.int32) % len(table)
    return np.sqrt(dx * dx + dy * dy) - table[index]


def _periodic_table(values: Array, entries: int = 512) -> Array:
    """``values`` around a circle, interpolated to a lookup table of ``entries`` float32."""
    n = len(values)
    t = np.arange(entries) * (n / entries)
    i = t.astype(int)
    f = t - i
    a, b, c, d = (values[(i + k) % n] for k in (-1, 0, 1, 2))
    cubic = b + 0.5 * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
    return cubic.astype(np.float32)


def wobble(rng: np.random.Generator, points: int, roughness: float) -> Array:
    """Factors around 1 for the radii of a :func:`blob`: ``(points,)``, never below 0.2."""
    return np.maximum(1 + roughness * rng.standard_normal(points), 0.2)


def polygon(g: Grid, points: Sequence[Point]) -> Array:
    """Signed distance to a closed polygon. Cost grows with pixels × corners."""
    corners = np.asarray(points, dtype=np.float32)
    inside = np.zeros(g.x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > g.y) != (y1 > g.y)
            inside ^= crosses & (g.x < (x1 - x0) * (g.y - y0) / (y1 - y0) + x0)
    distance = polyline(g, [*points, points[0]], 0.0)
    return np.where(inside, -distance, distance)


def polyline(g: Grid, points: Sequence[Point], width: float | Sequence[float]) -> Array:
    """Distance to a ribbon along ``points``.

    Args:
        g: Coordinates.
        points: At least two corners.
        width: Full width, one for all or one for each point.
    """
    corners = np.asarray(points, dtype=np.float32)
    widths = np.broadcast_to(np.asarray(width, dtype=np.float32), len(corners))
    best = np.full(g.x.shape, np.inf, dtype=np.float32)
    for i in range(len(corners) - 1):
        ax, ay = corners[i]
        ex, ey = corners[i + 1] - corners[i]
        px, py = g.x - ax, g.y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey + np.float32(1e-9)), 0, 1)
        half = widths[i] / 2 + along * (widths[i + 1] - widths[i]) / 2
        best = np.minimum(best, np.hypot(px - along * ex, py - along * ey) - half)
    return best


def fill(distance: Array, edge: float = 0.0, pixel: float = 2 / 64) -> Array:
    """Mask of a shape: 1 inside, 0 outside, a smooth step of width ``edge`` across the outline.

    Args:
        distance: Signed distance, negative inside.
        edge: Full width of the transition in scene units; never narrower than a pixel.
        pixel: ``Grid.pixel``, for antialiasing.
    """
    t = np.clip(np.float32(0.5) - distance / np.float32(max(edge, pixel)), 0, 1)
    return t * t * (3 - 2 * t)


def strokes(
    size: int,
    paths: Iterable[tuple[Sequence[Point] | Array, float | Sequence[float] | Array]],
    supersample: int = 4,
) -> Array:
    """Mask of many thin curves, by rasterising at ``supersample`` times the size.

    Far cheaper than :func:`polyline` where there are many segments (vessels, hair, fibres).

    Args:
        size: Side of the frame in pixels.
        paths: ``(points, width)`` in frame units; a width for all, or one for each point.
        supersample: Raster cells for each pixel and axis.
    """
    side = size * supersample
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for points, width in paths:
        corners = (np.asarray(points, dtype=np.float64) + 1) * (side / 2)
        widths = np.broadcast_to(np.asarray(width, dtype=np.float64), len(corners)) * (side / 2)
        for (x0, y0), (x1, y1), w in zip(corners[:-1], corners[1:], widths[:-1], strict=True):
            pen.line((x0, y0, x1, y1), fill=255, width=max(1, round(w)))
            if w > 3:  # round joints, which thick segments need
                pen.ellipse((x1 - w / 2, y1 - w / 2, x1 + w / 2, y1 + w / 2), fill=255)
    return np.asarray(image.reduce(supersample), dtype=np.float32) / 255


def curve(points: Sequence[Point], samples: int = 12) -> Array:
    """A smooth curve (quadratic or cubic Bézier) as ``(samples, 2)``; 3 or 4 control points."""
    t = np.arange(samples)[:, None] / (samples - 1)
    p = np.asarray(points, dtype=np.float64)
    if len(p) == 3:
        return (1 - t) ** 2 * p[0] + 2 * t * (1 - t) * p[1] + t**2 * p[2]
    rest = 1 - t
    return rest**3 * p[0] + 3 * rest**2 * t * p[1] + 3 * rest * t**2 * p[2] + t**3 * p[3]


# -- random fields --------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _spline_basis(size: int, cells: int) -> Array:
    """``(size, cells + 3)`` cubic B-spline weights of pixel centres on a grid of knots."""
    t = (np.arange(size) + 0.5) / size * cells
    i = np.minimum(t.astype(int), cells - 1)
    f = t - i
    weights = (
        (1 - f) ** 3 / 6,
        (3 * f**3 - 6 * f**2 + 4) / 6,
        (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
        f**3 / 6,
    )
    basis = np.zeros((size, cells + 3), dtype=np.float32)
    for k, w in enumerate(weights):
        basis[np.arange(size), i + k] = w
    basis.flags.writeable = False
    return basis


def smooth_noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> Array:
    """Smooth Gaussian field, mean about 0 and standard deviation about 1.

    Args:
        rng: Consumes the same numbers whatever ``size`` is.
        size: Side of the frame in pixels.
        cells: Bumps along each axis, or along (y, x).
    """
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    knots = rng.standard_normal((rows + 3, columns + 3), dtype=np.float32)
    # 0.47 is the gain in standard deviation of the spline along one axis, averaged over phases.
    return _spline_basis(size, rows) @ (knots / np.float32(0.47)) @ _spline_basis(size, columns).T


def fractal_noise(
    rng: np.random.Generator, size: int, cells: int, octaves: int = 3, decay: float = 0.5
) -> Array:
    """Sum of :func:`smooth_noise` at doubling frequencies; standard deviation about 1."""
    total = np.zeros((size, size), dtype=np.float32)
    power = 0.0
    for k in range(octaves):
        total += np.float32(decay**k) * smooth_noise(rng, size, cells * 2**k)
        power += decay ** (2 * k)
    return total / np.float32(np.sqrt(power))


def sensor_noise(canvas: Array, rng: np.random.Generator, sigma: float) -> Array:
    """``canvas`` with white noise of standard deviation ``sigma`` in every pixel and channel."""
    return canvas + np.float32(sigma) * rng.standard_normal(canvas.shape, dtype=np.float32)


# -- composition ----------------------------------------------------------------------------------


def blend(canvas: Array, colour: float | Sequence[float] | Array, mask: Array) -> Array:
    """``canvas`` covered by ``colour`` (a value, an RGB triple or an image) where ``mask`` is 1."""
    if canvas.ndim == 3 and mask.ndim == 2:
        mask = mask[..., None]
    return canvas + (np.asarray(colour, dtype=np.float32) - canvas) * mask


def illumination(g: Grid, angle: float, strength: float) -> Array:
    """Multiplicative light falling off across the frame: 1 ± ``strength`` from edge to edge."""
    ramp = g.x * np.float32(np.cos(angle)) + g.y * np.float32(np.sin(angle))
    return 1 + np.float32(strength) * ramp


def vignette(g: Grid, strength: float) -> Array:
    """Multiplicative darkening with the square of the distance from the centre of the frame."""
    return 1 - np.float32(strength / 2) * (g.x * g.x + g.y * g.y)


def blur(canvas: Array, radius: float) -> Array:
    """Gaussian blur with a standard deviation of ``radius`` scene units."""
    sigma = radius * canvas.shape[0] / 2
    if sigma < 0.1:
        return canvas
    axes = (sigma, sigma, 0) if canvas.ndim == 3 else sigma
    return ndimage.gaussian_filter(canvas, axes, mode="nearest", truncate=3)


def to_rgb8(canvas: Array) -> Array:
    """Canvas in [0, 1], grey or RGB, as ``(size, size, 3)`` uint8; values outside are clipped."""
    pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return pixels
