"""SSIM of all pairs of two sets of phantoms, against a scikit-image loop.

    python -m benchmarks.performance.ssim_all_pairs [--images 1000] [--sizes 64 256] [--workers 2]
        [--device cpu] [--sample 200]

Both sides run in one process. The loop is measured on ``--sample`` random pairs and extrapolated to
all of them; the maxima of as many queries as the sample allows are compared with the loop's. Where
other work shares the machine, wall times say little: CPU seconds of all threads are printed too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from cas_metric.copies import ssim
from cas_metric.copies.pictures import grey_square
from cas_metric.copies.ssim_search import Search, nearest
from cas_metric.phantoms import make_phantom, renderer

DOMAIN, COPIES = "phantom-chexpert", 20


def phantoms(count: int, size: int, first: int) -> np.ndarray:
    """Grey phantoms ``(count, size, size)``; another ``first`` gives others."""
    classes = renderer(DOMAIN).classes
    images = [
        make_phantom(DOMAIN, classes[k % len(classes)], first + k, size).image for k in range(count)
    ]
    return np.stack([grey_square(np.asarray(image), size) for image in images])


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def loop(queries: np.ndarray, others: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """scikit-image, pair by pair, in float64."""
    return np.array(
        [
            structural_similarity(
                queries[i].astype(np.float64), others[j].astype(np.float64), data_range=255.0
            )
            for i, j in pairs
        ]
    )


def measure(images: int, size: int, sample: int, workers: int, device: str) -> None:
    """One size: the loop, then ours with and without pruning, then only the count."""
    queries, others = phantoms(images, size, 0), phantoms(images, size, images)
    queries[:COPIES] = others[:COPIES]  # planted copies, so that something lies above 0.95
    rng = np.random.default_rng(0)
    pairs = rng.integers(images, size=(sample, 2))
    expected, wall, cpu = timed(lambda: loop(queries, others, pairs))
    total = images * images
    print(f"{images} x {images} at {size}², {COPIES} planted copies")
    print(
        f"  scikit-image   {wall / sample * total:10.0f} s wall {cpu / sample * total:10.0f} s CPU"
        f"   (extrapolated from {sample} random pairs)"
    )
    ssim.similarities(queries[:1], others[:1])
    nearest(queries[:1], others[:8], Search(workers=1))  # compile before the clock starts
    for name, search in (
        ("every pair", Search(prune=False, workers=workers, device=device)),
        ("pruned", Search(workers=workers, device=device)),
        ("count only", Search(maximum=False, workers=workers, device=device)),
    ):
        found, ours, ours_cpu = timed(lambda search=search: nearest(queries, others, search))
        print(
            f"  {name:12}   {ours:10.1f} s wall {ours_cpu:10.1f} s CPU   "
            f"{wall / sample * total / ours:6.0f}x wall, {cpu / sample * total / ours_cpu:6.0f}x "
            f"CPU, work {found.work:.2f}, {len(found.above)} above 0.95"
        )
        if name == "every pair":
            full = found
        elif name == "pruned":
            same = np.array_equal(found.value, full.value) and np.array_equal(
                found.position, full.position
            )
            print(f"  {'':12}   same answer as without pruning: {same}")
    ours_sample = np.array(
        [ssim.similarities(queries[i : i + 1], others[j : j + 1])[0, 0] for i, j in pairs]
    )
    print(f"  greatest difference from scikit-image {np.abs(ours_sample - expected).max():.1e}")
    assert all(full.value[i] >= v - 1e-9 for (i, _), v in zip(pairs, expected, strict=True))
    rows = max(1, sample // images)
    whole = np.array([(i, j) for i in range(COPIES, COPIES + rows) for j in range(images)])
    maxima = loop(queries, others, whole).reshape(rows, images).max(axis=1)
    print(
        f"  {rows} maxima over all {images} pairs differ by at most "
        f"{np.abs(maxima - full.value[COPIES : COPIES + rows]).max():.1e}"
    )


def main() -> None:
    """Read the options and measure every size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for size in options.sizes:
        measure(options.images, size, options.sample, options.workers, options.device)


if __name__ == "__main__":
    main()
