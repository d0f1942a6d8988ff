"""The same question on real photographs: planted failures under encoders trained on others.

    python -m benchmarks.validity.photographs skin ENCODER [--out runs/validity-v2] [--images 120]

Images that the encoder was not trained on: the critic's part fits probe and expectation, the test
part is what images are ranked among and what failures are made of. Failing images are compared with
``another``, an unspoilt image of the class. CAS_REAL_DATA names the folder of the photographs.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.real import planted
from benchmarks.real.pictures import WORLDS, data_folder, read_pictures
from cas_metric.calibrated.alignment import calibrate
from cas_metric.calibrated.measures import measure
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.manifest import Manifest, read_manifest
from cas_metric.scoring.pipeline import score_manifests
from cas_metric.statistics.tables import markdown_table
from cas_metric.statistics.uncertainty import resampling_counts

SCORES = ("alignment", "cas", "vdc", "ccs", "dd", "dd_prob", "sfs")


def noisy(image: Image.Image) -> Image.Image:
    """White noise of a standard deviation of 40 grey levels."""
    pixels = np.asarray(image, dtype=float)
    spoilt = pixels + np.random.default_rng(0).normal(scale=40, size=pixels.shape)
    return Image.fromarray(spoilt.clip(0, 255).astype(np.uint8))


def split(world: str, out: Path) -> dict[str, Manifest]:
    """Tables of the parts that the encoder has not seen."""
    pictures, found = read_pictures(WORLDS[world]), {}
    names, folder = WORLDS[world].domain.class_names, data_folder(WORLDS[world])
    for part in ("critic", "test"):
        rows = pictures.rows(part)
        labels = [names[label] for label in pictures.labels[rows]]
        table = pd.DataFrame(
            {
                "file_name": [os.path.relpath(folder / pictures.names[r], out) for r in rows],
                "id": [Path(pictures.names[r]).stem for r in rows],
                "label": labels,
                "prompt": [f"A medical photograph of the class {label}." for label in labels],
            }
        )
        table.to_csv(out / f"{part}.csv", index=False)
        found[part] = read_manifest(out / f"{part}.csv", allowed_roots=[folder])
    return found


def spoilt(world: str, out: Path, images: int) -> dict[str, Manifest]:
    """The parts of a world, with ``images`` of the test part spoilt in ``out / "planted"``."""
    out.mkdir(parents=True, exist_ok=True)
    parts = split(world, out)
    planted.SPOILT["noisy"] = noisy
    shutil.rmtree(out / "planted", ignore_errors=True)
    planted.plant(parts["test"], parts["test"], out / "planted", images)
    return parts


def main() -> None:
    """Print the AUROC of every failure with its interval, and what calibration says of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("encoder")
    parser.add_argument("--out", type=Path, default=Path("runs/validity-v2"))
    parser.add_argument("--images", type=int, default=120)
    options = parser.parse_args()
    world, out = WORLDS[options.world], options.out.absolute() / f"photographs-{options.world}"
    parts = spoilt(options.world, out, options.images)
    encoder = load_encoder(options.encoder, device="cpu", offline=True)
    tables = []
    with EmbeddingCache(options.out / "cache") as cache:
        for method in planted.SPOILT:
            found = score_manifests(
                read_manifest(out / "planted" / method), parts["test"], encoder=encoder,
                cache=cache, domain=world.domain, train=parts["critic"],
            )  # fmt: skip
            images, real = measure(found, encoder, cache)
            tables.append(
                pd.concat([found.rows, calibrate(images, real)], axis=1).assign(method=method)
            )
    rows = pd.concat(tables)
    good = rows[rows["method"] == "another"].sort_values("id")
    counts = np.concatenate(list(resampling_counts(len(good), 1000, 0)))
    counts = np.vstack([np.ones(len(good)), counts])
    body, every = [], []
    for method in [m for m in planted.SPOILT if m != "another"]:
        bad = rows[rows["method"] == method].sort_values("id")
        areas = []
        for score in SCORES:
            x, y = good[score].to_numpy(float), bad[score].to_numpy(float)
            won = (y[None] < x[:, None]) + 0.5 * (y[None] == x[:, None])
            areas.append(((counts @ won) * counts).sum(axis=1) / counts.sum(axis=1) ** 2)
        every.append(areas)
        low = (bad["alignment"] <= 0.1).mean()
        body.append([method, *(f"{a[0]:.2f}" for a in areas), f"{low:.2f}"])
    means = np.mean(every, axis=0)
    body.append(["mean", *(f"{m[0]:.3f}" for m in means), ""])
    gaps = [np.quantile(means[0, 1:] - one[1:], [0.025, 0.975]) for one in means]
    body.append(["alignment less it", *(f"{a:+.3f} to {b:+.3f}" for a, b in gaps), ""])
    another = f"{(good['alignment'] <= 0.1).mean():.2f}"
    print({name: round(one["score"], 2) for name, one in found.self_test.items()})
    print(markdown_table(["failure", *SCORES, f"low at .1 (another: {another})"], body))


if __name__ == "__main__":
    main()
