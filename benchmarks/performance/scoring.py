"""What do files, decoding, preprocessing and the cache cost beside the model itself?

``python -m benchmarks.performance.scoring [--images 1000] [--encoder phantom-siglip]``

In one process and one after the other: the bare encoder on preprocessed tensors in memory, then
``embed_image_files`` on files with an empty cache, at the same batch size. Repeated, and the best
of each is compared, because other load on a machine can only slow a run down.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.performance.workload import build_siglip_base, write_folders
from cas_metric.cache import EmbeddingCache
from cas_metric.embedding import default_batch_size, embed_image_files
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.images import load_image


def main() -> None:
    """Measure both rates and print them with their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--encoder", default="phantom-siglip", help="or 'base': random SigLIP base")
    parser.add_argument("--side", type=int, default=64, help="of the PNG files, in pixels")
    parser.add_argument("--num-workers", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        spec = arguments.encoder
        encoder = load_encoder(build_siglip_base(root / "base") if spec == "base" else spec)
        folder, _ = write_folders(root, arguments.images, arguments.side)
        paths = sorted(folder.glob("*.png"))
        rates = [
            (bare(encoder, paths), ours(encoder, paths, root / f"cache-{n}", arguments.num_workers))
            for n in range(arguments.repeats)
        ]
    bare_rate, our_rate = (max(column) for column in zip(*rates, strict=True))
    print(f"bare encoder on tensors: {bare_rate:.1f} images/s")
    print(f"files to embeddings:     {our_rate:.1f} images/s")
    print(f"ratio:                   {our_rate / bare_rate:.3f}")


def bare(encoder: Encoder, paths: list[Path]) -> float:
    """Images a second of the model alone."""
    size = default_batch_size(encoder.device)
    batch = encoder.official_preprocess([load_image(path).pixels for path in paths[:size]])
    batches = max(1, len(paths) // size)
    with torch.inference_mode():
        encoder.embed_pixels(batch).cpu()
        started = time.perf_counter()
        for _ in range(batches):
            encoder.embed_pixels(batch).cpu()
    return batches * len(batch) / (time.perf_counter() - started)


def ours(encoder: Encoder, paths: list[Path], cache: Path, workers: int | None) -> float:
    """Images a second from files, with an empty cache."""
    with EmbeddingCache(cache) as store:
        started = time.perf_counter()
        found = embed_image_files(paths, encoder, store, num_workers=workers)
        seconds = time.perf_counter() - started
    assert found.embedded == len(paths)
    return len(paths) / seconds


if __name__ == "__main__":
    main()
