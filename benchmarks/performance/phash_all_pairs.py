"""pHash distances of all pairs by popcount, against subtracting ImageHash objects.

    python -m benchmarks.performance.phash_all_pairs [--images 3100] [--sample 200000]

Random 64-bit words stand for hashes: the time of a comparison does not depend on the bits. The
subtraction is measured on a random subset of pairs and extrapolated; all distances of the subset
are compared.
"""

from __future__ import annotations

import argparse
import time

import imagehash
import numpy as np

from cas_metric.copies.phash import nearest, pack, pairs_within


def main() -> None:
    """Measure both sides in one run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=3100)
    parser.add_argument("--sample", type=int, default=200_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sets = [
        [imagehash.ImageHash(rng.random((8, 8)) < 0.5) for _ in range(options.images)]
        for _ in range(2)
    ]
    pairs = rng.integers(options.images, size=(options.sample, 2)).tolist()
    start = time.process_time()
    expected = [sets[0][i] - sets[1][j] for i, j in pairs]
    loop = (time.process_time() - start) / options.sample
    words = [np.array([pack(one) for one in hashes], dtype=np.uint64) for hashes in sets]
    start = time.process_time()
    near = pairs_within(*words)
    ours = (time.process_time() - start) / options.images**2
    best = nearest(*words)
    found = [(int(words[0][i]) ^ int(words[1][j])).bit_count() for i, j in pairs]
    total = options.images**2
    print(f"{options.images} x {options.images} pairs, CPU seconds")
    print(f"  ImageHash subtraction {loop * total:9.3f} s (extrapolated from {options.sample:,})")
    print(f"  popcount              {ours * total:9.3f} s   {loop / ours:,.0f}x")
    print(f"  {len(near)} pairs within 5 bits, least distance {best.distance.min()}")
    print(f"  distances equal: {expected == found}")


if __name__ == "__main__":
    main()
