"""Does a classifier gain from images that ``cas select`` kept?

``python -m benchmarks.selection OUT`` draws *faithful* and *half wrong* sets of the prompts of a
training split as ``benchmarks.paper.utility_on_phantoms`` does, chooses images of both by the
default rule and ``cas-v2``, and trains classifiers on all four with ``cas utility``; and on the
*known good* ones of the half-wrong set, more than which no choice can bring. It prints, paired by
seed and number of real images, the share of the gain of faithful over half wrong that the chosen
half-wrong images regain, and what is lost where images of the faithful set are chosen. An
interrupted run continues.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper.utility_on_phantoms import SEED, mix
from cas_metric import score, select, utility
from cas_metric.phantoms import canonical_domain
from cas_metric.phantoms.dataset import write_generated_set, write_phantom_dataset
from cas_metric.protocol import CALIBRATED_VERSION
from cas_metric.statistics.intervals import mean_interval

GOOD, BAD, KNOWN = "faithful", "half wrong", "half wrong, known good"


def known_good(mixed: Path, target: Path) -> Path:
    """The faithful images of the half-wrong set, in a folder of their own."""
    rows = pd.read_csv(mixed / "metadata.csv")
    kept = rows[rows["id"].str.startswith(GOOD)]
    shutil.copytree(mixed, target, dirs_exist_ok=True)
    kept.to_csv(target / "metadata.csv", index=False)
    for name in set(rows["file_name"]) - set(kept["file_name"]):
        (target / name).unlink(missing_ok=True)
    return target


def main() -> None:
    """Draw, score, choose, train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", default="phantom-chexpert", type=canonical_domain)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0])
    options = parser.parse_args()
    root = options.out / options.domain
    sizes = {"train": options.train, "test": options.test}
    real = write_phantom_dataset(options.domain, root / "real", **sizes, seed=SEED, balanced=True)
    made = root / "generated"
    for kind in (GOOD, "wrong"):
        write_generated_set(options.domain, real["train"], made / kind, kind=kind, seed=SEED)
    sets = {GOOD: made / GOOD, BAD: mix(made, "wrong")}
    cache = options.out / "cache"
    for name, folder in dict(sets).items():
        run = score(folder, real["train"], cache=cache, protocol=CALIBRATED_VERSION)
        chosen = select(run, cache=cache)
        sets[f"{name}, chosen"] = chosen.save(root / "chosen" / name)
        print(f"{name}: {chosen.summary['kept']} of {chosen.summary['images']} kept", flush=True)
    sets[KNOWN] = known_good(sets[BAD], made / KNOWN)
    trained = utility(
        *(real["train"], real["test"], sets),
        scales=options.scales,
        seeds=options.seeds,
        epochs=options.epochs,
        model="small",
        device="cpu",
        folder=root / "run",
    )
    trained.save()
    rows = pd.DataFrame(trained.tables["utility"])
    table = rows.pivot_table(index=["scale", "seed"], columns="method", values="accuracy")
    print(table.groupby("scale").mean().round(3).to_string())
    gain = table[GOOD] - table[BAD]
    regained = table[f"{BAD}, chosen"] - table[BAD]
    most = table[KNOWN] - table[BAD]
    lost = table[GOOD] - table[f"{GOOD}, chosen"]
    seeds = table.index.get_level_values("seed").to_numpy()
    told = {"gain of faithful": gain, "regained": regained, "known good": most, "lost": lost}
    for name, values in told.items():
        found = mean_interval(values.to_numpy(), clusters=seeds)
        print(f"{name}: {found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}] over seeds")
    shares = regained.mean() / gain.mean(), most.mean() / gain.mean()
    print(f"share regained: {shares[0]:.2f}; by the known good ones {shares[1]:.2f}")
    rest = mean_interval((regained - 0.7 * gain).to_numpy(), clusters=seeds)
    print(f"regained - 0.7 gain: {rest.estimate:+.3f} [{rest.low:+.3f}, {rest.high:+.3f}]")
    assert np.isfinite(table.to_numpy()).all()


if __name__ == "__main__":
    main()
