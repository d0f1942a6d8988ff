"""Do released architectures load and embed at their full size?

``python -m benchmarks.performance.full_size [NAME …] [--device cuda]``

Each architecture is built with random weights in bfloat16, written as safetensors to a temporary
directory with its processor and a small tokenizer, and loaded and run in float32 by a process of
its own, whose peak resident memory is read from the kernel. Up to 12 GB of memory and 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = {"dinov2-base": 224, "siglip-so400m-384": 384, "medsiglip-448": 448, "metaclip2-huge": 224}


def main() -> None:
    """Build, load and measure each, as rows of a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(SIDES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--build", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        build(arguments.names[0], Path(arguments.build))
    elif arguments.worker:
        print(json.dumps(embed(Path(arguments.worker), arguments.device)))
    else:
        print(
            "| architecture | parameters | input | tokens | dimensions | loaded in | image | peak |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name in arguments.names:
            with tempfile.TemporaryDirectory() as folder:
                _process(name, "--build", folder)
                row = json.loads(_process(name, "--worker", folder, "--device", arguments.device))
            print(f"| {name} | {' | '.join(row)} |", flush=True)


def build(name: str, folder: Path) -> None:
    """Random weights, processor and tokenizer of one architecture."""
    import torch
    from tests.support import tiny_models as tiny
    from transformers import AutoConfig, AutoModel

    size = SIDES[name]
    if name == "dinov2-base":
        from transformers import Dinov2Config

        tiny.build_dinov2(folder)
        config: Any = Dinov2Config(image_size=518, patch_size=14)
        size_of = {"size": {"shortest_edge": 256}, "crop_size": {"height": size, "width": size}}
    else:
        make = tiny.build_metaclip2 if name == "metaclip2-huge" else tiny.build_siglip
        make(folder, image_size=size, patch_size=14)
        config = AutoConfig.from_pretrained(folder)
        layers = {"siglip": so400m(), "metaclip_2": huge()}[config.model_type]
        for tower, values in layers.items():
            for key, value in values.items():
                setattr(getattr(config, f"{tower}_config"), key, value)
        config.projection_dim = config.text_config.projection_dim = 1024
        config.text_config.projection_size = layers["text"]["hidden_size"]
        size_of = {}
    processor = folder / "preprocessor_config.json"
    processor.write_text(json.dumps({**json.loads(processor.read_text()), **size_of}))
    AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def so400m() -> dict[str, dict[str, int]]:
    """google/siglip-so400m-patch14-384 and google/medsiglip-448."""
    tower = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    return {"vision": tower, "text": {**tower, "vocab_size": 32000}}


def huge() -> dict[str, dict[str, int]]:
    """facebook/metaclip-2-worldwide-huge-quickgelu."""
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    vision = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
    return {
        "text": {**text, "num_attention_heads": 16, "vocab_size": 901629},
        "vision": {**vision, "num_attention_heads": 16},
    }


def embed(folder: Path, device: str) -> list[str]:
    """Cells of one row: what was loaded, and what it took."""
    import numpy as np
    import torch

    from cas_metric.encoders import load_encoder

    started = time.perf_counter()
    encoder = load_encoder(folder, device=device)
    loaded = time.perf_counter()
    picture = np.random.default_rng(0).integers(0, 255, (512, 400, 3), dtype=np.uint8)
    with torch.inference_mode():
        vector = encoder.embed_pixels(encoder.official_preprocess([picture]))
    seen = time.perf_counter()
    vectors = [vector]
    if encoder.token_limit:
        vectors.append(encoder.embed_texts(["lung opacity"]).embeddings)
    for one in vectors:
        assert one.shape == (1, encoder.dim)
        torch.testing.assert_close(one.norm().cpu(), torch.tensor(1.0))
    parameters = sum(one.numel() for one in encoder.model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        f"{parameters / 1e6:,.0f} M",
        f"{encoder.image_size}",
        f"{encoder.token_limit or '–'}",
        f"{encoder.dim}",
        f"{loaded - started:.0f} s",
        f"{seen - loaded:.1f} s",
        f"{peak:.1f} GiB",
    ]


def _process(name: str, *options: str) -> str:
    """The last line that a process of its own prints."""
    command = [sys.executable, "-m", "benchmarks.performance.full_size", name, *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return (output.splitlines() or [""])[-1]


if __name__ == "__main__":
    main()
