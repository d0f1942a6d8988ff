"""Time and peak memory of the pixel and feature searches as both sets grow, with the exponent.

    python -m benchmarks.performance.memorization_growth [--counts 500 1000 2000 4000] [--size 64]

Each count runs in a process of its own, so that its peak memory is its own. The exponent b of
time = a·n^b is fitted by least squares to the logarithms.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from benchmarks.performance.ssim_all_pairs import phantoms
from cas_metric.copies import neighbours, phash
from cas_metric.copies.ssim_search import Search, nearest

DIM = 768
STEPS = ("ssim", "phash", "features")


def one(count: int, size: int, workers: int) -> dict[str, float]:
    """CPU seconds of each search over ``count`` x ``count`` pairs, and peak memory in MB."""
    rng = np.random.default_rng(0)
    queries, others = phantoms(count, size, 0), phantoms(count, size, count)
    words = rng.integers(0, 2**63, (2, count), dtype=np.uint64)
    vectors = rng.normal(size=(2, count, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    nearest(queries[:2], others[:2], Search(workers=1))  # compile before the clock starts
    searches = (
        lambda: nearest(queries, others, Search(workers=workers)),
        lambda: phash.pairs_within(*words),
        lambda: neighbours.nearest(*vectors),
    )
    found: dict[str, float] = {}
    for name, search in zip(STEPS, searches, strict=True):
        start = time.process_time()
        search()
        found[name] = time.process_time() - start
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    """Measure every count in a process of its own and fit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.size, options.workers)))
        return
    rows = []
    print(f"{'images':>8} {'SSIM':>9} {'pHash':>9} {'features':>9} {'peak MB':>9}  (CPU seconds)")
    for count in options.counts:
        command = [sys.executable, "-m", "benchmarks.performance.memorization_growth"]
        command += ["--one", str(count), "--size", str(options.size)]
        command += ["--workers", str(options.workers)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        figures = "".join(f"{rows[-1][name]:10.3f}" for name in STEPS)
        print(f"{count:8d}{figures}{rows[-1]['peak_mb']:10.0f}", flush=True)
    if len(rows) > 1:
        slopes = [
            np.polyfit(np.log(options.counts), np.log([row[name] for row in rows]), 1)[0]
            for name in (*STEPS, "peak_mb")
        ]
        print("exponent" + "".join(f"{slope:10.2f}" for slope in slopes))


if __name__ == "__main__":
    main()
