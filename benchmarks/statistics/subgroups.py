"""How often `--by` finds a planted gap between groups, and gaps that are not there.

    python -m benchmarks.statistics.subgroups --draws 400

CAS are drawn as real ones lie: two modes a quarter apart (the diagnosis is right or wrong) around
0.3. Three attributes of two to four groups; the gap is planted between the two groups of one.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from cas_metric.statistics.subgroups import attribute_groups, subgroups


def draw(
    rng: np.random.Generator, size: int, per: int, gap: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and attributes of ``size`` images in each of two groups, ``per`` of each patient."""
    patients = 2 * size // per
    own = pd.DataFrame(
        {
            "sex": np.repeat(["f", "m"], patients // 2),
            "age": rng.integers(20, 90, patients).astype(str),
            "site": rng.choice(["a", "b", "c"], patients),
        }
    )
    table = own.loc[np.repeat(np.arange(patients), per)].reset_index(drop=True)
    right = rng.random(len(table)) < np.repeat(rng.beta(6, 2, patients), per)
    cas = 0.3 + 0.25 * right + rng.normal(0, 0.05, len(table)) - gap * (table["sex"] == "m")
    names = np.repeat(np.arange(patients), per).astype(str)
    return pd.DataFrame({"cas": cas, "status": "ok", "patient": names}), table


def main() -> None:
    """Print false alarms and power as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    draws = parser.parse_args().draws
    print(
        "| images a group | a patient | any false alarm | gap of 0.05 found | interval holds it |"
    )
    print("| --- " * 5 + "|")
    for size, per in ((500, 1), (500, 5), (100, 1), (50, 1)):
        alarms = found = held = 0
        for seed in range(draws):
            for gap in (0.0, 0.05):
                rows, table = draw(np.random.default_rng([seed, size]), size, per, gap)
                groups = attribute_groups(table, ["sex", "age", "site"])
                gaps = subgroups(rows, groups, tau=0.5, permutations=499, seed=seed).gaps
                planted = gaps[(gaps["attribute"] == "sex") & (gaps["quantity"] == "cas")].iloc[0]
                if gap:
                    found += planted["p"] <= 0.05
                    held += planted["low"] <= gap <= planted["high"]
                else:
                    alarms += (gaps["p"] <= 0.05).any()
        shares = " | ".join(f"{count / draws:.3f}" for count in (alarms, found, held))
        print(f"| {size} | {per} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
