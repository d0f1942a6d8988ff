"""What do files, decoding, preprocessing and the cache cost beside the model itself?

``python -m benchmarks.performance.scoring [--encoder base] [--device cuda] [--dtype bfloat16]``

In one process, a block of images at a time and the two sides in turn: the bare encoder on
preprocessed tensors in memory, and ``embed_image_files`` on files with an empty cache, at the same
batch size. The ratio of each pair of blocks is taken, and their median: other load on the machine
then meets both sides alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.performance.workload import build_siglip_base, write_folders
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import default_batch_size, embed_image_files
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.images import load_image


def main() -> None:
    """Measure both rates and print them with the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="phantom-siglip", help="or 'base': random SigLIP base")
    parser.add_argument("--batches", type=int, default=4, help="in a block")
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--side", type=int, default=256, help="of the PNG files, in pixels")
    parser.add_argument("--num-workers", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        spec = arguments.encoder
        encoder = load_encoder(
            build_siglip_base(root / "base") if spec == "base" else spec,
            device=arguments.device,
            dtype=arguments.dtype,
        )
        size = arguments.batches * default_batch_size(encoder.device)
        folder, _ = write_folders(root, size * arguments.blocks, arguments.side)
        paths = sorted(folder.glob("*.png"))
        bare(encoder, paths[:size])  # warms up
        rates = []
        for number in range(arguments.blocks):
            block = paths[number * size : (number + 1) * size]
            own = ours(encoder, block, root / "cache", arguments.num_workers)
            rates.append((own, bare(encoder, block)))
    ratios = [own / alone for own, alone in rates]
    print(f"{arguments.blocks} blocks of {size} images on {encoder.device}, {encoder.dtype}")
    for what, column in zip(
        ("files to embeddings", "bare encoder"), zip(*rates, strict=True), strict=True
    ):
        print(f"{what + ':':21} median {statistics.median(column):.1f} images/s")
    print(f"ratio:                median {statistics.median(ratios):.3f}, ", end="")
    print(f"from {min(ratios):.3f} to {max(ratios):.3f}")


def bare(encoder: Encoder, paths: list[Path]) -> float:
    """Images a second of the model alone, on tensors made before the clock starts."""
    size = default_batch_size(encoder.device)
    batches = [
        encoder.official_preprocess(
            [load_image(path).pixels for path in paths[start : start + size]]
        )
        for start in range(0, len(paths), size)
    ]
    with torch.inference_mode():
        started = time.perf_counter()
        for batch in batches:
            encoder.embed_pixels(batch).cpu()
    return len(paths) / (time.perf_counter() - started)


def ours(encoder: Encoder, paths: list[Path], cache: Path, workers: int | None) -> float:
    """Images a second from files that the cache lacks."""
    with EmbeddingCache(cache) as store:
        started = time.perf_counter()
        found = embed_image_files(paths, encoder, store, num_workers=workers)
        seconds = time.perf_counter() - started
    assert found.embedded == len(paths)
    return len(paths) / seconds


if __name__ == "__main__":
    main()
