"""Structural similarity (SSIM) of pairs of images.

The definition is scikit-image's default: a uniform 7×7 window, sample covariance, K1 = 0.01,
K2 = 0.03, the mean over the positions whose window lies inside the image. What depends on one
image (local mean and variance) is computed once an image, which leaves one product and one box
filter a pair.

Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
structural similarity" (2004), Eq. 13.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.copies import ssim_kernel as kernel
from cas_metric.copies.ssim_kernel import WINDOW
from cas_metric.errors import InputError

Floats = NDArray[np.float64]

#: scikit-image's defaults.
K1: Final = 0.01
K2: Final = 0.03
#: Largest difference between an evaluation in float32 and one in float64. Rounding weighs most on
#: flat regions far from the image's mean: with a share f of white on black, f(1 - f)·255² times
#: 6e-8 and about 20 roundings, over C2, stays below 4e-4. The tests see 1e-6 on photographs and
#: phantoms, and 6e-5 at most on pictures made to be awkward.
TOLERANCE: Final = 5e-4
#: Rows of window positions that are summed before a pair may be given up.
_STRIP_ROWS: Final = 16
#: Tiles of a strip whose ranges are known.
_TILES: Final = 16


class Moments(NamedTuple):
    """What the similarity needs of each image alone, scaled to save operations.

    Attributes:
        pixels: ``(N, H, W)`` intensities less the image's mean, times sqrt(2c/49), c = 49/48.
        means: ``(N, P, Q)`` local means of the same, times sqrt(2c), at all window positions.
        variances: ``(N, P, Q)`` local sample variance plus C2/2.
        centres: ``(N,)`` the image's mean times sqrt(2c).
        ranges: ``(N, 4, strips, tiles)`` least and greatest local mean, then deviation; float32.
    """

    pixels: Any
    means: Any
    variances: Any
    centres: Any
    ranges: Any

    def part(self, rows: slice) -> Moments:
        """Some of the images."""
        return Moments(*(values[rows] for values in self))


def moments(
    images: NDArray[Any], *, data_range: float = 255.0, dtype: type = np.float32
) -> Moments:
    """Prepare a stack of grey images.

    Args:
        images: ``(N, H, W)``, none of the values negative; H and W at least 7.
        data_range: Range of the intensities.
        dtype: float32, or float64 for parity with scikit-image to the last digits.

    Raises:
        InputError: If the shape or the values cannot be used.
    """
    check(images)
    n, height, width = images.shape
    inner = (n, height - WINDOW + 1, width - WINDOW + 1)
    edges = _edges(inner[1:])
    prepared = Moments(
        pixels=np.empty((n, height, width), dtype),
        means=np.empty(inner, dtype),
        variances=np.empty(inner, dtype),
        centres=np.empty(n, dtype),
        ranges=np.empty((n, 4, len(edges[0]) - 1, len(edges[1]) - 1), np.float32),
    )
    scale = np.sqrt(2 * WINDOW**2 / (WINDOW**2 - 1))
    shift = (K2 * data_range) ** 2 / 2
    for index in range(n):
        image = images[index].astype(np.float64)
        centre = image.mean()
        image -= centre
        prepared.centres[index] = centre * scale
        kernel.prepare(
            image, centre, scale, shift, *edges, prepared.pixels[index], prepared.means[index],
            prepared.variances[index], prepared.ranges[index],
        )  # fmt: skip
    return prepared


def similarities(
    queries: NDArray[Any],
    others: NDArray[Any],
    *,
    data_range: float = 255.0,
    dtype: type = np.float64,
) -> Floats:
    """SSIM of every query ``(N, H, W)`` with every other ``(M, H, W)``: ``(N, M)``."""
    one, other = (moments(x, data_range=data_range, dtype=dtype) for x in (queries, others))
    shape = one.means.shape[1:]
    out = np.empty((len(queries), len(others)))
    Constants.of(shape, data_range, dtype).evaluate(one, other, np.full(len(out), -np.inf), out)
    return out / np.prod(shape)


def paired(left: NDArray[Any], right: NDArray[Any], *, data_range: float = 255.0) -> Floats:
    """SSIM of each image of ``(N, H, W)`` with the one at the same place: ``(N,)``, float64."""

    def one(i: int) -> float:
        return similarities(left[i : i + 1], right[i : i + 1], data_range=data_range)[0, 0]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.fromiter(pool.map(one, range(len(left))), np.float64, len(left))


def upper_bounds(one: Moments, other: Moments, *, data_range: float = 255.0) -> Floats:
    """What SSIM cannot exceed by the ranges alone: ``(N, M)``."""
    shape = one.means.shape[1:]
    constants = Constants.of(shape, data_range, np.float32)
    bounds = np.empty((len(one.pixels), len(other.pixels)))
    strips = np.empty(len(constants.weights), np.float32)
    for i, j in np.ndindex(bounds.shape):
        kernel.strip_bounds(
            one.ranges[i], other.ranges[j], constants.weights, constants.plain_k, strips
        )
        bounds[i, j] = strips.sum(dtype=np.float64)
    return bounds / np.prod(shape)


@dataclass(frozen=True)
class Constants:
    """What does not depend on the images."""

    strips: NDArray[np.int64]
    weights: NDArray[np.float32]
    k: NDArray[Any]
    plain_k: NDArray[np.float32]

    @classmethod
    def of(cls, shape: tuple[int, int], data_range: float, dtype: type) -> Constants:
        """For images with ``shape`` window positions."""
        strips, tiles = _edges(shape)
        c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
        unbiased = WINDOW**2 / (WINDOW**2 - 1)
        return cls(
            strips,
            np.outer(np.diff(strips), np.diff(tiles)).astype(np.float32),
            np.array([2 * unbiased * c1, c2], dtype),
            np.array([c1, c2], np.float32),
        )

    def evaluate(self, one: Moments, other: Moments, limits: Floats, out: Floats) -> int:
        """Fill ``out`` ``(n, m)`` with sums over positions; see :mod:`.ssim_kernel`."""
        fixed = (self.strips, self.k, self.weights, self.plain_k)
        return int(kernel.evaluate_block(tuple(one), tuple(other), *fixed, limits, out))


def check(images: NDArray[Any]) -> None:
    """Refuse a stack whose shape or values SSIM cannot use.

    Raises:
        InputError: Not ``(N, H, W)`` of at least 7 pixels a side, or negative or missing values.
    """
    if images.ndim != 3 or min(images.shape[1:]) < WINDOW:
        raise InputError(
            f"SSIM needs grey images (N, H, W) of at least 7 pixels, not {images.shape}"
        )
    if images.size and not images.min() >= 0:
        raise InputError("SSIM needs intensities that are numbers and not negative")


def _edges(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of the strips and of the tiles of a strip, in window positions."""
    rows, columns = shape
    strips = np.append(np.arange(0, rows, _STRIP_ROWS), rows)
    return strips, np.unique(np.linspace(0, columns, min(_TILES, columns) + 1).astype(np.int64))
