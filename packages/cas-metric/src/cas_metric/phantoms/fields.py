"""Many small things at once: spots, line segments and cell mosaics as fields over the frame.

Skin lesions come in dozens and tissue consists of cells. Instead of drawing one after another,
each pixel is given its nearest spot, segment or cell and its position relative to it; what is then
drawn is a function of those fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from cas_metric.phantoms.draw import Array, Grid


class Spots(NamedTuple):
    """The nearest of many spots, at every pixel; all ``(size, size)``.

    Attributes:
        u: Offset from its centre along its long axis, in its radii.
        v: Offset across, in its radii.
        rho: Distance in radii: 1 on the outline.
        which: Which spot it is.
        radius: Its radius in scene units.
    """

    u: Array
    v: Array
    rho: Array
    which: Array
    radius: Array

    @property
    def outline(self) -> Array:
        """Signed distance to the nearest outline in scene units."""
        return (self.rho - 1) * self.radius

    @property
    def dome(self) -> Array:
        """Height of a hemisphere on each spot, in its radii: 1 in the middle, 0 outside."""
        return np.sqrt(np.clip(1 - self.rho * self.rho, 0, 1))


def spots(
    g: Grid,
    centres: Array,
    radii: Array,
    *,
    angles: Array | float = 0.0,
    aspect: Array | float = 1.0,
) -> Spots:
    """Field of the nearest of ``N`` ellipses.

    Args:
        g: Coordinates.
        centres: ``(N, 2)``.
        radii: ``(N,)`` geometric means of the half-axes.
        angles: Clockwise rotation of each long axis in radians.
        aspect: Long over short axis of each.
    """
    n = len(centres)
    shape = (n, 1, 1)
    cx, cy = np.asarray(centres, dtype=np.float32).T.reshape(2, *shape)
    r = np.asarray(radii, dtype=np.float32).reshape(shape)
    turn = np.broadcast_to(np.asarray(angles, dtype=np.float32), n).reshape(shape)
    stretch = np.sqrt(np.broadcast_to(np.asarray(aspect, dtype=np.float32), n)).reshape(shape)
    dx, dy = g.x - cx, g.y - cy
    cos, sin = np.cos(turn), np.sin(turn)
    u = (dx * cos + dy * sin) / (r * stretch)
    v = (dy * cos - dx * sin) * (stretch / r)
    level = u * u + v * v
    index = level.argmin(axis=0)
    choose = index[None]
    u = np.take_along_axis(u, choose, 0)[0]
    v = np.take_along_axis(v, choose, 0)[0]
    return Spots(u, v, np.sqrt(u * u + v * v), index, r.reshape(n)[index])


class Segments(NamedTuple):
    """The nearest of many line segments, at every pixel; all ``(size, size)``.

    Attributes:
        distance: Signed distance to its ribbon in scene units.
        across: Distance to its midline.
        along: Position from its start (0) to its end (1).
        which: Which segment it is.
    """

    distance: Array
    across: Array
    along: Array
    which: Array


def segments(g: Grid, starts: Array, ends: Array, widths: Array) -> Segments:
    """Field of the nearest of ``N`` tapered ribbons.

    Args:
        g: Coordinates.
        starts: ``(N, 2)``.
        ends: ``(N, 2)``.
        widths: ``(N, 2)`` full widths at start and end.
    """
    shape = (len(starts), 1, 1)
    ax, ay = np.asarray(starts, dtype=np.float32).T.reshape(2, *shape)
    ex, ey = (np.asarray(ends) - np.asarray(starts)).astype(np.float32).T.reshape(2, *shape)
    w0, w1 = (np.asarray(widths, dtype=np.float32).T / 2).reshape(2, *shape)
    px, py = g.x - ax, g.y - ay
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey + np.float32(1e-9)), 0, 1)
    across = np.sqrt((px - along * ex) ** 2 + (py - along * ey) ** 2)
    distance = across - (w0 + along * (w1 - w0))
    index = distance.argmin(axis=0)
    best = [np.take_along_axis(field, index[None], 0)[0] for field in (distance, across, along)]
    return Segments(best[0], best[1], best[2], index)


@dataclass(frozen=True)
class Mosaic:
    """A jittered lattice of ``n`` × ``n`` points over the frame, repeated beyond it.

    Attributes:
        dx: Horizontal offset of each pixel from its nearest point, in scene units.
        dy: Vertical offset.
        which: Which point it is, in ``range(n * n)``.
        wall: Distance to the border with the next cell, in scene units; exact on the border.
    """

    dx: Array
    dy: Array
    which: Array
    wall: Array

    @property
    def distance(self) -> Array:
        """Distance to the nearest point in scene units."""
        return np.hypot(self.dx, self.dy)


_NEIGHBOURS: Final = tuple((j, i) for j in (-1, 0, 1) for i in (-1, 0, 1))


def mosaic(
    rng: np.random.Generator, g: Grid, n: int, *, jitter: float = 0.8, warp: Array | float = 0.0
) -> Mosaic:
    """Cells around a jittered lattice.

    Args:
        rng: Consumes the same numbers whatever the size of the frame.
        g: Coordinates.
        n: Cells along each axis of the frame.
        jitter: 0 for a square lattice, 1 for points anywhere in their square.
        warp: Displacement of the coordinates in scene units, which bends the cells.
    """
    offsets = 0.5 + np.float32(jitter) * (rng.random((n, n, 2), dtype=np.float32) - 0.5)
    scale = np.float32(n / 2)
    u, v = (g.x + warp + 1) * scale, (g.y + warp + 1) * scale
    column, row = np.floor(u), np.floor(v)
    u, v = u - column, v - row  # position within the square, so that neighbours are constants
    home = (row % n * n + column % n).astype(np.intp)
    best_u, best_v, which = np.zeros_like(u), np.zeros_like(v), home
    best = second = np.full_like(u, np.inf)
    numbers = np.arange(n * n).reshape(n, n)
    for j, i in _NEIGHBOURS:
        # What each square finds in its neighbour (j, i), as tables over the home square.
        shifted = np.roll(offsets, (-j, -i), axis=(0, 1)).reshape(-1, 2) + np.array(
            [i, j], dtype=np.float32
        )
        number = np.roll(numbers, (-j, -i), axis=(0, 1)).ravel()
        du, dv = u - shifted[:, 0].take(home), v - shifted[:, 1].take(home)
        level = du * du + dv * dv
        nearer = level < best
        second = np.minimum(second, np.maximum(best, level))
        best_u, best_v = np.where(nearer, du, best_u), np.where(nearer, dv, best_v)
        best = np.minimum(best, level)
        which = np.where(nearer, number.take(home), which)
    wall = (np.sqrt(second) - np.sqrt(best)) / (2 * scale)
    return Mosaic(best_u / scale, best_v / scale, which, wall)


def scatter(
    rng: np.random.Generator, count: int, spread: float, *, aspect: float = 1.0, tries: int = 14
) -> Array:
    """``(count, 2)`` points in an ellipse, spaced out: each is the loneliest of ``tries`` draws.

    The first points stay where they are when ``count`` grows.
    """
    draws = rng.random((count, tries, 2))
    turn, reach = 2 * np.pi * draws[..., 0], np.sqrt(draws[..., 1])
    stretch = np.sqrt(aspect)
    x = spread * stretch * reach * np.cos(turn)
    y = spread / stretch * reach * np.sin(turn)
    candidates = np.stack([x, y], axis=-1)
    chosen = np.empty((count, 2))
    chosen[0] = candidates[0, 0] * 0.5
    for i in range(1, count):
        gaps = ((candidates[i, :, None] - chosen[None, :i]) ** 2).sum(-1).min(1)
        chosen[i] = candidates[i, gaps.argmax()]
    return chosen


def around(rng: np.random.Generator, count: int, reach: float) -> Array:
    """``(count, 2)`` points about evenly spaced on a circle of radius ``reach``; one is central."""
    if count == 1:
        return np.zeros((1, 2))
    turns = 2 * np.pi * (np.arange(count) + rng.uniform(-0.08, 0.08, count)) / count
    turns += rng.uniform(0, 2 * np.pi)
    return reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
