"""What to watch while rewards rise: their gradients, and statistics that nobody rewards.

Optimising a differentiable reward tends to end in repeated textures, saturated colours or one
reward rising at the expense of another. None of this shows in the mean reward.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

#: Grey levels of the histogram whose entropy is taken.
_BINS: Final = 64
#: Frequencies on each side that a peak is compared with.
_NEIGHBOURS: Final = 3
#: Keeps the ratio finite where a drawing has no power at all.
_SMALLEST: Final = 1e-12


def image_statistics(images: Tensor, repeats: int) -> dict[str, Tensor]:
    """Statistics of generated images that no reward asks for.

    Args:
        images: ``(B * repeats, 3, H, W)`` in [0, 1], repeat by repeat.
        repeats: M.

    Returns:
        ``image/edge_density`` (mean absolute difference of neighbouring grey values),
        ``image/entropy`` (bits of the grey histogram, at most 6), ``image/saturation`` (mean of
        the HSV saturation), ``image/clipped`` (share of values at 0 or 1) and, with repeats,
        ``image/diversity`` (mean absolute difference between repeats of one prompt).

    Examples:
        >>> import torch
        >>> found = image_statistics(torch.zeros(2, 3, 16, 16), repeats=2)
        >>> found["image/clipped"].item(), found["image/diversity"].item()
        (1.0, 0.0)
    """
    images = images.float()
    grey = images.mean(dim=1)
    across = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean()
    down = (grey[:, 1:] - grey[:, :-1]).abs().mean()
    high, low = images.amax(dim=1), images.amin(dim=1)
    logs = {
        "image/edge_density": (across + down) / 2,
        "image/entropy": torch.stack([_entropy(one) for one in grey]).mean(),
        "image/saturation": ((high - low) / high.clamp(min=1e-6)).mean(),
        "image/clipped": ((images <= 0) | (images >= 1)).float().mean(),
    }
    if repeats > 1:
        split = images.reshape(repeats, -1, *images.shape[1:])
        logs["image/diversity"] = (split - split.mean(dim=0)).abs().mean()
    return logs


def _entropy(grey: Tensor) -> Tensor:
    counts = torch.histc(grey, bins=_BINS, min=0.0, max=1.0)
    shares = counts[counts > 0] / counts.sum()
    return -(shares * shares.log2()).sum()


def reward_gradients(terms: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """Norm of each reward's gradient with respect to the images, and their pairwise cosines.

    The gradient at the image is what every parameter's gradient is a linear function of, and it
    costs a backward pass through the critic only. The graph is kept.

    Args:
        terms: Reward name to ``(B,)``.
        images: ``(B, 3, H, W)`` that they were computed from.

    Examples:
        >>> import torch
        >>> images = torch.rand(1, 3, 8, 8, requires_grad=True)
        >>> mean = images.mean(dim=(1, 2, 3))
        >>> found = reward_gradients({"vdc": mean, "sfs": -mean}, images)
        >>> {name: round(value.item(), 2) for name, value in found.items() if "cos" in name}
        {'reward_gradient/cosine_vdc_sfs': -1.0}
    """
    return gradient_logs(image_gradients(terms, images, len(images)))


def image_gradients(terms: Mapping[str, Tensor], images: Tensor, count: int) -> dict[str, Tensor]:
    """``(B, 3, H, W)`` gradient of each reward's mean over ``count`` images; the graph is kept."""
    return {
        name: torch.autograd.grad(value.sum() / count, images, retain_graph=True)[0]
        for name, value in terms.items()
    }


def gradient_logs(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Norm of each reward's gradient, and their pairwise cosines."""
    gradients = {name: value.flatten() for name, value in gradients.items()}
    logs = {f"reward_gradient/norm_{name}": value.norm() for name, value in gradients.items()}
    for left, right in itertools.combinations(gradients, 2):
        logs[f"reward_gradient/cosine_{left}_{right}"] = torch.cosine_similarity(
            gradients[left], gradients[right], dim=0
        )
    return logs


def high_frequencies(images: Tensor) -> Tensor:
    """Share of the power of the grey image, its mean left out, above half the Nyquist frequency.

    Photographs have a few hundredths there, white noise 1 − π/16 = 0.80. A Hann window keeps the
    jump between opposite borders out of it.

    Returns:
        Scalar in [0, 1], the mean over the batch.

    Examples:
        >>> import torch
        >>> noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> round(high_frequencies(noise).item(), 1)
        0.8
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
    share: Tensor = high / power.sum(dim=(1, 2)).clamp(min=_SMALLEST)
    return share.mean()


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

    Examples:
        >>> import torch
        >>> flat = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> tiled = flat + 0.5 * (torch.arange(64) % 8 < 1)  # a line every eight pixels
        >>> (grid_peak(tiled, 8) > grid_peak(flat, 8) + 3).item()
        True
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
