"""Is a share alpha of real images low, whatever the encoder?

    python -m benchmarks.validity.guarantee [--out runs/validity-v2] [--splits 1000]
    python -m benchmarks.validity.guarantee --cross-fitted [--paired] [--sizes 50 200]

Real fundus phantoms are split at random into ``n`` calibration images and 100 held-out ones; the
probe and the expectation come from other images. Encoders: a trained one; ``random``, an embedding
that has nothing to do with the image; ``constant``, the same for every image, text and class. For
each, the mean flagged share over all splits with its standard error, and how often Clopper and
Pearson's interval of the share that two halves of the calibration images flag in each other, which
a run prints, holds alpha.

``--cross-fitted``: the same for runs without a training split, in which probe and expectation come
from the calibration images themselves, by folds, anew in every split. A held-out image either has
no partner among them, or with ``--paired`` one of its class, as generated images have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from cas_metric.calibrated.alignment import calibrate
from cas_metric.calibrated.measures import Measured, measure
from cas_metric.calibrated.run import held_out
from cas_metric.calibrated.tail import exact_interval
from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.manifest import read_manifest
from cas_metric.phantoms.dataset import write_phantom_dataset
from cas_metric.scoring.diagnosis import make_judge
from cas_metric.scoring.embeddings import ImageSet
from cas_metric.scoring.pipeline import Scores, score_manifests
from cas_metric.statistics.tables import markdown_table

DOMAIN, ENCODER = "phantom-origa", "phantom-siglip"
SIZES, LEVELS, HELD_OUT, POOL = (50, 200, 1000), (0.05, 0.1, 0.25), 100, 1400


def trained(out: Path) -> tuple[Scores, Measured]:
    """Real images under a trained encoder."""
    folders = write_phantom_dataset(
        DOMAIN, out / "guarantee", train=200, test=POOL, seed=4_000_000, balanced=True
    )
    encoder = load_encoder(ENCODER, device="cpu", offline=True)
    test = read_manifest(folders["test"])
    with EmbeddingCache(out / "cache") as cache:
        found = score_manifests(
            test, test, encoder=encoder, cache=cache, domain=load_domain(DOMAIN),
            train=read_manifest(folders["train"]),
        )  # fmt: skip
        return found, measure(found, encoder, cache)[1]


def crossed(found: Scores, known: np.ndarray, new: np.ndarray, partners: np.ndarray) -> Scores:
    """A run of new images against known ones, without a training split.

    ``partners`` are positions among the known ones, -1 for none.
    """
    real = found.material.images["real"]
    images, tables = {}, {}
    for name, rows in (("real", known), ("generated", new)):
        images[name] = ImageSet(
            real.embeddings[rows], *(tuple(np.array(x)[rows]) for x in (real.digests, real.errors))
        )
        tables[name] = getattr(found.inputs, name).iloc[rows].reset_index(drop=True)
    tables["generated"] = tables["generated"].assign(reference_row=partners)
    inputs = replace(found.inputs, train=None, **tables)
    judge = make_judge(
        inputs, SimpleNamespace(fingerprint=""), images["real"].embeddings, None, probe=None,
        real_groups=images["real"].groups(tables["real"]["patient"].tolist()),
    )  # fmt: skip
    material = replace(found.material, images=images)
    return replace(found, inputs=inputs, material=material, judge=judge)


def cross_fitted(found: Scores, splits: int, sizes: Sequence[int], paired: bool) -> None:
    """Print the flagged shares of images that nothing was fitted on."""
    classes, body = found.inputs.real["class_index"].to_numpy(), []
    for size in sizes:
        rng, shares = np.random.default_rng([size, 1]), []
        for split in range(splits):
            order = rng.permutation(POOL)
            known, new = order[:size], order[-HELD_OUT:]
            partners = np.array(
                [rng.choice(np.flatnonzero(classes[known] == classes[k])) for k in new]
            )
            run = crossed(found, known, new, partners if paired else np.full(len(new), -1))
            sides = measure(run, None, None)
            images, real = (
                replace(one, names=tuple(f"{split}|{name}" for name in one.names)) for one in sides
            )
            ranks = calibrate(images, real)["alignment"].to_numpy()
            shares.append([(ranks <= level).mean() for level in LEVELS])
        means, errors = np.mean(shares, axis=0), np.std(shares, axis=0) / splits**0.5
        cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(means, errors, strict=True)]
        body.append(["of its class" if paired else "none", str(size), *cells])
        print(body[-1], flush=True)
    print(markdown_table(["partner", "n", *(f"low at {a}" for a in LEVELS)], body))


def useless(real: Measured, kind: str) -> Measured:
    """The same images under an encoder that sees nothing in them."""
    rng = np.random.default_rng(0)
    shape = real.primitives.shape
    numbers = rng.normal(size=shape) if kind == "random" else np.full(shape, 0.25)
    return Measured(numbers, real.classes, real.groups, real.names)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/validity-v2"))
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--cross-fitted", action="store_true")
    parser.add_argument("--paired", action="store_true", help="with a partner, cross-fitted only")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES[:2], help="cross-fitted only")
    options = parser.parse_args()
    found, real = trained(options.out)
    if options.cross_fitted:
        cross_fitted(found, options.splits, options.sizes, options.paired)
        return
    body = []
    for kind in ("trained", "random", "constant"):
        images = real if kind == "trained" else useless(real, kind)
        for size in SIZES:
            rng = np.random.default_rng(size)
            shares, covered = [], []
            for split in range(options.splits):
                # Else the pool's own tie-breakers, the same in every split, would be what is seen.
                images = replace(images, names=tuple(f"{split}|{name}" for name in real.names))
                order = rng.permutation(POOL)
                known, new = (
                    np.isin(np.arange(POOL), o) for o in (order[:size], order[-HELD_OUT:])
                )
                ranks = calibrate(images.take(new), images.take(known))["alignment"].to_numpy()
                shares.append([(ranks <= level).mean() for level in LEVELS])
                if size < SIZES[-1]:
                    halves = held_out(images.take(known))
                    ends = [exact_interval(int((halves <= a).sum()), size) for a in LEVELS]
                    inside = zip(ends, LEVELS, strict=True)
                    covered.append([low <= a <= high for (low, high), a in inside])
            means, errors = np.mean(shares, axis=0), np.std(shares, axis=0) / options.splits**0.5
            cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(means, errors, strict=True)]
            halves = [f"{c:.3f}" for c in np.mean(covered, axis=0)] if covered else ["–"] * 3
            body.append([kind, str(size), *cells, *halves])
            print(body[-1], flush=True)
    head = [f"low at {a}" for a in LEVELS] + [f"interval holds {a}" for a in LEVELS]
    print(markdown_table(["encoder", "n", *head], body))


if __name__ == "__main__":
    main()
