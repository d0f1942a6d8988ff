"""Training one classifier on real and synthetic pictures, and what it says about the test set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.downstream.batches import batches, real_subset
from cas_metric.downstream.networks import build_network
from cas_metric.encoders.memory import digest_file

if TYPE_CHECKING:
    from cas_metric.downstream.pictures import LabelledPictures

#: ImageNet's statistics, which torchvision's weights expect.
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)
#: Furthest shift of augmented pictures, as a share of their side.
_SHIFT: Final = 1 / 16
#: Pictures in one forward pass over the test set.
_TOGETHER: Final = 256


@dataclass(frozen=True)
class Recipe:
    """How every classifier is trained, whatever its data.

    Every classifier makes the same number of updates, so neither a larger data scale nor the
    addition of synthetic pictures brings more training. Nothing is chosen by looking at the test
    set: the last weights count.

    Attributes:
        network: ``resnet18`` or ``small``.
        size: Side of the pictures.
        batch_size: Pictures in a batch.
        share: Share of them that is synthetic (20% in the paper).
        steps: Updates.
        learning_rate: Peak of a one-cycle schedule of AdamW.
        weight_decay: Of AdamW.
        augment: Mirror pictures and shift them by up to 1/16 of their side.
        weights: Safetensors file to start from; None starts from random weights.
        device: torch device.
    """

    network: str = "resnet18"
    size: int = 224
    batch_size: int = 50
    share: float = 0.2
    steps: int = 1000
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    augment: bool = True
    weights: Path | None = None
    device: str = "cpu"

    def identity(self) -> dict[str, Any]:
        """What decides the result; JSON-able, with the weights by their content."""
        named = asdict(self)
        named["weights"] = digest_file(self.weights) if self.weights else None
        named["device"] = torch.device(self.device).type
        return named


def train_and_predict(
    recipe: Recipe,
    real: LabelledPictures,
    synthetic: LabelledPictures | None,
    test: LabelledPictures,
    *,
    scale: float,
    seed: int,
) -> NDArray[np.int64]:
    """Class that a newly trained classifier gives to every test picture: ``(T,)``.

    The seed decides which real pictures are kept, the first weights and the order of everything,
    independently of the synthetic set: cells of one seed are paired.

    Args:
        recipe: How to train.
        real: Real training pictures.
        synthetic: Synthetic ones; None trains on real ones alone.
        test: Real test pictures.
        scale: Share of the real training pictures that is used.
        seed: Seed of everything.
    """
    classes = int(max(real.classes.max(), test.classes.max())) + 1
    rows = real_subset(real.classes, scale, np.random.default_rng([seed, 0]))
    others = np.arange(len(synthetic)) if synthetic is not None else np.empty(0, np.int64)
    order = batches(rows, others, batch_size=recipe.batch_size, share=recipe.share, seed=seed)
    network = build_network(recipe.network, classes, seed=seed, weights=recipe.weights)
    network.to(recipe.device)
    with reproducible(seed):
        _fit(network, recipe, real, synthetic, order, torch.Generator().manual_seed(seed))
        return _predict(network, test, recipe.device)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Deterministic kernels and a random state of its own, both undone afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
            torch.backends.cudnn.benchmark = benchmark


def _fit(
    network: nn.Module,
    recipe: Recipe,
    real: LabelledPictures,
    synthetic: LabelledPictures | None,
    order: Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]],
    rng: torch.Generator,
) -> None:
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=recipe.steps
    )
    for _ in range(recipe.steps):
        pixels, labels = _batch(real, synthetic, *next(order))
        if recipe.augment:
            pixels = _augment(pixels, rng)
        loss = F.cross_entropy(
            network(_normalise(pixels.to(recipe.device))), labels.to(recipe.device)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _predict(network: nn.Module, test: LabelledPictures, device: str) -> NDArray[np.int64]:
    network.eval()
    found = []
    for start in range(0, len(test), _TOGETHER):
        pixels = torch.from_numpy(np.array(test.pixels[start : start + _TOGETHER]))
        found.append(network(_normalise(pixels.to(device))).argmax(dim=1).cpu().numpy())
    return np.concatenate(found).astype(np.int64)


def _batch(
    real: LabelledPictures,
    synthetic: LabelledPictures | None,
    rows: NDArray[np.int64],
    others: NDArray[np.int64],
) -> tuple[Tensor, Tensor]:
    """``(B, S, S, 3)`` uint8 and ``(B,)``, the real ones first."""
    pixels, labels = [real.pixels[rows]], [real.classes[rows]]
    if synthetic is not None:
        pixels.append(synthetic.pixels[others])
        labels.append(synthetic.classes[others])
    return torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))


def _augment(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror half of the pictures and shift each, repeating its edge."""
    count, side = pixels.shape[:2]
    mirrored = torch.rand(count, generator=rng) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
    reach = round(side * _SHIFT)
    if not reach:
        return pixels
    shifts = torch.randint(-reach, reach + 1, (2, count, 1), generator=rng)
    rows, columns = (torch.arange(side) + shifts).clamp(0, side - 1)
    picture = torch.arange(count)[:, None, None]
    return pixels[picture, rows[:, :, None], columns[:, None, :]]


def _normalise(pixels: Tensor) -> Tensor:
    """``(B, S, S, 3)`` uint8 to ``(B, 3, S, S)`` float32."""
    mean, std = (torch.tensor(v, device=pixels.device) for v in (_MEAN, _STD))
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
