"""Scores of every planted image: CAS in three encoders, and metrics that can score one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.paper.planted_failures import FAITHFUL, Folders

from cas_metric.copies import neighbours, ssim
from cas_metric.copies.pictures import grey_square
from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files, embed_texts
from cas_metric.encoders import load_encoder
from cas_metric.errors import MissingDependency, ModelUnavailable
from cas_metric.images import load_image, to_tensor
from cas_metric.manifest import read_manifest
from cas_metric.scoring.pipeline import score_manifests
from cas_metric.sets.diversity import load_lpips

ENCODERS = ("phantom-siglip", "phantom-medsiglip", "phantom-metaclip")
#: Feature space of the set-level distances and of the nearest real image.
FEATURES = "phantom-dino"
PRIMITIVES = ("vdc", "ccs", "dd", "dd_prob", "sfs", "cas")


def score_sets(domain: str, folders: Folders, cache: EmbeddingCache, spec: str) -> pd.DataFrame:
    """One row a planted image in the space of one encoder.

    Columns: ``failure``, ``dose``, ``case``, ``image``, ``digest``, the primitives, ``cas``, and
    ``label_cosine``, the cosine with the bare class name.
    """
    encoder = load_encoder(spec, device="cpu", offline=True)
    found = score_manifests(
        read_manifest(folders.planted), read_manifest(folders.test), encoder=encoder, cache=cache,
        domain=load_domain(domain), train=read_manifest(folders.train),
    )  # fmt: skip
    rows = found.rows[["method", "label", "image", *PRIMITIVES]].copy()
    rows["case"] = [Path(reference).stem for reference in found.rows["reference"]]
    rows["digest"] = found.material.images["generated"].digests
    rows["failure"] = rows["method"].str.split(" ").str[0]
    rows["dose"] = [0.0 if m == FAITHFUL else float(m.split(" ")[1]) for m in rows["method"]]
    classes = sorted(set(rows["label"]))
    texts = embed_texts(classes, encoder, cache).embeddings
    own = texts[[classes.index(label) for label in rows["label"]]]
    images = found.material.images["generated"].embeddings
    rows["label_cosine"] = (images * own).sum(axis=1)
    return rows.drop(columns="method").assign(encoder=spec)


def features(folders: Folders, cache: EmbeddingCache) -> dict[str, tuple[list[str], np.ndarray]]:
    """Relative path and feature of every image of each folder."""
    encoder = load_encoder(FEATURES, device="cpu", offline=True)
    found = {}
    for name, folder in folders._asdict().items():
        manifest = read_manifest(folder)
        embedded = embed_image_files(manifest.paths(), encoder, cache).embeddings
        found[name] = (manifest.rows["image"].tolist(), embedded)
    return found


def add_peers(
    rows: pd.DataFrame,
    folders: Folders,
    found: dict[str, tuple[list[str], np.ndarray]],
    backbone: Path | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Add ``ssim``, ``lpips_similarity`` and ``real_similarity``; higher is better for all of them.

    Args:
        rows: Of :func:`score_sets`.
        folders: Where the images are.
        found: Of :func:`features`.
        backbone: AlexNet weights of LPIPS; None takes a copy that torchvision downloaded before.

    Returns:
        The rows, and what was left out and why.
    """
    images, planted = found["planted"]
    own = planted[[images.index(image) for image in rows["image"]]]
    rows = rows.assign(
        real_similarity=1 - neighbours.nearest(own, found["train"][1]).distance[:, 0],
    )
    files = [folders.planted / image for image in rows["image"]]
    references = [folders.test / "images" / f"{case}.png" for case in rows["case"]]
    pictures = {path: load_image(path).pixels for path in {*files, *references}}
    grey = {path: grey_square(p, len(p)) for path, p in pictures.items()}
    rows["ssim"] = ssim.paired(
        np.stack([grey[path] for path in files]), np.stack([grey[path] for path in references])
    )
    try:
        network = load_lpips(backbone, offline=True)
    except (ModelUnavailable, MissingDependency) as error:
        return rows, [f"LPIPS to the reference: {error.problem}"]
    pairs = zip(files, references, strict=True)
    rows["lpips_similarity"] = [-_lpips(network, *(pictures[p] for p in pair)) for pair in pairs]
    return rows, []


def _lpips(network: Any, *pictures: np.ndarray) -> float:
    import torch

    with torch.no_grad():
        left, right = (to_tensor(picture)[None] * 2 - 1 for picture in pictures)
        return float(network(left, right).mean())
