"""Does the memory of ``cas score`` grow with the number of images?

``python -m benchmarks.performance.memory [--sizes 2000 20000] [--encoder phantom-siglip]``

Each size is scored with an empty cache by a process of its own, whose peak resident memory is
read from the kernel. A size of N means N generated images and N real partners.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.performance.workload import Measured, bytecode, run_cas, write_folders


def main() -> None:
    """Measure and print a line a size, then the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--encoder", default="phantom-siglip")
    arguments = parser.parse_args()
    found = [measure(size, arguments.encoder) for size in arguments.sizes]
    for size, one in zip(arguments.sizes, found, strict=True):
        print(f"{size:>7} images: peak {one.peak / 2**20:.0f} MiB, {one.seconds:.1f} s")
    print(f"ratio of peaks: {found[-1].peak / found[0].peak:.3f}")


def measure(images: int, encoder: str) -> Measured:
    """Score ``images`` images with an empty cache."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        generated, real = write_folders(root, images)
        options = ("--encoder", encoder, "--cache", root / "cache", "--out", root / "run")
        return run_cas("score", generated, real, *options, environment=bytecode(root))


if __name__ == "__main__":
    main()
