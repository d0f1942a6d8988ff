"""Prompts whose repeated generations are near-duplicates of each other.

A prompt that a generator has memorized gives the same picture again and again. Images of one prompt
that lie within the distance of near-duplicates are clustered; how often images of *different*
prompts of the same class do stands beside it, since classes whose pictures all look alike cluster
without any memorizing.

Source: Carlini et al., "Extracting Training Data from Diffusion Models" (USENIX Security 2023), who
cluster generations of one prompt; perceptual hashes instead of their patches' distances: ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import phash
from cas_metric.protocol import PHASH_THRESHOLD

if TYPE_CHECKING:
    from cas_metric.copies.pictures import Pictures
    from cas_metric.manifest import Manifest

COLUMNS: Final = [
    "method", "prompt", "label", "images", "cluster", "copies", "near", "pairs", "expected",
]  # fmt: skip
#: Images of a prompt that are compared with each other.
_AT_MOST: Final = 1000


def repeated_prompts(
    rows: pd.DataFrame, words: NDArray[np.uint64], copies: NDArray[np.bool_]
) -> pd.DataFrame:
    """One row a method and prompt (else a reference) with at least two images, largest first.

    Args:
        rows: ``method``, ``prompt``, ``reference`` and ``label`` of the readable generated images.
        words: ``(N,)`` their perceptual hashes.
        copies: ``(N,)`` which resemble a training image more than real images do.

    Returns:
        ``method``, ``prompt``, ``label``, ``images``, ``cluster`` (images of the largest cluster),
        ``copies`` (how many of these resemble a training image) and the pairs: ``near`` of
        ``pairs``, and ``expected`` at the rate of other prompts of the class.
    """
    table = rows.reset_index(drop=True)
    table = table.assign(prompt=table["prompt"].where(table["prompt"] != "", table["reference"]))
    found = []
    for (method, label), group in table[table["prompt"] != ""].groupby(["method", "label"]):
        places = [
            (prompt, own.index.to_numpy()[:_AT_MOST]) for prompt, own in group.groupby("prompt")
        ]
        near = [phash.hamming(words[at], words[at]) <= PHASH_THRESHOLD for _, at in places]
        usual = _rate_between(words[np.concatenate([at for _, at in places])], near)
        for (prompt, at), close in zip(places, near, strict=True):
            if len(at) > 1:
                cluster, pairs = _largest(close), len(at) * (len(at) - 1) // 2
                found.append(
                    {
                        "method": method, "prompt": prompt, "label": label, "images": len(at),
                        "cluster": len(cluster), "copies": int(copies[at[cluster]].sum()),
                        "near": int(np.triu(close, 1).sum()), "pairs": pairs,
                        "expected": usual * pairs,
                    }
                )  # fmt: skip
    return pd.DataFrame(found, columns=COLUMNS).sort_values(
        ["cluster", "copies", "method", "prompt"], ascending=[False, False, True, True],
        ignore_index=True, kind="stable",
    )  # fmt: skip


def _rate_between(words: NDArray[np.uint64], near: list[NDArray[np.bool_]]) -> float:
    """Share of pairs of different prompts that are near; NaN where there is one prompt alone."""
    others = len(words) ** 2 - sum(one.size for one in near)
    if not others:
        return float("nan")
    every = int(phash.count_within(words, words).sum())
    return (every - sum(int(one.sum()) for one in near)) / others


def extraction(
    generated: Manifest, pictures: Pictures, rows: pd.DataFrame
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Figures with a verdict and :func:`repeated_prompts` of an analysis' ``rows``."""
    shown = np.flatnonzero(~pictures.blank)  # blank pictures all resemble each other
    at = pictures.rows[shown]
    known = generated.rows[["prompt", "reference", "label"]].iloc[at].reset_index(drop=True)
    known["method"] = rows["method"].to_numpy()[at]
    prompts = repeated_prompts(known, pictures.words[shown, 0], rows["copy"].to_numpy()[at])
    figures = extraction_figures(prompts)
    return figures | {"verdict": extraction_verdict(figures)}, prompts


def extraction_figures(prompts: pd.DataFrame) -> dict[str, Any]:
    """Counts over the prompts of all methods."""
    clustered = prompts[prompts["cluster"] > 1]
    return {
        "prompts": len(prompts),
        "clustered": len(clustered),
        "clustered_copies": int((clustered["copies"] > 0).sum()),
        "near_pairs": int(prompts["near"].sum()),
        "pairs": int(prompts["pairs"].sum()),
        "expected_pairs": float(prompts["expected"].sum()),
        "unknown_rate": bool(prompts["expected"].isna().any()),
    }


def extraction_verdict(figures: dict[str, Any]) -> str:
    """What repeated generations say, in a sentence."""
    if not figures["prompts"]:
        return ""
    many = figures["clustered"]
    text = (
        f"Of {figures['prompts']:,} prompts with several images, {many:,} "
        f"{'gives' if many == 1 else 'give'} near-duplicates of each other "
        f"({figures['near_pairs']:,} of {figures['pairs']:,} pairs; "
    )
    text += (
        "no other prompt of the class tells how many to expect)"
        if figures["unknown_rate"]
        else f"{figures['expected_pairs']:.1f} expected at the rate of other prompts of a class)"
    )
    on = figures["clustered_copies"]
    return f"{text}; {on:,} of these {'lies' if on == 1 else 'lie'} on a training image."


def _largest(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of the largest connected component of a symmetric table."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(csr_array(near), directed=False)
    return np.flatnonzero(labels == np.bincount(labels).argmax())
