"""What a batch of images in memory must be before anything is computed from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

#: How far resizing or half precision may lead out of [0, 1].
_ROUNDING: Final = 1e-2


def require_unit_range(images: Tensor) -> None:
    """Refuse what is not ``(B, 3, H, W)`` floating-point RGB in [0, 1]: numbers of it mean nothing.

    Raises:
        InputError: Names what was found, and how to convert it.

    Examples:
        >>> import torch
        >>> require_unit_range(torch.zeros(1, 3, 8, 8))
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise InputError(
            f"images of shape {tuple(images.shape)}", fix="give (B, 3, H, W): RGB, channels first"
        )
    if not images.is_floating_point():
        raise InputError(
            f"images of {images.dtype}, where values in [0, 1] are meant",
            fix="divide 8-bit images by 255: images.float() / 255",
        )
    values = images.detach()
    if not bool(values.isfinite().all()):
        raise InputError(
            "images with values that are not numbers (NaN or infinite)",
            fix="look for the step that makes them; half precision overflows in some decoders",
        )
    low, high = float(values.min()), float(values.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        fix = "clamp them: images.clamp(0, 1)"
        if low < -0.1 and high <= 1.1:
            fix = "a VAE's output in [-1, 1]: (images / 2 + 0.5).clamp(0, 1)"
        elif high > 2:
            fix = "values up to 255: images / 255"
        raise InputError(f"images in [{low:.3g}, {high:.3g}], where [0, 1] is meant", fix=fix)
