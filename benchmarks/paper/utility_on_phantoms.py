"""Downstream utility of sets of known quality, and its correlation with CAS (Figure 3, Table 13).

    python -m benchmarks.paper.utility_on_phantoms [--domain phantom-chexpert] [--train 200]
        [--test 300] [--seeds 5] [--epochs 40] [--out runs/utility]

Five methods answer the prompts of the training split: *faithful*, *degraded* and *wrong* as in the
demo, and two that are faithful every other time. Scores them with ``cas score`` and hands them to
``cas utility --run``. An interrupted run continues.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from cas_metric.phantoms import canonical_domain
from cas_metric.phantoms.dataset import KINDS, write_generated_set, write_phantom_dataset

#: Sets in which every other image is taken from ``faithful``.
MIXED = ("degraded", "wrong")
SEED = 3_000_000


def mix(folder: Path, kind: str) -> Path:
    """A set whose images are in turn faithful and of ``kind``."""
    target = folder / f"half {kind}"
    if target.exists():
        return target
    partial = folder / f".half {kind}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    tables = [pd.read_csv(folder / name / "metadata.csv") for name in ("faithful", kind)]
    rows = [tables[row % 2].iloc[row] for row in range(len(tables[0]))]
    for row, entry in enumerate(rows):
        source = folder / ("faithful", kind)[row % 2]
        shutil.copyfile(source / entry["file_name"], partial / entry["file_name"])
    pd.DataFrame(rows).assign(method=target.name).to_csv(partial / "metadata.csv", index=False)
    shutil.copyfile(folder / kind / "cas.yaml", partial / "cas.yaml")
    return partial.rename(target)


def cas(*arguments: object) -> None:
    """Run ``cas``; it must succeed."""
    command = [sys.executable, "-m", "cas_metric.cli.main", *map(str, arguments)]
    subprocess.run(command, check=True)


def main() -> None:
    """Draw, score, train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--domain", default="phantom-chexpert", type=canonical_domain)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/utility"))
    options = parser.parse_args()
    root = options.out / options.domain
    sizes = {"train": options.train, "test": options.test}
    real = write_phantom_dataset(options.domain, root / "real", **sizes, seed=SEED, balanced=True)
    generated = root / "generated"
    sets = [
        write_generated_set(options.domain, real["train"], generated / kind, kind=kind, seed=SEED)
        for kind in KINDS
    ]
    sets += [mix(generated, kind) for kind in MIXED]
    runs = []
    for folder in sets:
        run = root / "scores" / folder.name
        runs += ["--run", run]
        if not (run / "summary.json").is_file():
            # The probe of DD is cross-fitted: the training split is what is scored against.
            cas("score", folder, real["train"], "--cache", options.out / "cache", "--out", run)
    settings = ["--model", "small", "--seeds", options.seeds, "--epochs", options.epochs]
    settings += ["--device", "cpu", "--out", root / "run", *runs]
    cas("utility", real["train"], real["test"], *sets, *settings)


if __name__ == "__main__":
    main()
