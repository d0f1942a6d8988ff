"""What SSIM and pHash must exceed to call an image a copy, and whom that finds.

    python -m benchmarks.copies.pixel_limits ROOT [--half first|third] [--worlds …]

Takes the worlds of :mod:`benchmarks.copies.planted` below ``ROOT``: 10 planted copies of each kind,
100 fresh images, and the real test images that set the limits. *Linear* is the rule before, 2.5
times the way from the median of real images to their 95th percentile; *z* the same on Fisher's z.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.copies.worlds import HALVES, WORLDS, write_world
from cas_metric import memorization
from cas_metric.copies import analysis, chance
from cas_metric.manifest import read_manifest
from cas_metric.statistics.tables import markdown_table

COPIES, FRESH, REAL = 10, 100, 200


def linear(usual: dict[str, chance.Usual]) -> dict[str, float]:
    """The limits of before."""
    similar, differing = usual["SSIM"].nearest, usual["pHash"].nearest
    middle, high = np.quantile(similar[np.isfinite(similar)], [0.5, 0.95])
    low, half = np.quantile(differing, [0.05, 0.5])
    return {
        "SSIM": max(0.95, float(middle + chance.MARGIN * (high - middle))),
        "pHash": min(5.0, float(half - chance.MARGIN * (half - low))),
    }


def rows(folder: Path) -> list[list[object]]:
    """Limits and hits by either rule."""
    kinds = pd.read_csv(folder / "kinds.csv", keep_default_na=False)["kind"]
    place = kinds.groupby(kinds).cumcount()
    kept = (place < np.where(kinds == "", FRESH, COPIES)).to_numpy()
    sets = []
    for name, chosen in (("gen", kept), ("test", slice(REAL))):
        one = read_manifest(folder / name).rows[chosen].reset_index(drop=True)
        sets.append(one.assign(image=[str(folder / name / image) for image in one["image"]]))
    usual: dict[str, chance.Usual] = {}

    def seen(found: dict[str, chance.Usual] | None) -> dict[str, float]:
        usual.update(found or {})
        return chance.thresholds(found)

    with patch.object(analysis, "thresholds", seen):
        found = memorization(
            sets[0][["id", "image"]], folder / "train", sets[1][["id", "image"]],
            ssim_size=256, features=False, geometry=False, device="cpu",
        )  # fmt: skip
    table, fresh = found.tables["per_image"], (kinds[kept] == "").to_numpy()
    told = []
    for rule, limits in (("linear", linear(usual)), ("z", chance.thresholds(usual))):
        similar = table["ssim"].to_numpy(float) > limits["SSIM"]
        hashed = table["phash"].to_numpy(float) <= limits["pHash"]
        real = usual["SSIM"].nearest > limits["SSIM"], usual["pHash"].nearest <= limits["pHash"]
        for name, hits, own in (("SSIM", similar, real[0]), ("pHash", hashed, real[1])):
            told.append(
                [
                    *(rule, name, f"{limits[name]:.3f}"),
                    f"{hits[~fresh].sum()} of {(~fresh).sum()}",
                    f"{hits[fresh].sum()} of {fresh.sum()}",
                    f"{own.sum()} of {len(own)}",
                ]
            )
    return told


def main() -> None:
    """Print a row a world, rule and detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--half", choices=list(HALVES), default="first")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    options = parser.parse_args()
    found: list[list[object]] = []
    for world in options.worlds:
        folder = write_world(world, options.half, options.root)
        found += [[world, *row] for row in rows(folder)]
    headings = ["world", "rule", "detector", "limit", "copies", "fresh", "real"]
    print(markdown_table(headings, found))


if __name__ == "__main__":
    main()
