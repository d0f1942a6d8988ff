"""What the measurements of the trainer take for phantom-sd has the sizes of phantom-sd."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.performance.diffusion import _made, _phantom_shaped
from safetensors import safe_open

from craft_trainer.bases.weights import EMBEDDED

WEIGHTS = "diffusion_pytorch_model.safetensors"


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(file, "np") as weights:
        return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118


@pytest.mark.parametrize("file", [f"unet/{WEIGHTS}", f"vae/{WEIGHTS}"])
def test_phantom_shaped_has_the_sizes_of_phantom_sd(file: str, tmp_path: Path) -> None:
    folder = Path(_made("phantom-shaped", tmp_path, {"phantom-shaped": _phantom_shaped}))
    assert _shapes(folder / file) == _shapes(EMBEDDED["phantom-sd"] / file)
