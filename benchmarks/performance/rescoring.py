"""How much faster is scoring the same images again?

``python -m benchmarks.performance.rescoring [--images 2000] [--encoder SPEC]``

Both runs are whole commands, from the start of Python to the written report; a small run before
them compiles Python's modules. Without ``--encoder`` the encoder is SigLIP base/16 at 224 pixels
with random weights: as costly as a real one, which is what a cache is for. The second run embeds
nothing. Beside the wall time stands the processor time, which other load on the machine changes
less.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.performance.workload import (
    Measured,
    build_siglip_base,
    bytecode,
    run_cas,
    write_folders,
)

#: Files of a run that hold no time.
SAME = ("per_image.csv", "real_per_image.csv", "floor_per_image.csv", "report.html")


def main() -> None:
    """Run twice and print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2000, help="generated and real together")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        encoder = arguments.encoder or str(build_siglip_base(root / "siglip-base-random"))
        options = ("--encoder", encoder, "--device", arguments.device)
        score(root, "warm-up", 4, options)
        (first, kept), (second, again) = (
            score(root, "measured", arguments.images // 2, options) for _ in range(2)
        )
    print(f"{arguments.images // 2} generated and as many real images")
    for what, one in (("first run ", first), ("second run", second)):
        print(f"{what} {one.seconds:8.1f} s wall, {one.processor:8.1f} s processor")
    print(f"ratio      {first.seconds / second.seconds:8.1f} wall, ", end="")
    print(f"{first.processor / second.processor:8.1f} processor")
    print(f"rows and report of both runs are {'the same bytes' if kept == again else 'DIFFERENT'}")


def score(
    root: Path, name: str, images: int, options: tuple[str, ...]
) -> tuple[Measured, list[bytes]]:
    """Score ``images`` generated against as many real images; the files that hold no time."""
    if not (root / name).is_dir():
        write_folders(root / name, images)
    folders, out = (root / name / "generated", root / name / "real"), root / f"{name}-run"
    files = ("--cache", root / f"{name}-cache", "--out", out)
    found = run_cas("score", *folders, *options, *files, environment=bytecode(root))
    return found, [(out / file).read_bytes() for file in SAME]


if __name__ == "__main__":
    main()
