"""Statistics from parts beside those of all rows: the same numbers, in how much memory?

``python -m benchmarks.statistics.partitions [--images 1000000] [--cases 20000]``

Rows are drawn and written as parts of 4,096 images; each way of reading them is a process of its
own, whose peak resident memory is read from the kernel.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from cas_metric.engine.partitions import statistics
from cas_metric.engine.parts import MOST
from cas_metric.statistics.aggregate import QUANTITIES, summarise
from cas_metric.statistics.tail import threshold

LABELS = np.array(["Cardiomegaly", "Edema", "No Finding", "Pleural Effusion"])


def drawn(rng: np.random.Generator, n: int, cases: int) -> pd.DataFrame:
    """Rows of ``n`` images of ``cases`` cases, one in a thousand unreadable."""
    case = rng.integers(cases, size=n)
    values = rng.normal(0.3, 0.05, (n, 3)).round(6) + (case % 7)[:, None] * 0.01
    dd = (rng.random(n) < 0.9).astype(float)
    rows = pd.DataFrame(values, columns=["vdc", "ccs", "sfs"]).assign(dd=dd, dd_prob=dd)
    rows["cas"] = rows[["vdc", "ccs", "dd", "sfs"]].mean(axis=1).round(6)
    failed = rng.random(n) < 0.001
    rows.loc[failed, list(QUANTITIES)] = np.nan
    return rows.assign(
        id=[f"image-{number}" for number in range(n)],
        method="drawn",
        label=LABELS[case % len(LABELS)],
        reference=[f"real-{number}" for number in case],
        status=np.where(failed, "failed", "ok"),
    )


def read(way: str, folder: Path) -> dict[str, Any]:
    """Statistics of the parts in a folder, from sums or from all rows."""
    paths = sorted(folder.glob("part-*.parquet"))
    real = pd.read_parquet(folder / "real.parquet")
    started = time.perf_counter()
    if way == "parts":
        parts = [SimpleNamespace(name=path.name) for path in paths]
        work, head = SimpleNamespace(folder=folder), SimpleNamespace(real=real)
        parted: Any = SimpleNamespace(work=work, parts=parts, head=head)
        (found,) = statistics(parted)["methods"]
        low, p10 = found["tail"]["n_low"], found["tail"]["p10"]
    else:
        rows = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
        found = summarise(rows)
        cas = rows["cas"].dropna().to_numpy()
        low, p10 = (
            int((cas < threshold(real["cas"].to_numpy())).sum()),
            float(np.quantile(cas, 0.1)),
        )
    ends = [number for name in QUANTITIES for number in found["interval"][name]]
    return {
        "counts": [found["n"], found["n_failed"], found["clusters"], low],
        "numbers": [*(found["mean"][name] for name in QUANTITIES), *ends, p10],
        "seconds": time.perf_counter() - started,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Draw, read both ways, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read[0], Path(options.read[1]))))
        return
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, start in enumerate(range(0, options.images, MOST)):
            rows = drawn(rng, min(MOST, options.images - start), options.cases)
            rows.to_parquet(folder / f"part-{number:06d}.parquet", index=False)
        names = [f"real-{number}" for number in range(options.cases)]
        cas = drawn(rng, options.cases, options.cases)["cas"].fillna(0.4).to_numpy()
        pd.DataFrame({"image": names, "cas": cas}).to_parquet(folder / "real.parquet")
        found = {}
        for way in ("parts", "rows"):
            command = [
                sys.executable,
                "-m",
                "benchmarks.statistics.partitions",
                "--read",
                way,
                name,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way] = one = json.loads(done.stdout)
            print(f"{way}: {one['seconds']:.1f} s, peak {one['peak']:,.0f} MiB, {one['counts']}")
        assert found["parts"]["counts"] == found["rows"]["counts"]
        first, second = (np.array(found[way]["numbers"]) for way in ("parts", "rows"))
        print(f"largest difference of {len(first)} numbers: {np.abs(first - second).max():.1e}")


if __name__ == "__main__":
    main()
