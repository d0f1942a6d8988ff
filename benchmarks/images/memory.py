"""Peak memory of decoding files that are small on disk and large in memory, against its bounds.

``python -m benchmarks.images.memory [--side 2048] [--threads 8]``

Each file is decoded in a process of its own, through the code that scoring uses, once for an
encoder that squashes and once for one that crops; the peak of resident memory above what the
process held before is set beside :func:`cas_metric.images.decoding_cost`. Then threads decode
many of the files at once, which must stay within the budget that they share.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from benchmarks.images.bombs import BOMBS, REFUSED
from cas_metric.embedding.decoding import Decoded, decode, hash_files, ordered_map
from cas_metric.encoders.preprocessing import from_processor
from cas_metric.errors import ImageError
from cas_metric.images import MAX_BYTES, Window, decoding_cost

MEBI = 2**20
SMALL = 64  # side of the picture that warms a decoder up
WINDOWED = ("int8.tif", "float32.tif", "float64.tif", "grey32-deflated.dcm")
GEOMETRIES = {
    "squash": lambda: SiglipImageProcessorPil(size={"height": 448, "width": 448}),
    "crop": lambda: CLIPImageProcessorPil(
        size={"shortest_edge": 448}, crop_size={"height": 448, "width": 448}
    ),
}


def main() -> None:
    """Measure every file by itself, then all of them at once, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=8)
    arguments = parser.parse_args()
    compare(arguments.side, arguments.threads)


def compare(side: int, threads: int) -> None:
    """Write the files, measure each in a process, and say whether the bounds held."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'file':>22} {'on disk':>10} {'bound':>9} {'peak':>9}  bytes a pixel")
        worst = 0.0
        for file, write in BOMBS.items():
            write(folder / file, side)
            write(folder / f"small-{file}", SMALL)
            found = [_child(measure, folder / file, geometry) for geometry in GEOMETRIES]
            peak, cost = max(one["peak"] for one in found), found[0]["cost"]
            worst = max(worst, peak / cost)
            size = (folder / file).stat().st_size
            print(
                f"{file:>22} {size / 1024:>6.0f} KiB {cost / MEBI:>5.0f} MiB {peak / MEBI:>5.0f} "
                f"MiB  {peak / side**2:.1f}  {found[0]['outcome']}",
                flush=True,
            )
        print(f"largest share of its bound that a file took: {worst:.2f}")
        for file, write in REFUSED.items():
            write(folder / file, side)
            found = _child(measure, folder / file, "squash")
            print(f"{file:>22} {'':>20} {found['peak'] / MEBI:>5.0f} MiB  {found['outcome']}")
        found = _child(measure_all, folder, threads)
        print(
            f"{threads} threads, {found['files']} files, {found['failed']} of them failed: "
            f"peak {found['peak'] / MEBI:.0f} MiB, budget {MAX_BYTES / MEBI:.0f} MiB"
        )


def _child(work: Callable[..., dict], *arguments: object) -> dict:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, arguments)


def measure(path: Path, geometry: str) -> dict:
    """Peak memory, bound and outcome of one file; in a process of its own."""
    encoder = _encoder(geometry)
    warm = path.with_name(f"small-{path.name}")
    if warm.exists():
        _decode(warm, encoder)
    peak, result = peak_after(lambda: _decode(path, encoder))
    outcome = "read" if isinstance(result, Decoded) else str(result).partition(": ")[2]
    try:
        cost = decoding_cost(path, resized_to=encoder.image_size)
    except ImageError:
        cost = 0
    return {"peak": peak, "cost": cost, "outcome": outcome}


def measure_all(folder: Path, threads: int) -> dict:
    """Peak memory of all files of a folder, several times each, decoded by threads."""
    encoder = _encoder("crop")
    small = sorted(folder.glob("small-*"))
    for path in small:
        _decode(path, encoder)
    files = 2 * [path for path in sorted(folder.iterdir()) if path not in small]

    def work() -> list[bool]:
        decoded = ordered_map(
            lambda path: isinstance(_decode(path, encoder), Decoded),
            files,
            workers=threads,
            ahead=2 * threads,
        )
        return list(decoded)

    peak, read = peak_after(work)
    return {"peak": peak, "files": len(files), "failed": read.count(False)}


def _encoder(geometry: str) -> types.SimpleNamespace:
    preprocessing = from_processor(GEOMETRIES[geometry]())
    return types.SimpleNamespace(
        image_size=preprocessing.size, official_preprocess=preprocessing.official
    )


def _decode(path: Path, encoder: types.SimpleNamespace) -> Decoded | str:
    (state,) = hash_files([path], 1)
    named = path.name.removeprefix("small-")
    return decode(path, state, Window(0, 200) if named in WINDOWED else None, encoder)


def peak_after(work: Callable[[], object]) -> tuple[int, object]:
    """Bytes that resident memory rose by, at its peak, while ``work`` ran; and its result."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _peak()
    result = work()
    return _peak() - before, result


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
