"""Run directories with made-up scores, for what reads runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cas_metric.runs.folder import write_run

CLASSES = ("benign", "malignant")


def score_rows(
    method: str,
    *,
    n: int = 80,
    seeds: tuple[int, ...] = (0,),
    means: tuple[float, float, float, float] = (0.15, 0.14, 0.6, 0.85),
    seed: int = 0,
    sfs_one: bool = False,
) -> pd.DataFrame:
    """Rows with the given means of VDC, CCS, DD and SFS; image k refers to ``real/k.png``.

    The 0/1 DD of a method is 1 for the first cases, so that any two methods are correlated.
    """
    rng = np.random.default_rng([seed, *method.encode()])
    tables = []
    for number in seeds:
        dd = (np.arange(n) < round(n * means[2])).astype(float)
        frame = pd.DataFrame(
            {
                "id": [f"{k}" for k in range(n)],
                "method": method,
                "seed": number,
                "label": [CLASSES[k % 2] for k in range(n)],
                "image": [f"real/{k}.png" if sfs_one else f"{method}/{k}.png" for k in range(n)],
                "reference": [f"real/{k}.png" for k in range(n)],
                "vdc": rng.normal(means[0], 0.03, n),
                "ccs": rng.normal(means[1], 0.03, n),
                "dd": dd,
                "dd_prob": np.clip(rng.normal(0.25 + 0.5 * dd, 0.1, n), 0, 1),
                "sfs": 1.0 if sfs_one else rng.normal(means[3], 0.03, n),
            }
        )
        frame["cas"] = frame[["vdc", "ccs", "dd", "sfs"]].mean(axis=1)
        tables.append(frame)
    rows = pd.concat(tables, ignore_index=True)
    return rows.assign(
        prompt_tokens=10,
        checklist_tokens=40,
        prompt_truncated=False,
        checklist_truncated=False,
        status="ok",
        error="",
    )


def write_score_run(
    directory: Path,
    method: str,
    *,
    fingerprint: str = "abc",
    real_dd: float = 0.75,
    **options: object,
) -> Path:
    """A run of one method with its real and floor tables."""
    n = int(options.get("n", 80))  # type: ignore[call-overload]
    real = score_rows("Real", n=n, means=(0.154, 0.135, real_dd, 1.0), sfs_one=True)
    summary = {
        "protocol": "cas-v1",
        "departures": [],
        "encoder": {"name": "phantom-siglip", "fingerprint": fingerprint},
        "methods": [],
    }
    return write_run(
        directory,
        score_rows(method, **options),  # type: ignore[arg-type]
        summary,
        real=real,
        floor=real.assign(method="Floor", sfs=0.8, cas=real["cas"] - 0.05),
    )
