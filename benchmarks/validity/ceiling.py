"""How well could failures be told at all, from the very embeddings that scores are made of?

    python -m benchmarks.validity.ceiling [--out runs/validity-v2]

A ridge classifier that is shown which images fail, cross-validated over cases, on the embedding
with its products with the prompt's or with the class; the better of the two, at the best of four
penalties. No score that knows real images alone can be expected to reach it. Uses the sets and
embeddings of ``benchmarks.validity.compare``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks.paper.planted_failures import FAILURES, FAITHFUL
from benchmarks.validity import sets
from benchmarks.validity.compare import ENCODERS
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.phantoms import DOMAINS
from cas_metric.scoring.pipeline import Scores
from cas_metric.statistics.tables import markdown_table

FOLDS, PENALTIES = 10, (1, 10, 100, 1000)


def auroc(fails: np.ndarray, scores: np.ndarray) -> float:
    """Of a score that is higher for failing images."""
    ranks, count = rankdata(scores), fails.sum()
    won = ranks[fails == 1].sum() - count * (count + 1) / 2
    return float(won / (count * (len(fails) - count)))


def told_by_labels(inputs: np.ndarray, fails: np.ndarray, cases: np.ndarray) -> float:
    """The best AUROC over penalties, no case in both parts."""
    inputs = (inputs - inputs.mean(axis=0)) / (inputs.std(axis=0) + 1e-9)
    names = np.random.default_rng(0).permutation(np.unique(cases))
    fold = {name: k % FOLDS for k, name in enumerate(names)}
    folds, best = np.array([fold[case] for case in cases]), 0.0
    for penalty in PENALTIES:
        scores = np.empty(len(fails))
        for k in range(FOLDS):
            known = folds != k
            mean, share = inputs[known].mean(axis=0), fails[known].mean()
            centred = inputs[known] - mean
            products = centred @ centred.T + penalty * np.eye(known.sum())
            weights = centred.T @ np.linalg.solve(products, fails[known] - share)
            scores[~known] = (inputs[~known] - mean) @ weights
        best = max(best, auroc(fails, scores))
    return best


def ceilings(found: Scores) -> list[float]:
    """One AUROC a failure."""
    pictures = found.material.images["generated"].embeddings.astype(float)
    texts, table = found.material.texts, found.inputs.generated
    prompts = texts.embeddings[texts.rows(table["prompt"].tolist())]
    forms = [np.hstack([pictures, pictures * prompts])]
    if len(found.inputs.classes) <= 4:
        own = np.eye(len(found.inputs.classes))[table["class_index"].to_numpy()]
        products = pictures[:, None, :] * own[:, :, None]
        forms.append(np.hstack([pictures, products.reshape(len(pictures), -1)]))
    kinds = found.rows["method"].str.split(" ").str[0].to_numpy()
    cases = found.rows["reference"].to_numpy()
    result = []
    for failure in FAILURES:
        kept = np.isin(kinds, [FAITHFUL, failure])
        fails = (kinds[kept] == failure).astype(float)
        result.append(max(told_by_labels(form[kept], fails, cases[kept]) for form in forms))
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/validity-v2"))
    out, body = parser.parse_args().out, []
    with EmbeddingCache(out / "cache") as cache:
        for domain in DOMAINS:
            folders = sets.write(domain, out / "sets" / domain)
            for spec in ENCODERS:
                encoder = load_encoder(spec, device="cpu", offline=True)
                found = sets.score(domain, folders, encoder, cache)
                body.append([domain, spec, *(f"{one:.2f}" for one in ceilings(found))])
                print(body[-1], flush=True)
    print(markdown_table(["domain", "encoder", *(f.replace("_", " ") for f in FAILURES)], body))


if __name__ == "__main__":
    main()
