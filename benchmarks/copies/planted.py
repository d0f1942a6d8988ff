"""Which detectors find which copies: the default command on planted copies, before and after.

    python -m benchmarks.copies.planted ROOT [--half first|second] [--worlds …] [--copies 20]
        [--fresh 200] [--real 200] [--ssim-size 256] [--encoder SPEC]

Writes the worlds of :mod:`benchmarks.copies.worlds` below ``ROOT`` once and the flags of every
image into ``ROOT/flags-WORLD-HALF.csv``, so that an interrupted run goes on where it was. *Before*
are the detectors of Appendix M, SSIM or pHash at their fixed thresholds; *after* is the column
``copy``: the aligned copy, or SSIM or pHash beyond what unseen real images reach.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd

from benchmarks.copies.alterations import ALTERATIONS
from benchmarks.copies.worlds import HALVES, WORLDS, write_world
from cas_metric.statistics.tables import markdown_table

DETECTORS = ("SSIM", "pHash", "matched points", "aligned copy")


def flags_of(folder: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Kind, flags, and whether the aligned training image is the true source, of each image."""
    from cas_metric import memorization
    from cas_metric.manifest import read_manifest

    kinds = pd.read_csv(folder / "kinds.csv", keep_default_na=False)
    place = kinds.groupby("kind").cumcount()
    kept = place < kinds["kind"].eq("").map({True: options.fresh, False: options.copies})
    rows = read_manifest(folder / "gen").rows[kept.to_numpy()].reset_index(drop=True)
    rows["image"] = [str(folder / "gen" / name) for name in rows["image"]]
    tests = read_manifest(folder / "test").rows[: options.real].reset_index(drop=True)
    tests["image"] = [str(folder / "test" / name) for name in tests["image"]]
    found = memorization(
        rows[["id", "image"]], folder / "train", tests[["id", "image"]] if len(tests) else None,
        ssim_size=options.ssim_size, features=bool(options.encoder), encoder=options.encoder,
        device="cpu",
    )  # fmt: skip
    table = found.tables["per_image"][
        ["flags", "copy", "copy_image", "copy_score", "copy_transform"]
    ]
    table = table.assign(kind=kinds.loc[kept, "kind"].to_numpy())
    return table.assign(
        right=table["copy_image"].to_numpy() == kinds.loc[kept, "source"].to_numpy()
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Hits of each detector: one row a kind, the fresh images last."""
    marks = table["flags"].fillna("").str.split(", ")
    hits = pd.DataFrame({name: marks.map(lambda m, n=name: n in m) for name in DETECTORS})
    hits["after"] = table["copy"]
    hits["before"] = hits["SSIM"] | hits["pHash"]
    hits["right source"] = hits["aligned copy"] & table["right"]
    order = [*ALTERATIONS, ""]
    counts = hits.groupby(table["kind"].fillna("")).sum().reindex(order)
    counts.insert(0, "n", table["kind"].fillna("").value_counts().reindex(order))
    return counts.rename(index={"": "fresh images"})


def side_by_side(tables: dict[str, pd.DataFrame]) -> str:
    """All worlds in one table: SSIM, pHash, either (before) → aligned copy, ``copy`` (after)."""
    cells = {
        world: [
            f"{row['SSIM']} {row['pHash']} {row['before']} → {row['aligned copy']} {row['after']}"
            + (f" of {row['n']}" if name == "fresh images" else "")
            for name, row in table.iterrows()
        ]
        for world, table in tables.items()
    }
    kinds = [str(name) for name in next(iter(tables.values())).index]
    return markdown_table(
        ["planted", *cells], [list(row) for row in zip(kinds, *cells.values(), strict=True)]
    )


def main() -> None:
    """Plant, search and print one table a world, then all side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--half", choices=HALVES, default=HALVES[0])
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=WORLDS)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=200)
    parser.add_argument("--real", type=int, default=200, help="unseen real images; 0: none")
    parser.add_argument("--ssim-size", type=int, default=256)
    parser.add_argument("--encoder")
    options = parser.parse_args()
    tables = {}
    for world in options.worlds:
        folder = write_world(world, options.half, options.root)
        kept = options.root / f"flags-{world}-{options.half}.csv"
        start = time.process_time()
        if not kept.is_file():
            flags_of(folder, options).to_csv(kept, index=False)
        print(f"\n{world}, {options.half} half; {time.process_time() - start:.0f} CPU s\n")
        tables[world] = summary(pd.read_csv(kept)).astype(int)
        table = tables[world].astype(str).reset_index(names="planted")
        print(markdown_table([*table], table.to_numpy().tolist()), flush=True)
    print(f"\n{side_by_side(tables)}")


if __name__ == "__main__":
    main()
