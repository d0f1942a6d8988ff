"""The inner loops of SSIM, compiled.

A pair costs one product and one 7×7 box filter: running sums down the columns, seven of them added
along the row, and the weighted sum, all in two row buffers. Images are walked in strips of rows,
and several queries share the strip of the other image that lies in the cache, since at 256×256
fetching the images takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

#: Side of the window (scikit-image's default).
WINDOW = 7
_BORDER = WINDOW - 1


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, and keep the machine code on disk where there is a place for it."""
    options: dict[str, Any] = {
        "nogil": True,
        # Sums may be reordered, to run in vector registers; NaN and infinity keep their meaning.
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
        # The other model tests every divisor for zero, which keeps loops out of vector registers.
        "error_model": "numpy",
    }
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return njit(**options)(function)


@_compiled
def prepare(image, centre, scale, shift, strips, tiles, pixels, means, variances, ranges):  # type: ignore[no-untyped-def]
    """What a pair needs of one image alone; see :class:`cas_metric.copies.ssim.Moments`.

    Args:
        image: ``(H, W)`` float64, less its mean, so that nothing cancels.
        centre: That mean.
        scale: Factor of the means; that of the pixels is a seventh of it.
        shift: Added to the variances.
        strips: ``(S + 1,)`` edges of the strips in rows of positions.
        tiles: ``(T + 1,)`` edges of the tiles in columns of positions.
        pixels: ``(H, W)``, overwritten.
        means: ``(P, Q)``, overwritten.
        variances: ``(P, Q)``, overwritten.
        ranges: ``(4, S, T)``, overwritten.
    """
    height, width = image.shape
    count = WINDOW * WINDOW
    first, second = np.empty(width), np.empty(width)
    ranges[0::2] = np.inf
    ranges[1::2] = -np.inf
    for row in range(height):
        for column in range(width):
            pixels[row, column] = image[row, column] * (scale / WINDOW)
    for strip in range(len(strips) - 1):
        for row in range(strips[strip], strips[strip + 1]):
            for column in range(width):
                s, t = 0.0, 0.0
                for below in range(WINDOW):
                    value = image[row + below, column]
                    s += value
                    t += value * value
                first[column], second[column] = s, t
            for tile in range(len(tiles) - 1):
                ends = ranges[:, strip, tile]
                for column in range(tiles[tile], tiles[tile + 1]):
                    s, t = 0.0, 0.0
                    for right in range(WINDOW):
                        s += first[column + right]
                        t += second[column + right]
                    mean = s / count
                    variance = max(t - s * mean, 0.0) / (count - 1)
                    means[row, column] = mean * scale
                    variances[row, column] = variance + shift
                    deviation = np.sqrt(variance)
                    ends[0] = min(ends[0], mean + centre)
                    ends[1] = max(ends[1], mean + centre)
                    ends[2] = min(ends[2], deviation)
                    ends[3] = max(ends[3], deviation)


@_compiled
def _strip_sum(x, y, u, w, v, z, centres, k, top, bottom, columns, sums):  # type: ignore[no-untyped-def]
    """Sum of the similarity over the window positions of rows ``top`` to ``bottom``.

    Args:
        x: ``(H, W)`` scaled pixels of one image.
        y: The same of the other.
        u: ``(P, Q)`` scaled local means of one.
        w: The same of the other.
        v: ``(P, Q)`` local variances plus C2/2 of one.
        z: The same of the other.
        centres: Scaled values that were subtracted from the two images.
        k: Scaled C1, and C2.
        top: First row of positions.
        bottom: One past the last.
        columns: ``(W,)`` buffer.
        sums: ``(W,)`` buffer.
    """
    width = x.shape[1]
    columns[:] = 0
    for row in range(top, top + _BORDER):
        for c in range(width):
            columns[c] += x[row, c] * y[row, c]
    total = 0.0
    for row in range(top, bottom):
        xa, ya, xb, yb = x[row + _BORDER], y[row + _BORDER], x[row], y[row]
        ur, wr, vr, zr = u[row], w[row], v[row], z[row]
        for c in range(width):
            columns[c] += xa[c] * ya[c]
        for c in range(width - _BORDER):
            sums[c] = ((columns[c] + columns[c + 1]) + (columns[c + 2] + columns[c + 3])) + (
                (columns[c + 4] + columns[c + 5]) + columns[c + 6]
            )
        line = columns.dtype.type(0)
        for c in range(width - _BORDER):
            one, other = ur[c] + centres[0], wr[c] + centres[1]
            line += ((one * other + one * other + k[0]) * (sums[c] - ur[c] * wr[c] + k[1])) / (
                (one * one + other * other + k[0]) * (vr[c] + zr[c])
            )
        total += line
        for c in range(width):
            columns[c] -= xb[c] * yb[c]
    return total


