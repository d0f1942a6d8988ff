"""Would the encoder's patch tokens see more than its one vector of an image?

    python -m benchmarks.validity.regions [--confirm] [--out runs/validity-v2-regions]

Tokens of the last layer, of unit norm, pooled to 4 x 4 regions. As for the whole image, a ridge
regression on prompt and class says what real images have in a region, and the Mahalanobis distance
how far an image is from it; the largest of the 16, in units of real images', shares the weight of
SFS with the distance of the whole. This form was chosen on the half that ``cas-v2`` was chosen on;
``--confirm`` takes the other half with seeds that nothing else uses. Phantom encoders alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.validity import sets
from benchmarks.validity.compare import CHOSEN_ON, ENCODERS, FAILURES, aurocs, resamples
from cas_metric.calibrated.measures import measure
from cas_metric.calibrated.primitives import _PENALTIES, _features, _whitening
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_texts
from cas_metric.encoders import load_encoder
from cas_metric.images import load_image
from cas_metric.phantoms import DOMAINS
from cas_metric.primitives import unit

FRESH, SIDE, TOGETHER = 5_000_000, 4, 64


def regions(encoder: object, table: pd.DataFrame) -> np.ndarray:
    """``(N, 16, W)`` of the images of a table."""
    kept: list[torch.Tensor] = []
    layer = encoder.model.vision_model.encoder.layers[-1]
    hook = layer.register_forward_hook(
        lambda *args: kept.append(args[-1][0] if isinstance(args[-1], tuple) else args[-1])
    )
    paths, parts = list(table["path"]), []
    for start in range(0, len(paths), TOGETHER):
        pixels = [load_image(path).pixels for path in paths[start : start + TOGETHER]]
        with torch.no_grad():
            encoder.embed_pixels(encoder.official_preprocess(pixels))
        tokens = unit(kept.pop().numpy()[:, -64:])
        grid = tokens.reshape(len(tokens), SIDE, 8 // SIDE, SIDE, 8 // SIDE, -1)
        parts.append(grid.mean(axis=(2, 4)).reshape(len(tokens), SIDE**2, -1))
    hook.remove()
    return np.concatenate(parts).astype(float)


def distances(parts: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], count: int) -> dict:
    """The largest distance of each image, by part; ``parts`` holds regions, prompts, classes."""
    mean = unit(parts["train"][1]).astype(float).mean(axis=0)
    inputs = {
        name: _features(unit(prompts).astype(float), mean, classes, count)
        for name, (_, prompts, classes) in parts.items()
    }
    flat = {name: one[0].reshape(len(one[0]), -1) for name, one in parts.items()}
    usual = flat["train"].mean(axis=0)
    targets, known = flat["train"] - usual, inputs["train"]
    values, vectors = np.linalg.eigh(known.T @ known)
    turned, best = known @ vectors, None
    for penalty in _PENALTIES:
        scale = values.clip(min=0) + penalty
        leverage = (turned**2 / scale).sum(axis=1, keepdims=True)
        weights = (turned.T @ targets) / scale[:, None]
        left = (targets - turned @ weights) / (1 - leverage)
        if best is None or (left**2).sum() < best[0]:
            best = (left**2).sum(), vectors @ weights, left
    width = parts["train"][0].shape[2]
    residuals, found = best[2].reshape(len(targets), -1, width), {}
    for name in ("real", "generated"):
        gap = (flat[name] - usual - inputs[name] @ best[1]).reshape(len(flat[name]), -1, width)
        found[name] = np.stack(
            [
                np.linalg.norm(gap[:, k] @ _whitening(residuals[:, k]), axis=1)
                for k in range(gap.shape[1])
            ],
            axis=1,
        )
    base = found["real"].mean(axis=0), found["real"].std(axis=0)
    return {name: ((one - base[0]) / base[1]).max(axis=1) for name, one in found.items()}


def cell(domain: str, spec: str, out: Path, seed: int, counts: np.ndarray) -> list[np.ndarray]:
    """AUROC of every failure without and with regions, in every resample."""
    folders = sets.write(domain, out / "sets" / f"{domain}-{seed}", seed=seed)
    encoder = load_encoder(spec, device="cpu", offline=True)
    with EmbeddingCache(out / "cache") as cache:
        found = sets.score(domain, folders, encoder, cache)
        images, real = measure(found, encoder, cache)
        parts = {}
        for name in ("train", "real", "generated"):
            table = getattr(found.inputs, name)
            texts = sorted(set(table["prompt"]))
            vectors = embed_texts(texts, encoder, cache).embeddings
            prompts = vectors[[texts.index(text) for text in table["prompt"]]]
            classes = table["class_index"].to_numpy()
            parts[name] = regions(encoder, table), prompts, classes
    far = distances(parts, len(found.inputs.classes))
    own = np.column_stack([images.primitives, -far["generated"]])
    known = np.column_stack([real.primitives, -far["real"]])
    standard = np.empty_like(own)
    for label in np.unique(real.classes):
        peers = known[real.classes == label]
        mine = images.classes == label
        standard[mine] = (own[mine] - peers.mean(axis=0)) / peers.std(axis=0, ddof=1)
    rows = found.rows.assign(
        failure=found.rows["method"].str.split(" ").str[0],
        case=[Path(reference).stem for reference in found.rows["reference"]],
        digest=found.material.images["generated"].digests,
    )
    weights = ((4, 1, 1, 4, 0), (4, 1, 1, 2, 2))
    return [aurocs(rows, standard @ np.array(one, float), counts) for one in weights]


def main() -> None:
    """Print both, and what regions add."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/validity-v2-regions"))
    parser.add_argument("--confirm", action="store_true")
    options = parser.parse_args()
    every = [(domain, spec) for domain in DOMAINS for spec in ENCODERS]
    cells = [one for one in every if (one in CHOSEN_ON) != options.confirm]
    counts = {domain: resamples(sets.CASES, k) for k, domain in enumerate(DOMAINS)}
    pairs = []
    for domain, spec in cells:
        seed = FRESH if options.confirm else sets.SEED
        pairs.append(cell(domain, spec, options.out, seed, counts[domain]))
        for name, one in zip(("whole", "with regions"), pairs[-1], strict=True):
            print(domain, spec, name, f"{one[0].mean():.4f}", one[0].round(3), flush=True)
    for k, name in enumerate(("whole", "with regions")):
        means = np.mean([pair[k][0] for pair in pairs], axis=0)
        print(name, f"{means.mean():.4f}", dict(zip(FAILURES, means.round(3), strict=True)))
    gaps = np.mean([pair[1] - pair[0] for pair in pairs], axis=0)
    told = {"all": gaps.mean(axis=1), **dict(zip(FAILURES, gaps.T, strict=True))}
    for name, gap in told.items():
        low, high = np.quantile(gap[1:], [0.025, 0.975])
        print(f"{name}: {gap[0]:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
