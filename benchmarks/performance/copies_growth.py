"""Time a query and peak memory as the training set grows: alignment, SSIM, and plain loops.

    python -m benchmarks.performance.copies_growth [--counts 500 1000 2000 4000] [--queries 10]
    python -m benchmarks.performance.copies_growth --shortlist 20000 100000 --queries 64

All sides run on the same drawings, in one process a count. *aligned*: shortlist and geometry; its
index is built once, outside of the time of a query. *SSIM*: ours, exact maxima. *scikit-image*:
``structural_similarity`` pair by pair, and *NCC*: OpenCV's normalised cross-correlation of the
query over each training image padded by an eighth, in both mirrors; both on a sample of pairs and
extrapolated. *torchmetrics*: its SSIM on batches, likewise. CPU seconds a query; memory is what the
process grows by at most while a side works (that of *aligned* with its index, mapped pages
included), beside the training pictures.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from cas_metric.copies import aligned
from cas_metric.copies.keypoints import Keypoints, on_disk
from cas_metric.copies.shortlist import Shortlist
from cas_metric.copies.ssim_search import Search, nearest
from cas_metric.phantoms import make_phantom

SIDE = 128
DOMAIN = "phantom-origa"
#: Pairs that the loops are measured on.
SAMPLE = 64


def drawings(count: int, first: int) -> np.ndarray:
    """``(count, SIDE, SIDE)`` grey drawings."""
    names = ("Normal", "Glaucoma")
    drawn = (make_phantom(DOMAIN, names[k % 2], first + k, SIDE).image for k in range(count))
    return np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in drawn])


def described(pictures: np.ndarray) -> Keypoints:
    """Their local features."""
    points = Keypoints.empty(len(pictures))
    for row, picture in enumerate(pictures):
        points.put(row, picture)
    return points


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def resident(name: str) -> float:
    """MB of this process: ``VmRSS`` now, or ``VmHWM``, the peak since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def growth(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds, and MB by which the process grew at most."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before = resident("VmRSS")
    spent = seconds(work)
    return spent, resident("VmHWM") - before


def ncc(query: np.ndarray, other: np.ndarray) -> float:
    """Greatest normalised cross-correlation over shifts and both mirrors."""
    padded = cv2.copyMakeBorder(other, *[SIDE // 8] * 4, cv2.BORDER_REPLICATE)
    return max(
        float(cv2.matchTemplate(padded, one, cv2.TM_CCOEFF_NORMED).max())
        for one in (query, np.ascontiguousarray(query[:, ::-1]))
    )


def one(count: int, queries: int) -> dict[str, float]:
    """CPU seconds a query and MB of each side against ``count`` images."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train, ours = drawings(count, 0), drawings(queries, 1_000_000)
    points = described(ours)
    found: dict[str, float] = {}

    def align() -> None:
        theirs, built = described(train), []
        found["index"] = seconds(lambda: built.append(Shortlist(theirs))) / count
        rows = np.arange(queries)
        found["aligned"] = seconds(lambda: aligned.search(points, rows, theirs, *built)) / queries

    found["aligned, MB"] = growth(align)[1]
    tiny = ours[:1].astype(np.float32)
    nearest(tiny, tiny, Search(workers=1))  # compile before the clock starts
    batch = torch.from_numpy(train[:SAMPLE, None].astype(np.float32))
    same = torch.from_numpy(ours[:1, None].astype(np.float32)).expand_as(batch)
    some, query = train[:SAMPLE], ours[0]
    sides: dict[str, tuple[float, Callable[[], object]]] = {
        "SSIM": (
            1 / queries,
            lambda: nearest(ours.astype(np.float32), train.astype(np.float32), Search(workers=1)),
        ),
        "scikit-image": (
            count / SAMPLE,
            lambda: [structural_similarity(query, other) for other in some],
        ),
        "NCC": (count / SAMPLE, lambda: [ncc(query, other) for other in some]),
        "torchmetrics": (
            count / SAMPLE,
            lambda: structural_similarity_index_measure(
                same, batch, data_range=255.0, reduction="none"
            ),
        ),
    }
    for name, (scale, work) in sides.items():
        spent, grown = growth(work)
        found |= {name: scale * spent, f"{name}, MB": grown}
    return found


def shortlist(count: int, queries: int) -> dict[str, float]:
    """CPU seconds a query of the shortlist in an index of ``count`` rows, and peak memory in MB."""
    cv2.setNumThreads(1)
    index = Shortlist(described(drawings(200, 0)))
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.standard_normal(1_000_000).astype(np.float32)
    found = {"GB on disk": 0.0}
    for name in ("_histograms", "_windows", "_zoomed"):
        known = np.asarray(getattr(index, name))
        rows = on_disk((count, *known.shape[1:]), np.float32)
        for start in range(0, count, len(known)):
            block = known[: count - start].ravel()
            at = int(rng.integers(1000))
            rows[start : start + len(known)] = (block + np.resize(noise[at:], len(block))).reshape(
                -1, *known.shape[1:]
            )
        setattr(index, name, rows)
        found["GB on disk"] += rows.nbytes / 1e9
    index._blocks = [slice(k, min(k + 256, count)) for k in range(0, count, 256)]
    ours = described(drawings(queries, 1_000_000))
    start = time.process_time()
    for row in range(0, queries, 32):
        index.candidates(ours, range(row, min(row + 32, queries)))
    found["shortlist"] = (time.process_time() - start) / queries
    found["MB that are no mapped pages"] = resident("RssAnon")
    found["peak MB, mapped pages included"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return found


def main() -> None:
    """Measure every count in a process of its own and fit the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--shortlist", type=int, nargs="+", default=[])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.queries)))
        return
    if options.shortlist:
        for count in options.shortlist:
            print(count, shortlist(count, options.queries), flush=True)
        return
    rows: list[dict[str, float]] = []
    for count in options.counts:
        command = [sys.executable, "-m", "benchmarks.performance.copies_growth"]
        command += ["--one", str(count), "--queries", str(options.queries)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        print(count, {name: round(value, 4) for name, value in rows[-1].items()}, flush=True)
    if len(rows) > 1:
        logs = np.log(options.counts)
        slopes = {
            k: float(np.polyfit(logs, np.log([max(r[k], 1e-3) for r in rows]), 1)[0])
            for k in rows[0]
        }
        print("exponent", {name: round(value, 2) for name, value in slopes.items()})


if __name__ == "__main__":
    main()