@_compiled
def strip_bounds(one, other, weights, k, bounds):  # type: ignore[no-untyped-def]
    """What the sum over each strip cannot exceed.

    Args:
        one: ``(4, S, T)`` least and greatest local mean, then deviation, in each tile of one image.
        other: The same of the other image.
        weights: ``(S, T)`` window positions of a tile.
        k: C1 and C2.
        bounds: ``(S,)``, overwritten.
    """
    for s in range(weights.shape[0]):
        total = k.dtype.type(0)
        for t in range(weights.shape[1]):
            share = weights[s, t]
            for kind in range(2):
                low, high = one[2 * kind, s, t], one[2 * kind + 1, s, t]
                other_low, other_high = other[2 * kind, s, t], other[2 * kind + 1, s, t]
                # The ends of the two ranges that lie closest; equal where the ranges overlap.
                a = min(max(other_low, low), high)
                b = min(max(a, other_low), other_high)
                share *= (a * b + a * b + k[kind]) / (a * a + b * b + k[kind])
            total += share
        bounds[s] = total


@_compiled
def evaluate_block(one, other, strips, k, weights, plain_k, limits, out):  # type: ignore[no-untyped-def]
    """Sums of the similarity over all positions, for every pair of two small blocks of images.

    A pair is given up, and its sum set to minus infinity, as soon as the strips that were summed
    and the bounds of the others together lie below the limit of its query.

    Args:
        one: Pixels, means, variances, centres and ranges of ``n`` queries.
        other: The same of ``m`` others.
        strips: ``(S + 1,)`` edges of the strips in rows of positions.
        k: Scaled C1, and C2, in the type of the pixels.
        weights: ``(S, T)`` window positions of a tile.
        plain_k: C1 and C2, float32.
        limits: ``(n,)`` minus infinity where nothing may be given up.
        out: ``(n, m)`` float64, overwritten.

    Returns:
        The number of strips that were summed.
    """
    x, u, v, x_centres, x_ranges = one
    y, w, z, y_centres, y_ranges = other
    count = len(strips) - 1
    columns, sums = np.empty(x.shape[2], x.dtype), np.empty(x.shape[2], x.dtype)
    centres = np.empty(2, x.dtype)
    rest = np.zeros((len(x), len(y), count + 1), np.float32)
    summed = 0
    out[:] = 0
    for i in range(len(x)):
        if limits[i] == -np.inf:
            continue
        for j in range(len(y)):
            strip_bounds(x_ranges[i], y_ranges[j], weights, plain_k, rest[i, j, :count])
            for s in range(count - 1, -1, -1):
                rest[i, j, s] += rest[i, j, s + 1]
            if rest[i, j, 0] < limits[i]:
                out[i, j] = -np.inf
    for s in range(count):
        for j in range(len(y)):
            for i in range(len(x)):
                if out[i, j] == -np.inf:
                    continue
                centres[0], centres[1] = x_centres[i], y_centres[j]
                out[i, j] += _strip_sum(
                    x[i], y[j], u[i], w[j], v[i], z[j], centres, k,
                    strips[s], strips[s + 1], columns, sums,
                )  # fmt: skip
                summed += 1
                if out[i, j] + rest[i, j, s + 1] < limits[i]:
                    out[i, j] = -np.inf
    return summed
