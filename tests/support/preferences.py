"""A table of preference pairs out of images that lie in a training folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from cas_metric.manifest import read_manifest
from craft_trainer.data.pairs import COLUMNS, TABLE


def write_pairs_of(images: Path, folder: Path) -> Path:
    """Pair every image of a manifest, as chosen, with the next one, as rejected."""
    rows = read_manifest(images).rows
    (folder / "images").mkdir(parents=True)
    for name in rows["image"]:
        shutil.copy(images / name, folder / "images" / name)
    table = pd.DataFrame(
        {
            "id": rows["id"],
            "prompt": rows["prompt"],
            "label": rows["label"],
            "chosen": "images/" + rows["image"],
            "rejected": "images/" + rows["image"].shift(-1, fill_value=rows["image"].iloc[0]),
            "margin": 1.0,
            "judge": "none",
            "reference": rows["id"],
        },
        columns=list(COLUMNS),
    )
    table.to_csv(folder / TABLE, index=False)
    return folder
