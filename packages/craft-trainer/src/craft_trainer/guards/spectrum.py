"""What collapse looks like in the frequencies of an image: noise, and peaks at the cells of a grid.

Shapes: ``(B, 3, S, S)`` images in [0, 1].
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

#: Frequencies on each side that a peak is compared with.
_NEIGHBOURS: Final = 3
#: Keeps the ratio finite where a drawing has no power at all.
_SMALLEST: Final = 1e-12


def high_frequencies(images: Tensor) -> Tensor:
    """Share of the power of the grey image, its mean left out, above half the Nyquist frequency.

    Photographs have a few hundredths there, white noise 1 − π/16 = 0.80. A Hann window keeps the
    jump between opposite borders out of it.

    Returns:
        Scalar in [0, 1], the mean over the batch.
    """
    grey = images.float().mean(dim=1)
    side = grey.shape[-1]
    window = torch.hann_window(side, periodic=False, device=grey.device)
    weights = window[:, None] * window
    centred = grey - (grey * weights).sum(dim=(1, 2), keepdim=True) / weights.sum()
    power = torch.fft.fft2(centred * weights).abs().square()
    frequency = torch.fft.fftfreq(side, device=grey.device)
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    high = power[:, radius > 0.25].sum(dim=1)
    return (high / power.sum(dim=(1, 2)).clamp(min=_SMALLEST)).mean()


def grid_peak(images: Tensor, cells: int) -> Tensor:
    """How far a pattern of ``cells`` equal cells a side stands out of the spectrum, in decibel.

    Power along rows and along columns, averaged over the images, at the frequency of the cells
    and its harmonics, over the median of the frequencies beside it. Differences of neighbouring
    pixels are taken first: they flatten the steep spectrum of natural images.

    Args:
        images: ``(B, 3, S, S)``.
        cells: Cells a side, e.g. S / 8 for the latents of Stable Diffusion; at most S / 2.

    Returns:
        Scalar; the largest over harmonics and directions. About 0 to 3 without a grid.
    """
    grey = images.float().mean(dim=1)
    found = [_peaks(grey, cells), _peaks(grey.mT, cells)]
    return torch.cat(found).max()


def _peaks(grey: Tensor, cells: int) -> Tensor:
    """Decibels of every harmonic of ``cells`` along the last axis of ``(B, S, S)``."""
    differences = grey - grey.roll(1, dims=-1)
    # The one difference across the border says nothing about the picture.
    differences[..., 0] = 0
    power = torch.fft.rfft(differences, dim=-1).abs().square().mean(dim=(0, 1))
    levels = []
    for peak in range(cells, len(power), cells):
        beside = [
            power[at]
            for at in range(peak - _NEIGHBOURS, peak + _NEIGHBOURS + 1)
            if at != peak and 0 < at < len(power) and at % cells
        ]
        usual = torch.stack(beside or [power[peak]]).median()
        levels.append(10 * torch.log10((power[peak] + _SMALLEST) / (usual + _SMALLEST)))
    return torch.stack(levels) if levels else torch.zeros(1, device=grey.device)
