"""A run directory made up to the documented format, hard where real ones are hard.

Four classes, two methods of two seeds, failed and partial rows, a label and a prompt that hold
markup, prompts beyond the encoder's limit, images that are not on disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cas_metric.protocol import PRIMITIVES
from cas_metric.runs.folder import write_run
from cas_metric.statistics.aggregate import summarise
from cas_metric.statistics.tail import tail_statistics, threshold

CLASSES = ("Cardiomegaly", "No Finding", "Pleural Effusion", "<script>alert('label')</script>")
PROMPT = 'A "frontal" radiograph <b>with</b> </script><img src=x onerror=alert(1)> & a finding. '
TOKEN_LIMIT = 64


def write_synthetic_run(folder: Path, *, cases: int = 60, images: bool = True) -> Path:
    """Write a run below ``folder`` and return its directory; ``cases`` images a method and seed."""
    run, rng = folder / "run", np.random.default_rng(7)
    real = _rows(rng, "real", 0, cases, quality=0.6, sfs=1.0)
    floor = _rows(rng, "floor", 0, cases, quality=0.6)
    sets = [
        _rows(rng, method, seed, cases, quality=quality)
        for method, quality in (("CRAFT & co", 1.1), ("TI+LoRA", 0.55))
        for seed in (1, 2)
    ]
    rows = pd.concat(sets, ignore_index=True)
    _fail(rows)
    if images:
        _draw(folder, rows, rng)
    summary = summary_of(folder, rows, real, floor)
    return write_run(run, rows, summary, real=real, floor=floor)


def summary_of(
    folder: Path, rows: pd.DataFrame, real: pd.DataFrame, floor: pd.DataFrame
) -> dict[str, object]:
    """``summary.json`` of the rows, its figures from the statistics functions."""
    clean = real["cas"].to_numpy()
    methods = []
    for method, group in rows.groupby("method", sort=True):
        tail = tail_statistics(group["cas"], clean).as_dict()
        entry = summarise(group)
        methods.append({"method": method, **entry, "tail": tail})
    return {
        "protocol": "custom",
        "departures": ["evaluator: phantom-siglip (cas-v1: siglip)"],
        "domain": "phantom-chexpert",
        "embedded_world": True,
        "encoder": {
            "name": "phantom-siglip",
            "revision": "local",
            "fingerprint": "0f" * 32,
            "dim": 128,
            "token_limit": TOKEN_LIMIT,
        },
        "methods": methods,
        "real": summarise(real),
        "floor": summarise(floor),
        "tau": threshold(clean),
        "missing": {
            "vdc": {"images": 1, "of": 298, "reason": "no prompt", "add": "a `prompt` column"}
        },
        "failures": [
            {"set": "generated", "id": row.id, "image": row.image, "error": row.error}
            for row in rows[rows["status"] == "failed"].itertuples()
        ],
        "notes": ["2 real images take the prompt of their generated partners"],
        "provenance": {
            "command": ["cas", "score", "gen dir", "real", "--out", "run"],
            "device": "cpu",
            "versions": {"torch": "2.9", "cas-metric": "0.1.0"},
            "inputs": {
                "generated": {"root": str(folder / "gen"), "sha256": "ab" * 32},
                "real": {"root": str(folder / "real"), "sha256": "cd" * 32},
            },
        },
        "timing": {"seconds": 12.5},
    }


def _rows(
    rng: np.random.Generator, method: str, seed: int, n: int, quality: float, sfs: float = 0.0
) -> pd.DataFrame:
    tokens = rng.integers(20, 90, n)
    similarity = np.full(n, sfs) if sfs else rng.normal(0.5 + 0.4 * quality, 0.06, n).clip(0, 1)
    long = [i % 4 == 0 for i in range(n)]
    dd = (rng.random(n) < 0.3 + 0.6 * quality).astype(float)
    rows = pd.DataFrame(
        {
            "id": [f"{i:04d}" for i in range(n)],
            "method": method,
            "seed": pd.array([seed] * n, dtype="Int64"),
            "label": [CLASSES[i % 4] for i in range(n)],
            "prompt": [PROMPT + "opacity " * int(t) for t in tokens],
            "image": [f"{method}/{seed}/{i:04d}.png" for i in range(n)],
            "reference": [f"{i:04d}.png" for i in range(n)],
            "vdc": rng.normal(0.10 + 0.06 * quality, 0.02, n),
            "ccs": rng.normal(0.09 + 0.06 * quality, 0.02, n),
            "dd": dd,
            "dd_prob": np.clip(dd * 0.8 + rng.random(n) * 0.2, 0, 1),
            "sfs": similarity,
            "prompt_tokens": pd.array(tokens, dtype="Int64"),
            "checklist_tokens": pd.array([70 if cut else 50 for cut in long], dtype="Int64"),
            "prompt_truncated": pd.array(tokens > TOKEN_LIMIT, dtype="boolean"),
            "checklist_truncated": pd.array(long, dtype="boolean"),
            "status": "ok",
            "error": "",
        }
    )
    rows["cas"] = rows[list(PRIMITIVES)].mean(axis=1, skipna=False)
    return rows


def _fail(rows: pd.DataFrame) -> None:
    """Two images that could not be read, one without a prompt."""
    scores = [*PRIMITIVES, "dd_prob", "cas"]
    rows.loc[[3, 17], scores] = np.nan
    rows.loc[[3, 17], "status"] = "failed"
    rows.loc[3, "error"] = "gen/3.png: truncated file <i>after 12 bytes</i>"
    rows.loc[17, "error"] = "gen/17.png: not an image"
    rows.loc[29, ["vdc", "cas"]] = np.nan
    rows.loc[29, ["status", "error"]] = ["partial", "vdc: no prompt"]


def _draw(folder: Path, rows: pd.DataFrame, rng: np.random.Generator) -> None:
    """Draw most of the images; every seventh stays missing."""
    y, x = np.mgrid[0:64, 0:64]
    for index, row in enumerate(rows.to_dict("records")):
        centre = rng.uniform(20, 44, 2)
        blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 200)
        noise = rng.normal(0, 8, (64, 64, 3))
        pixels = np.clip(200 * blob[..., None] + 30 + noise, 0, 255).astype(np.uint8)
        for path in (folder / "gen" / row["image"], folder / "real" / row["reference"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            if index % 7:
                Image.fromarray(pixels).save(path)
