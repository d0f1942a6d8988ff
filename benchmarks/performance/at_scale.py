"""What 10⁸ images cost, on paper: operations that are counted, and rates that were measured.

``python -m benchmarks.performance.at_scale [--images 1e8] [--sustained 100]``

The operations of one image are counted by PyTorch's own counter, on the image towers of the
published shapes without weights (the ``meta`` device): nothing is computed. Hours of a processor
are the seconds of ``docs/results/encoders.md`` and ``docs/results/scoring.md`` times the images;
hours of an accelerator are operations over a sustained rate that you give, an extrapolation.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.performance.full_size import SIDES, huge, so400m

#: Seconds an image on two busy cores, as printed on the pages named above; the last is the whole
#: command over 2,000 images, the others one image by itself, which is an upper bound.
MEASURED = {
    "siglip-so400m-384": 45.5,
    "medsiglip-448": 39.7,
    "dinov2-base": 1.8,
    "metaclip2-huge": 4.4,
    "siglip-base-224": 378.1 / 2000,
}
CORES = 2


def tower(name: str) -> tuple[torch.nn.Module, int]:
    """Image tower without weights, and the side of its input."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        Dinov2Config,
        Dinov2Model,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    side = SIDES.get(name, 224)
    made: Any
    with torch.device("meta"):
        if name == "dinov2-base":
            made = Dinov2Model(Dinov2Config(image_size=518, patch_size=14))
        elif name == "metaclip2-huge":  # a vision transformer as CLIP's
            values = huge()["vision"]
            made = CLIPVisionModel(CLIPVisionConfig(image_size=side, patch_size=14, **values))
        else:
            base = name == "siglip-base-224"
            values = {} if base else so400m()["vision"]
            patch = 16 if base else 14
            made = SiglipVisionModel(
                SiglipVisionConfig(image_size=side, patch_size=patch, **values)
            )
    return made, side


def teraflop(name: str) -> float:
    """Operations of one image, in 10¹²; a multiplication and an addition are two."""
    model, side = tower(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() / 1e12


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=float, default=1e8)
    parser.add_argument("--sustained", type=float, default=100.0, help="TFLOP/s of an accelerator")
    options = parser.parse_args()
    print("| image tower | TFLOP an image | core-hours | accelerator-hours | embeddings |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, seconds in MEASURED.items():
        each = teraflop(name)
        cores = seconds * CORES * options.images / 3600
        hours = each / options.sustained * options.images / 3600
        width = {"dinov2-base": 768, "siglip-base-224": 768, "metaclip2-huge": 1024}.get(name, 1152)
        print(
            f"| {name} | {each:.3f} | {cores:,.0f} | {hours:,.0f} | "
            f"{4 * width * options.images / 1e9:,.0f} GB |"
        )


if __name__ == "__main__":
    main()
