"""The classifiers whose accuracy measures utility."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from cas_metric.errors import InputError, ModelUnavailable

#: Network to the side of the pictures that it is trained on.
SIZES: Final = {"resnet18": 224, "small": 64}


def build_network(name: str, classes: int, *, seed: int, weights: Path | None = None) -> nn.Module:
    """A freshly initialised classifier of ``(B, 3, S, S)`` pictures, centred on 0.

    Args:
        name: ``resnet18`` (torchvision's, the paper's choice) or ``small``, four convolutions
            that a CPU trains in seconds on 64×64 pictures.
        classes: Number of classes.
        seed: Seed of the weights.
        weights: Safetensors file of torchvision's ResNet-18; its last layer is not taken over.

    Raises:
        InputError: Unknown name, or weights that do not fit.
        ModelUnavailable: No such file.
    """
    if name not in SIZES:
        raise InputError(f"no network {name!r}", fix=f"choose one of {', '.join(SIZES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "small":
            network: nn.Module = _small(classes)
        else:
            from torchvision.models import resnet18

            network = resnet18(num_classes=classes)
    if weights is not None:
        _load(network, weights)
    return network


def _small(classes: int) -> nn.Module:
    def block(inward: int, outward: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inward, outward, 3, stride=2, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outward), nn.ReLU(inplace=True)]

    layers = [*block(3, 16), *block(16, 32), *block(32, 64), *block(64, 128)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def _load(network: nn.Module, path: Path) -> None:
    """Take over all weights but those of the last layer, which belongs to other classes."""
    state = _read(path)
    own = network.state_dict()
    body = {key: state.get(key) for key in own if not key.startswith("fc.")}
    if any(value is None or value.shape != own[key].shape for key, value in body.items()):
        raise InputError(
            f"{path} does not hold the weights of torchvision's ResNet-18",
            fix="export torchvision.models.resnet18(weights='DEFAULT').state_dict() with "
            "safetensors.torch.save_file",
        )
    network.load_state_dict({**own, **body})


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise InputError(f"{path}: only safetensors files are loaded")
    if not path.is_file():
        raise ModelUnavailable(f"{path}: no such file", fix="or leave --weights out")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
