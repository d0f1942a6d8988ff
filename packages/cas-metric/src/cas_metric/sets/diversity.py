"""Diversity: how far apart are the samples of one prompt, and those of one class?

LPIPS follows Table 3a of the paper: all pairs of the samples of a prompt (six for four), averaged
over pairs, then over prompts. It needs ImageNet weights of AlexNet. The diversity of embeddings
needs no weights beyond those of the encoder.

Sources: Zhang et al. (2018) for LPIPS; Friedman and Dieng (2023) for the Vendi score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cas_metric.errors import InputError, MissingDependency, ModelUnavailable
from cas_metric.protocol import BOOTSTRAP_SEED

#: Pairs in one forward pass of LPIPS.
_PAIRS = 16


class EmbeddingDiversity(NamedTuple):
    """Spread of a set of embeddings.

    Attributes:
        n: Number of embeddings.
        pairwise_distance: Mean cosine distance over all pairs, in [0, 2]; NaN for one embedding.
        vendi_score: Effective number of distinct images, from 1 to n.
    """

    n: int
    pairwise_distance: float
    vendi_score: float


def load_lpips(backbone: Path | None = None, *, offline: bool = False) -> nn.Module:
    """The LPIPS network of torchmetrics (AlexNet, version 0.1), in evaluation mode.

    Args:
        backbone: Safetensors file with torchvision's AlexNet weights. None takes torchvision's own
            copy, which is downloaded on first use.
        offline: Never download.

    Raises:
        MissingDependency: Without torchmetrics.
        ModelUnavailable: If the backbone's weights cannot be had.
        InputError: If ``backbone`` is not a safetensors file of AlexNet.
    """
    try:
        # The public class downloads the backbone in its constructor; only the network behind it
        # can be built first and given weights afterwards.
        from torchmetrics.functional.image.lpips import _NoTrainLpips
    except ImportError as error:
        raise MissingDependency("torchmetrics", extra="metrics", purpose="LPIPS") from error
    features = _features_from(backbone) if backbone else _torchvision_features(offline)
    network = _NoTrainLpips(net="alex", pnet_rand=True)
    own = network.net.state_dict()
    renamed = {key: features.get(key.split(".", 1)[1]) for key in own}
    lacking = [key for key, value in renamed.items() if value is None]
    if lacking or any(renamed[key].shape != own[key].shape for key in own):  # type: ignore[union-attr]
        raise InputError(
            f"{backbone} does not hold the convolutions of torchvision's AlexNet",
            fix="export torchvision.models.alexnet(weights='DEFAULT').state_dict()",
        )
    network.net.load_state_dict(renamed)
    return network


def _features_from(path: Path) -> dict[str, Tensor]:
    """Convolution weights under their names within ``features``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelUnavailable(f"{path}: no such file", fix=_HOW_TO_EXPORT)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: only safetensors files are loaded", fix=_HOW_TO_EXPORT)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
    return {key.removeprefix("features."): value for key, value in state.items()}


_HOW_TO_EXPORT = (
    "where torchvision can download: safetensors.torch.save_file("
    "torchvision.models.alexnet(weights='DEFAULT').state_dict(), 'alexnet.safetensors'), then "
    "--backbone alexnet.safetensors"
)


def _torchvision_features(offline: bool) -> dict[str, Tensor]:
    from torchvision.models import AlexNet_Weights, alexnet

    weights = Path(torch.hub.get_dir(), "checkpoints", Path(AlexNet_Weights.DEFAULT.url).name)
    try:
        if offline and not weights.is_file():
            raise FileNotFoundError(f"{weights} does not exist, and --offline forbids to download")
        return dict(alexnet(weights=AlexNet_Weights.DEFAULT).features.state_dict())
    except (OSError, RuntimeError) as error:  # no network, or a broken download
        raise ModelUnavailable(
            f"LPIPS needs torchvision's AlexNet weights, which cannot be had here: {error}",
            fix=f"{_HOW_TO_EXPORT}; or leave LPIPS out with --no-lpips",
        ) from error


