"""From pixels to model input: as the authors of a checkpoint do it, and differentiably.

Scores use the official way, the checkpoint's own image processor on its PIL backend (results of
the torchvision backend depend on its version and device). Rewards use the differentiable way,
which a test holds within a bound of the official one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cas_metric.encoders.memory import digest_of
from cas_metric.errors import InputError
from cas_metric.images import to_uint8

#: PIL's resampling codes, as processors store them, and torch's names.
_INTERPOLATION = {2: "bilinear", 3: "bicubic"}

#: Settings of a processor that say where it came from, not what it does to pixels.
_BOOKKEEPING: Final = ("image_processor_type", "feature_extractor_type", "processor_class")

Geometry = Literal["squash", "crop", "crop-rounded"]


class Pixels(Protocol):
    """A way from pixels to model input; :class:`Preprocessing` is the usual one.

    Attributes:
        size: Side of the square that the model looks at, in pixels.
    """

    @property
    def size(self) -> int:
        """See the class."""
        ...

    def official(self, images: Sequence[np.ndarray]) -> Tensor:
        """``(H, W, 3)`` uint8 arrays, or float in [0, 1], to ``(B, …)`` float32 on the CPU."""
        ...

    def differentiable(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` float in [0, 1] to ``(B, …)`` float32; gradients flow."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the fingerprint records, and ``cas encoders check`` prints."""
        ...


