"""Feature spaces in which published set distances are defined, beside the encoders themselves.

* ``inception:FILE``: Inception-v3 with the weights of the original FID, from a local file;
  the Fréchet distance is then the FID (Heusel et al. 2017), resized as TensorFlow 1 did.
* ``chexgenbench``, or ``chexgenbench:SPEC`` for a local copy of RAD-DINO: the images go through
  299 x 299 pixels first, as CheXGenBench's RadDino-FID has them.

Any other encoder with raw features: on DINOv2 ViT-L/14 (``facebook/dinov2-large``) the Fréchet
distance is the FD-DINOv2 of Stein et al. (2023).
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from cas_metric.errors import InputError, MissingDependency, ModelUnavailable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cas_metric.encoders import Encoder

INCEPTION: Final = "inception:"
CHEXGENBENCH: Final = "chexgenbench"
_SIDE: Final = 299
_HOW: Final = (
    "weights-inception-2015-12-05-6726825d.pth as torch-fidelity publishes it, or "
    "pt_inception-2015-12-05-6726825d.pth as pytorch-fid does; .safetensors with the same names"
)


def open_space(spec: str, *, device: str, offline: bool) -> Encoder | None:
    """The space of that name; None where the name is not one of this module's.

    Args:
        spec: ``inception:FILE``, ``chexgenbench`` or ``chexgenbench:SPEC``.
        device: ``auto`` or a torch device.
        offline: Never use the network.

    Raises:
        ModelUnavailable: No such file, or the encoder cannot be had.
        InputError: The file does not hold these weights.
        MissingDependency: Inception without torch-fidelity.
    """
    if spec.startswith(INCEPTION):
        path = Path(spec.removeprefix(INCEPTION)).expanduser()
        return cast("Encoder", Inception(path, device))  # of images alone
    name, _, own = spec.partition(":")
    if name != CHEXGENBENCH:
        return None
    from cas_metric.encoders import open_encoder

    opened = open_encoder(own or "rad-dino", device=device, offline=offline, raw=True)
    return cast("Encoder", Resized(opened))


class _ImagesOnly(ABC):
    """What an encoder without texts has in common with the others."""

    name: str
    revision = "local"
    fingerprint: str
    dim: int
    image_size: int
    token_limit = 0
    dtype = "float32"
    text_policy = ""
    device: Any

    def embed_texts(self, texts: Sequence[str]) -> Any:
        """Refused: there is no text tower."""
        raise InputError(f"{self.name} embeds images only")

    count_tokens = embed_texts

    def show_tokens(self, text: str) -> list[str]:
        """Refused: there is no text tower."""
        raise InputError(f"{self.name} embeds images only")

    def preprocess(self, images: Tensor) -> Tensor:
        """Refused: these spaces measure, they do not reward."""
        raise InputError(f"{self.name} is for measuring, it has no differentiable preprocessing")

    @abstractmethod
    def official_preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """See :meth:`cas_metric.encoders.Encoder.official_preprocess`."""

    @abstractmethod
    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """See :meth:`cas_metric.encoders.Encoder.embed_pixels`; not normalised."""

    def embed_images(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1], rounded to 8 bits, to ``(B, D)`` raw features."""
        pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return self.embed_pixels(self.official_preprocess(list(pixels)))


class Inception(_ImagesOnly):
    """Inception-v3 of the original FID: 2048 pooled features. The network is torch-fidelity's.

    Args:
        path: ``.safetensors``, or a ``.pth`` as torch-fidelity and pytorch-fid publish it.
        device: ``auto`` or a torch device.
    """

    dim = 2048
    image_size = _SIDE

    def __init__(self, path: Path, device: str) -> None:
        from cas_metric.encoders.devices import find_device
        from cas_metric.encoders.memory import digest_file, digest_of

        network = _inception(_state(path), path)
        import torch

        self.name = f"{INCEPTION}{path.name}"
        self.device = torch.device(find_device(device).name)
        self.fingerprint = digest_of({"inception-2015-12-05": digest_file(path)})
        # The layers stand in the order in which they are passed, the classifier last.
        layers = list(network.children())[:-1]
        self._features = torch.nn.Sequential(*layers, torch.nn.Flatten()).to(self.device)

    def official_preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """8-bit arrays of any size to ``(B, 3, 299, 299)`` in [-1, 1), as TensorFlow 1 resized."""
        import torch
        from torch_fidelity.interpolate_compat_tensorflow import (
            interpolate_bilinear_2d_like_tensorflow1x as resize,
        )

        from cas_metric.images import to_uint8

        arrays = [torch.from_numpy(np.array(to_uint8(image))).float() for image in images]
        parts = [
            resize(one.permute(2, 0, 1)[None], size=(_SIDE, _SIDE), align_corners=False)
            for one in arrays
        ]
        return (torch.cat(parts) - 128) / 128

    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """Preprocessed ``(B, 3, 299, 299)`` to ``(B, 2048)``."""
        return self._features(inputs.to(self.device)).float()


class Resized(_ImagesOnly):
    """An encoder that sees its images through 299 x 299 pixels.

    Args:
        inner: The encoder, with raw features.
    """

    def __init__(self, inner: Encoder) -> None:
        from cas_metric.encoders.memory import digest_of

        self._inner = inner
        self.name = f"{CHEXGENBENCH} ({inner.name})"
        self.revision, self.dim, self.dtype = inner.revision, inner.dim, inner.dtype
        self.image_size, self.device = inner.image_size, inner.device
        self.fingerprint = digest_of({"through": _SIDE, "inner": inner.fingerprint})

    def official_preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """8-bit arrays, resized by an antialiasing triangle filter, then the encoder's own way."""
        from PIL import Image

        from cas_metric.images import to_uint8

        small = [
            Image.fromarray(np.asarray(to_uint8(image))).resize(
                (_SIDE, _SIDE), Image.Resampling.BILINEAR
            )
            for image in images
        ]
        return self._inner.official_preprocess([np.asarray(image) for image in small])

    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """What the encoder makes of it."""
        return self._inner.embed_pixels(inputs)


def _inception(state: dict[str, Tensor], path: Path) -> torch.nn.Module:
    """torch-fidelity's network with these weights."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise MissingDependency("torch-fidelity", extra="metrics", purpose="FID") from error
    import torch

    buffer = io.BytesIO()  # the class reads its weights itself; these were read safely before
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=buffer
        )
    except RuntimeError as error:
        raise InputError(f"{path}: not the weights of FID's Inception-v3", fix=_HOW) from error


def _state(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of weights, by name."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from cas_metric.encoders.convert import tensors_of

    if not path.is_file():
        raise ModelUnavailable(f"{path}: no such file", fix=f"give {_HOW}")
    try:
        return load_file(path) if path.suffix == ".safetensors" else tensors_of(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable file of weights: {error}", fix=_HOW) from error