@torch.no_grad()
def lpips_of_samples(samples: Sequence[Tensor], network: nn.Module) -> float:
    """Mean LPIPS over all pairs of the samples of one prompt.

    Args:
        samples: At least two images ``(3, H, W)`` in [0, 1], all of one size.
        network: Of :func:`load_lpips`.

    Raises:
        InputError: For fewer than two samples, or samples of different sizes.
    """
    if len(samples) < 2:
        raise InputError(f"a prompt needs at least two samples, not {len(samples)}")
    if len({tuple(sample.shape) for sample in samples}) > 1:
        raise InputError("the samples of a prompt differ in size", fix="generate them at one size")
    images = torch.stack(list(samples)) * 2 - 1  # LPIPS is defined on [-1, 1]
    left, right = torch.tensor(list(combinations(range(len(samples)), 2))).T
    distances = [
        network(images[left[k : k + _PAIRS]], images[right[k : k + _PAIRS]]).reshape(-1)
        for k in range(0, len(left), _PAIRS)
    ]
    return float(torch.cat(distances).mean())


def embedding_diversity(embeddings: ArrayLike) -> EmbeddingDiversity:
    """Spread of one set of embeddings, usually those of a class.

    Args:
        embeddings: ``(N, D)``; normalised here, rows with NaN (failed images) are left out.

    Raises:
        InputError: If no embedding is finite.

    Examples:
        >>> round(embedding_diversity([[1.0, 0.0], [0.0, 1.0]]).vendi_score, 3)
        2.0
        >>> round(embedding_diversity([[1.0, 0.0], [1.0, 0.0]]).vendi_score, 3)
        1.0
    """
    unit = _unit(embeddings)
    n = len(unit)
    if n == 1:
        return EmbeddingDiversity(1, float("nan"), 1.0)
    # The sum over all pairs of cosines follows from the length of the summed vector.
    cosines = (float(np.square(unit.sum(axis=0)).sum()) - n) / (n * (n - 1))
    return EmbeddingDiversity(n, 1.0 - cosines, vendi_score(unit))


def vendi_score(unit: NDArray[np.float64]) -> float:
    """Exponential of the entropy of the eigenvalues of the cosine matrix over n.

    Args:
        unit: ``(N, D)`` of unit norm. The smaller of the two Gram matrices is used: both have the
            same non-zero eigenvalues.
    """
    n, dim = unit.shape
    gram = unit @ unit.T if n <= dim else unit.T @ unit
    eigenvalues = np.linalg.eigvalsh(gram / n)
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def by_class(embeddings: ArrayLike, labels: Sequence[str]) -> dict[str, EmbeddingDiversity]:
    """Diversity of each class, in alphabetical order; classes without any image are left out."""
    vectors, names = np.asarray(embeddings), np.asarray(labels)
    finite = np.isfinite(vectors).all(axis=1)
    return {
        str(name): embedding_diversity(vectors[finite & (names == name)])
        for name in np.unique(names[finite])
    }


def size_matched(
    generated: ArrayLike,
    real: ArrayLike,
    *,
    measure: Callable[[NDArray[np.float64]], float] = vendi_score,
    draws: int = 20,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float]:
    """Measure both sets at the size of the smaller one, since a Vendi score grows with n.

    Args:
        generated: ``(N, D)``.
        real: ``(M, D)``.
        measure: What to measure of ``(n, D)`` unit vectors.
        draws: Random subsets of the larger set, averaged.
        seed: Seed of the subsets.

    Returns:
        The measure of the generated and of the real set.
    """
    sets = _unit(generated), _unit(real)
    size = min(map(len, sets))
    rng = np.random.default_rng(seed)
    values = []
    for unit in sets:
        repeats = 1 if len(unit) == size else draws
        subsets = (unit[rng.choice(len(unit), size, replace=False)] for _ in range(repeats))
        values.append(float(np.mean([measure(subset) for subset in subsets])))
    return values[0], values[1]


def _unit(embeddings: ArrayLike) -> NDArray[np.float64]:
    vectors = np.asarray(embeddings, dtype=np.float64)
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    if not len(vectors):
        raise InputError("there is no embedding to measure the diversity of")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
