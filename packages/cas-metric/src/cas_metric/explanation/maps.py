"""Where an image shows, or lacks, what a direction of the embedding space stands for.

* :func:`token_map`: integrated gradients over the patch tokens. The path leads from what real
  images of the other classes have in each place, or without them from the image out of focus, to
  the tokens of the image; what each token adds to the score along it is its place's share, and the
  shares add up to the change of the score. Any vision transformer has the one convolution that
  makes patches of an image, so it serves all families of transformers and open_clip alike.
* :func:`occlusion_map`: the slow check that knows nothing of the model. Every patch is put out of
  focus in turn; what the score loses is its share.

Source: Sundararajan, Taly and Yan (2017), *Axiomatic Attribution for Deep Networks*; Zeiler and
Fergus (2014), section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.errors import InputError

if TYPE_CHECKING:
    from cas_metric.encoders import ModelEncoder

#: Steps of the integral.
STEPS: Final = 8
#: Width of the blur that a map starts from, as a share of the image's side.
_BLUR: Final = 0.27
#: Occluded copies in one forward pass.
_TOGETHER: Final = 64

#: ``(B, D)`` embeddings to ``(B,)`` scores.
Score = Callable[[Tensor], Tensor]


def along(direction: np.ndarray) -> Score:
    """The score of an embedding along a direction ``(D,)``."""
    weights = torch.as_tensor(direction, dtype=torch.float32)
    return lambda embeddings: embeddings @ weights.to(embeddings.device)


def mean_tokens(encoder: ModelEncoder, inputs: Tensor) -> Tensor:
    """``(1, C, G, G)`` patch tokens of ``(N, 3, S, S)`` images on average, place by place.

    Raises:
        InputError: As of :func:`token_map`.
    """
    patches = _patches(encoder)
    parts = [_tokens(encoder, patches, part) for part in inputs.split(_TOGETHER)]
    return torch.cat(parts).mean(dim=0, keepdim=True)


def token_map(
    encoder: ModelEncoder, inputs: Tensor, score: Score, start: Tensor | None = None
) -> np.ndarray:
    """What each patch adds to a score, by its token.

    Args:
        encoder: A vision transformer.
        inputs: ``(1, 3, S, S)`` preprocessed.
        score: What is explained.
        start: Tokens that the path begins at, such as :func:`mean_tokens` of other classes; by
            default those of the image out of focus.

    Returns:
        ``(G, G)`` float32; positive where a patch speaks for it.

    Raises:
        InputError: The encoder does not cut images into patches by a convolution.
    """
    patches = _patches(encoder)
    sharp = _tokens(encoder, patches, inputs)
    vague = _tokens(encoder, patches, out_of_focus(inputs)) if start is None else start
    total = torch.zeros_like(sharp)
    for step in range(STEPS):
        at = (vague + (step + 0.5) / STEPS * (sharp - vague)).requires_grad_(True)
        handle = patches.register_forward_hook(lambda *_, given=at: given)
        try:
            value = score(encoder.embed_pixels(inputs)).sum()
        finally:
            handle.remove()
        total += torch.autograd.grad(value, at)[0]
    shares = ((sharp - vague) * total / STEPS).sum(dim=1)[0]
    found: np.ndarray = shares.float().cpu().numpy()
    return found


def occlusion_map(encoder: ModelEncoder, inputs: Tensor, score: Score, grid: int = 8) -> np.ndarray:
    """What a score loses when one patch after the other is put out of focus.

    Args:
        encoder: Any encoder.
        inputs: ``(1, 3, S, S)`` preprocessed.
        score: What is explained.
        grid: Patches a side.

    Returns:
        ``(grid, grid)`` float32.
    """
    vague, side = out_of_focus(inputs), inputs.shape[-1]
    edges = np.linspace(0, side, grid + 1).round().astype(int)
    copies = []
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            copy = inputs[0].clone()
            copy[:, top:bottom, left:right] = vague[0, :, top:bottom, left:right]
            copies.append(copy)
    with torch.no_grad():
        whole = score(encoder.embed_pixels(inputs))
        parts = [
            score(encoder.embed_pixels(torch.stack(copies[start : start + _TOGETHER])))
            for start in range(0, len(copies), _TOGETHER)
        ]
    lost: np.ndarray = (whole - torch.cat(parts)).float().cpu().numpy()
    return lost.reshape(grid, grid)


def out_of_focus(inputs: Tensor) -> Tensor:
    """``(B, 3, S, S)`` with everything but the coarsest shapes gone."""
    width = max(3, int(_BLUR * inputs.shape[-1]) // 2 * 2 + 1)
    for _ in range(2):
        inputs = F.avg_pool2d(inputs, width, 1, width // 2, count_include_pad=False)
    return inputs


def _patches(encoder: ModelEncoder) -> nn.Conv2d:
    """The convolution that cuts an image into patches: its stride is its width."""
    for module in encoder.model.modules():
        if not isinstance(module, nn.Conv2d) or module.kernel_size != module.stride:
            continue
        if max(module.kernel_size) > 1:
            return module
    raise InputError(
        f"{encoder.name} does not cut images into patches, so it has no patch tokens",
        fix="explain by occlusion (--occlusion), or score with a vision transformer",
    )


def _tokens(encoder: ModelEncoder, patches: nn.Conv2d, inputs: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = patches.register_forward_hook(lambda *args: kept.append(args[-1].detach()))
    try:
        with torch.no_grad():
            encoder.embed_pixels(inputs)
    finally:
        handle.remove()
    return kept[0]
