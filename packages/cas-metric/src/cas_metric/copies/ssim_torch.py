"""SSIM of many pairs on an accelerator; the definition of :mod:`cas_metric.copies.ssim`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cas_metric.copies.ssim import K1, K2
from cas_metric.copies.ssim_kernel import WINDOW

#: Pixels of the pairs that are evaluated at once: 1 GB a temporary in float32.
_PIXELS_TOGETHER: Final = 256_000_000
_UNBIASED: Final = WINDOW**2 / (WINDOW**2 - 1)


class _Prepared(NamedTuple):
    """Centred pixels ``(N, H, W)``, their centres ``(N,)``, local means and variances."""

    pixels: Tensor
    centres: Tensor
    means: Tensor
    variances: Tensor


def similarities(
    queries: NDArray[Any], others: NDArray[Any], *, data_range: float = 255.0, device: str
) -> NDArray[np.float32]:
    """SSIM of every query ``(N, H, W)`` with every other ``(M, H, W)``: ``(N, M)``, float32.

    Args:
        queries: Grey images, not negative.
        others: Images of the same size.
        data_range: Range of the intensities.
        device: Torch device.
    """
    constants = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    many = _prepare(others, device)
    step = max(1, _PIXELS_TOGETHER // int(np.prod(queries.shape[1:])))
    table = np.empty((len(queries), len(others)), np.float32)
    with torch.inference_mode():
        for i in range(len(queries)):
            one = _prepare(queries[i : i + 1], device)
            parts = [
                _similarity(one, _Prepared(*(v[start : start + step] for v in many)), constants)
                for start in range(0, len(others), step)
            ]
            table[i] = torch.cat(parts).cpu().numpy()
    return table


def _prepare(images: NDArray[Any], device: str) -> _Prepared:
    """Moments in float64, then float32: variances must not cancel."""
    pixels = torch.as_tensor(np.ascontiguousarray(images), device=device).double()
    centres = pixels.mean((1, 2))
    pixels = pixels - centres[:, None, None]
    means = _window_means(pixels)
    variances = _UNBIASED * (_window_means(pixels * pixels) - means * means).clamp(min=0)
    return _Prepared(*(v.float() for v in (pixels, centres, means, variances)))


def _similarity(one: _Prepared, many: _Prepared, constants: tuple[float, float]) -> Tensor:
    """SSIM of one image with each of ``(M, H, W)``: ``(M,)``."""
    c1, c2 = constants
    covariance = _UNBIASED * (_window_means(one.pixels * many.pixels) - one.means * many.means)
    mean = one.means + one.centres[:, None, None]
    other = many.means + many.centres[:, None, None]
    luminance = (2 * mean * other + c1) / (mean * mean + other * other + c1)
    structure = (2 * covariance + c2) / (one.variances + many.variances + c2)
    return (luminance * structure).mean((1, 2))


def _window_means(values: Tensor) -> Tensor:
    """Means of all 7×7 windows of ``(N, H, W)``: ``(N, H - 6, W - 6)``."""
    return F.avg_pool2d(values[:, None], WINDOW, stride=1)[:, 0]
