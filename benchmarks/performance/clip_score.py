"""Image-text scores of files: ours beside torchmetrics' CLIPScore, with the same encoder.

``python -m benchmarks.performance.clip_score [--images 192] [--device cuda]``

CLIP base/32 with random weights from a local directory. Each side runs in processes of its own, in
turn, from files to one cosine an image and its text; ours keeps the rows and fills a cache,
CLIPScore keeps a sum. Every image has a text of its own. Ours pads a text to a multiple of eight
tokens, so that a text's bytes depend on no other text; CLIPScore pads to the longest of a batch.
Each process is timed after its model is loaded and both towers are warmed up, by the clock and by
the processor time that it used, which other work on the machine disturbs less; its peak resident
memory is read from the kernel. The two means are printed: they must agree.

With transformers 5 CLIPScore cannot read what its model returns, so it is handed a model whose
methods return the tensor that it expects.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.performance.workload import build_clip_base, write_folders

SIDES = ("ours", "torchmetrics")
BATCH = 32
KEYS = ("rate", "processor", "peak", "mean")

#: Wall and processor time in seconds.
Clocks = tuple[float, float]


def main() -> None:
    """Run the sides in turn and print the median rate, memory and mean of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(arguments.worker[0], arguments.worker[1], arguments.device)))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build_clip_base(root / "clip")
        write_folders(root, arguments.images, 256)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(arguments.repeats):
            for side in SIDES:
                found[side].append(_process(side, root, arguments.device))
    for side, runs in found.items():
        rate, processor, peak, mean = (statistics.median(run[key] for run in runs) for key in KEYS)
        print(
            f"{side + ':':13} {rate:6.1f} images/s, {processor:6.1f} a second of processor time, "
            f"peak {peak:5.0f} MiB, mean {mean:.5f}"
        )
    for key in ("rate", "processor"):
        ratios = [a[key] / b[key] for a, b in zip(*found.values(), strict=True)]
        print(f"ratio of the {key + ':':11} {statistics.median(ratios):.2f} (median of pairs)")


def work(side: str, root: str, device: str) -> dict[str, float]:
    """One side in this process: images a second by both clocks, peak memory in MiB, mean cosine."""
    folder = Path(root) / "generated"
    paths = sorted(folder.glob("*.png"))
    texts = [f"a drawing of case {path.stem} on a noisy background" for path in paths]
    run = ours if side == "ours" else theirs
    clocks, mean = run(Path(root), paths, texts, device)
    wall, processor = (now - before for now, before in zip(_clocks(), clocks, strict=True))
    rates = {"rate": len(paths) / wall, "processor": len(paths) / processor}
    return {**rates, "peak": _peak(), "mean": mean}


def ours(root: Path, paths: list[Path], texts: list[str], device: str) -> tuple[Clocks, float]:
    """Start of the clocks, and the mean of VDC."""
    from cas_metric import primitives
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files, embed_texts
    from cas_metric.encoders import load_encoder

    encoder = load_encoder(root / "clip", device=device)
    with EmbeddingCache("none") as cache:
        embed_image_files(paths[:BATCH], encoder, cache, batch_size=BATCH)
        embed_texts(texts[:BATCH], encoder, cache)
    with EmbeddingCache("none") as cache:
        started = _clocks()
        images = embed_image_files(paths, encoder, cache, batch_size=BATCH).embeddings
        words = embed_texts(texts, encoder, cache).embeddings
        mean = float(primitives.vdc(images, words).mean())
    return started, mean


def theirs(root: Path, paths: list[Path], texts: list[str], device: str) -> tuple[Clocks, float]:
    """Start of the clocks, and CLIPScore on the scale of a cosine."""
    import numpy as np
    from PIL import Image
    from torchmetrics.multimodal import CLIPScore

    def model_and_processor() -> tuple[Any, Any]:
        from transformers import AutoProcessor, CLIPModel

        return Tensors(CLIPModel.from_pretrained(root / "clip")), AutoProcessor.from_pretrained(
            root / "clip"
        )

    metric = CLIPScore(model_and_processor).to(device)

    def update(start: int) -> None:
        some = slice(start, start + BATCH)
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths[some]]
        tensors = [torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in pixels]
        metric.update(tensors, texts[some])

    update(0)
    metric.reset()
    started = _clocks()
    for start in range(0, len(paths), BATCH):
        update(start)
    # Not compute(), which cuts a negative mean off at 0.
    return started, float(metric.score / metric.n_samples) / 100


class Tensors(torch.nn.Module):
    """A CLIP model whose feature methods return tensors, as before transformers 5."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def get_image_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` image features."""
        return self.model.get_image_features(*inputs).pooler_output

    def get_text_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` text features."""
        return self.model.get_text_features(*inputs).pooler_output


def _process(side: str, root: Path, device: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.performance.clip_score"]
    command += ["--device", device, "--worker", side, str(root)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


def _peak() -> float:
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    main()