@dataclass(frozen=True)
class Preprocessing:
    """One checkpoint's way from pixels to model input.

    Attributes:
        official_transform: The checkpoint's own transform: PIL images to ``(B, 3, S, S)``.
        size: Side of the model input in pixels.
        geometry: ``squash`` resizes both sides to ``size`` whatever the aspect ratio; ``crop``
            resizes the shortest side to ``shortest_side`` and cuts out the centre, its offset
            rounded down; ``crop-rounded`` rounds the offset to even, as torchvision does on PIL.
        shortest_side: See ``geometry``; equal to ``size`` for ``squash``.
        interpolation: ``bicubic`` or ``bilinear``.
        mean: Of the normalisation, per channel, for values in [0, 1].
        std: Of the normalisation, per channel.
        scale: What a value in [0, 1] is multiplied with before the normalisation: 1 but for
            processors that do not rescale by 1/255.
        quick_start: MedSigLIP's published resize: bilinear without antialiasing, cut to uint8.
        settings: All settings of the checkpoint's own transform, for the fingerprint.
    """

    official_transform: Callable[[list[Image.Image]], Tensor]
    size: int
    geometry: Geometry
    shortest_side: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    quick_start: bool = False
    settings: str = ""

    def official(self, images: Sequence[np.ndarray]) -> Tensor:
        """``(H, W, 3)`` uint8 arrays, or float in [0, 1], to ``(B, 3, S, S)`` float32 on the CPU.

        Float arrays are rounded to 8 bits first, which is what every published pipeline sees.
        """
        arrays = [to_uint8(image) for image in images]
        if self.quick_start:
            arrays = [resize_like_tensorflow(array, self.size) for array in arrays]
        return self.official_transform([Image.fromarray(array) for array in arrays])

    def differentiable(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` float in [0, 1] to ``(B, 3, S, S)`` float32; gradients flow."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"images must be (B, 3, H, W) in [0, 1], not of shape {tuple(images.shape)}"
            )
        resized = F.interpolate(
            images.float(),
            size=self._resized(images.shape[-2], images.shape[-1]),
            mode=self.interpolation,
            align_corners=False,
            antialias=not self.quick_start,
        ).clamp(0.0, 1.0)  # bicubic overshoots; 8-bit pipelines clip it
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return (self._cropped(resized) * self.scale - mean) / std

    def describe(self) -> dict[str, Any]:
        """What the fingerprint records, and ``cas encoders check`` prints."""
        return {
            "size": self.size,
            "geometry": self.geometry,
            "shortest_side": self.shortest_side,
            "interpolation": self.interpolation,
            "antialias": not self.quick_start,
            "resize": "tensorflow, cut to uint8" if self.quick_start else "pil",
            "mean": list(self.mean),
            "std": list(self.std),
            "scale": self.scale,
            "settings": self.settings,
        }

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.geometry == "squash":
            return self.size, self.size
        side = self.shortest_side
        if height <= width:
            return side, int(side * width / height)
        return int(side * height / width), side

    def _cropped(self, images: Tensor) -> Tensor:
        whole = round if self.geometry == "crop-rounded" else int
        top = whole((images.shape[-2] - self.size) / 2)
        left = whole((images.shape[-1] - self.size) / 2)
        return images[..., top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class HubTransform:
    """An image processor of transformers as a transform; picklable, for worker processes.

    After the resize a processor treats every level of every channel by itself. What it makes of
    the 256 levels is asked of it once and looked up from then on: the same bits in less time.
    """

    processor: Any

    def __call__(self, images: list[Image.Image]) -> Tensor:
        """PIL images to ``(B, 3, S, S)`` float32."""
        if self._levels is None:
            return self._whole(images)
        return self._looked_up(images, self._levels)

    def _whole(self, images: list[Image.Image], **options: Any) -> Tensor:
        return self.processor(images=images, return_tensors="pt", **options)["pixel_values"]

    def _looked_up(self, images: list[Image.Image], levels: np.ndarray) -> Tensor:
        pixels = self._whole(images, do_rescale=False, do_normalize=False).numpy()
        made = np.empty(pixels.shape, np.float32)
        for channel, row in enumerate(levels):
            np.take(row, pixels[:, channel], out=made[:, channel])
        return torch.from_numpy(made)

    @cached_property
    def _levels(self) -> np.ndarray | None:
        """``(3, 256)`` what becomes of each level; None where looking up gives other bits."""
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        probe = [Image.fromarray(noise)]
        try:
            ramp = self._whole([Image.fromarray(grey)], do_resize=False, do_center_crop=False)
            levels = ramp.numpy().reshape(3, 256)
            same = torch.equal(self._looked_up(probe, levels), self._whole(probe))
        except (TypeError, ValueError, IndexError):  # a processor with further steps of its own
            return None
        return levels if same else None


def from_processor(
    processor: Any,
    *,
    model_size: int | None = None,
    quick_start: bool = False,
    full_frame: bool = False,
) -> Preprocessing:
    """Read a :class:`Preprocessing` off a transformers image processor.

    Args:
        processor: As ``AutoImageProcessor`` loads it on the PIL backend.
        model_size: Side of the only input that the model takes, where it takes but one.
        quick_start: Replace its resize by MedSigLIP's published one.
        full_frame: Squash the whole frame to the processor's crop size where it would crop.

    Raises:
        InputError: The processor resizes in a way that no supported family does, or to another
            size than the model takes.
    """
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    crops = bool(getattr(processor, "do_center_crop", False))
    if crops and full_frame:
        size, crops = crop, False
        processor.size, processor.do_center_crop = crop, False
    frame = crop if crops else size
    side = int(frame.get("height") or 0)
    shortest = int(size.get("shortest_edge") or 0) if crops else side
    if side == 0 or side != frame.get("width") or shortest < side:
        raise InputError(
            f"the image processor resizes to {size}, crop {crop}: not a square model input",
            fix="check preprocessor_config.json: size height and width, or shortest_edge and "
            "a crop_size within it",
        )
    if model_size is not None and side != model_size:
        raise InputError(
            f"the image processor makes {side}-pixel inputs, the model takes {model_size}",
            fix="take config.json and preprocessor_config.json from the same checkpoint",
        )
    if processor.resample not in _INTERPOLATION or not processor.do_resize:
        raise InputError(
            f"the image processor resamples by PIL filter {processor.resample}, "
            f"do_resize {processor.do_resize}: not supported",
            fix="check preprocessor_config.json: do_resize true, resample 2 or 3",
        )
    return Preprocessing(
        official_transform=HubTransform(processor),
        size=side,
        geometry="crop" if crops else "squash",
        shortest_side=shortest,
        interpolation="bilinear" if quick_start else _INTERPOLATION[int(processor.resample)],
        **normalisation(processor),
        quick_start=quick_start,
        settings=settings_digest(processor),
    )


def normalisation(processor: Any) -> dict[str, Any]:
    """Scale, mean and standard deviation that a processor of transformers applies."""
    normalises = bool(processor.do_normalize)
    return {
        "scale": 255.0 * processor.rescale_factor if processor.do_rescale else 255.0,
        "mean": tuple(processor.image_mean) if normalises else (0.0,) * 3,
        "std": tuple(processor.image_std) if normalises else (1.0,) * 3,
    }


def settings_digest(processor: Any) -> str:
    """sha256 of every setting of a processor: none that decides pixels can be forgotten."""
    settings = processor.to_dict()
    kept = {key: value for key, value in settings.items() if key not in _BOOKKEEPING}
    return digest_of(json.loads(json.dumps(kept, default=str)))


def resize_like_tensorflow(image: np.ndarray, size: int) -> np.ndarray:
    """``tf.image.resize(image, [size, size], "bilinear", antialias=False)``, cut to uint8.

    MedSigLIP's model card resizes like this. The order of the operations is that of TensorFlow's
    kernel: because the result is cut, not rounded, a weighted sum that lands a hair below an
    integer would lose a grey level.

    Args:
        image: ``(H, W, 3)`` uint8.
        size: Side of the result.

    Returns:
        ``(size, size, 3)`` uint8.
    """
    top, bottom, down = _neighbours(image.shape[0], size)
    left, right, along = _neighbours(image.shape[1], size)
    along, down = along[None, :, None], down[:, None, None]
    pixels = image.astype(np.float32)

    def blend_columns(rows: np.ndarray) -> np.ndarray:
        return rows[:, left] + (rows[:, right] - rows[:, left]) * along

    upper, lower = blend_columns(pixels[top]), blend_columns(pixels[bottom])
    return (upper + (lower - upper) * down).astype(np.uint8)


def _neighbours(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper source index and the weight of the upper, half-pixel centres."""
    scale = np.float32(length) / np.float32(size)
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(position), length - 1).astype(np.int64)
    return lower, upper, position - floor
