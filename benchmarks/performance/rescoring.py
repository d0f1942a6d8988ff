"""How much faster is scoring the same images again?

``python -m benchmarks.performance.rescoring [--images 2000] [--encoder SPEC]``

Both runs are whole commands, from the start of Python to the written report. Without ``--encoder``
the encoder is SigLIP base/16 at 224 pixels with random weights: as costly as a real one, which is
what a cache is for. The second run embeds nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.performance.workload import build_siglip_base, run_cas, write_folders


def main() -> None:
    """Run twice and print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--encoder", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        encoder = arguments.encoder or build_siglip_base(root / "siglip-base-random")
        generated, real = write_folders(root, arguments.images)
        options = ("--encoder", encoder, "--cache", root / "cache", "--out", root / "run")
        first, second = (run_cas("score", generated, real, *options) for _ in range(2))
    print(f"{arguments.images} images and as many partners")
    print(f"first run  {first.seconds:.1f} s")
    print(f"second run {second.seconds:.1f} s")
    print(f"ratio      {first.seconds / second.seconds:.1f}")


if __name__ == "__main__":
    main()
