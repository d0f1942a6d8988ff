"""How often ``cas gate`` fails a run that did not change, and one that did.

``python -m benchmarks.gate SCRATCH`` scores several generation seeds of a faithful phantom set and
one degraded set once; then reruns are drawn from them: new cases (with replacement, each a case of
its own), and for each case one seed for the baseline and another for the rerun. The rules sit where
they are hardest to keep: no margin, and limits at the true value.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from cas_metric import score
from cas_metric.gating import Policy, Rule, decide, overall
from cas_metric.phantoms.dataset import write_generated_set, write_phantom_dataset
from cas_metric.statistics.aggregate import scored
from cas_metric.statistics.tail import low_rate, threshold

DOMAIN = "phantom-chexpert"
METRICS = ("cas", "vdc", "ccs", "dd", "sfs", "low_rate")


def pool(scratch: Path, cases: int, seeds: int) -> tuple[pd.DataFrame, ...]:
    """Rows of the faithful seeds, of a degraded set, and of the real images."""
    folders = write_phantom_dataset(
        DOMAIN, scratch / "real", train=400, test=cases, seed=77, balanced=True
    )
    tables = []
    for kind, seed in [*(("faithful", seed) for seed in range(seeds)), ("degraded", 0)]:
        made = write_generated_set(
            DOMAIN, folders["test"], scratch / f"{kind}-{seed}", kind=kind, seed=seed
        )
        run = score(made, folders["test"], cache=scratch / "cache")
        tables.append(scored(run.rows))
    assert run.real is not None
    return pd.concat(tables[:-1], ignore_index=True), tables[-1], run.real


def drawn(table: pd.DataFrame, places: np.ndarray, key: str) -> pd.DataFrame:
    """The rows at some places, each under a case of its own."""
    rows = table.iloc[places].reset_index(drop=True)
    names = [f"case-{k}" for k in range(len(rows))]
    patient = {"patient": names} if "patient" in rows else {}
    return rows.assign(**{key: names}, **patient, method="m")


def policies(faithful: pd.DataFrame, real: pd.DataFrame) -> dict[str, Policy]:
    """Rules without a margin against the baseline, and at the true values."""
    tau = threshold(real["cas"])
    truth = {name: float(faithful[name].mean()) for name in METRICS if name != "low_rate"}
    rate = low_rate(faithful["cas"], tau)
    limits = [Rule(metric=name, at_least=value) for name, value in truth.items()]
    return {
        "one rule: cas against baseline": Policy(rules=[Rule(metric="cas", against="baseline")]),
        "six rules against baseline": Policy(
            rules=[Rule(metric=name, against="baseline") for name in METRICS]
        ),
        "cas against baseline, each class": Policy(
            rules=[Rule(metric="cas", against="baseline", label="each")]
        ),
        "six limits at the true values": Policy(
            rules=[*limits, Rule(metric="low_rate", at_most=rate)]
        ),
    }


def main() -> None:
    """Print the share of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--reruns", type=int, default=1000)
    parser.add_argument("--degraded", type=int, default=100, help="reruns of the degraded set")
    parser.add_argument("--cases", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 60, 120])
    options = parser.parse_args()
    faithful, degraded, real = pool(options.scratch, options.cases, options.seeds)
    faithful = faithful.sort_values(["reference", "seed"], kind="stable")
    degraded, real = degraded.sort_values("reference"), real.sort_values("image")
    assert list(degraded["reference"]) == list(real["image"])
    print(f"{options.reruns} reruns; pass / fail / undecided")
    for size in options.sizes:
        for name, policy in policies(faithful, real).items():
            rng = np.random.default_rng(size)
            found = {"unchanged": Counter[str](), "degraded": Counter[str]()}
            for number in range(options.reruns):
                cases = rng.integers(len(real), size=size)
                seeds = rng.permuted(np.tile(np.arange(options.seeds), (size, 1)), axis=1)
                base, new = (
                    drawn(faithful, cases * options.seeds + seeds[:, k], "reference")
                    for k in (0, 1)
                )
                tables = {"real": drawn(real, cases, "image"), "baseline": base}
                told = [("unchanged", new)]
                if number < options.degraded:
                    told.append(("degraded", drawn(degraded, cases, "reference")))
                for what, rows in told:
                    found[what][overall(decide(policy, rows, tables))] += 1
            for what, counts in found.items():
                shares = " / ".join(
                    f"{counts[word] / counts.total():.3f}" for word in ("pass", "fail", "undecided")
                )
                print(f"{size:4d} cases  {name:36s}{what:12s}{shares}", flush=True)


if __name__ == "__main__":
    main()
