"""Intervals and tests of `cas audit` and `cas judge` over repeated draws, and their time at scale.

    python benchmarks/performance/audit_and_judge.py

An evaluator errs on each item with a known probability; a judge ranks at random, by place, or by
quality. What an interval should hold, and what a test should find, is therefore known.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from cas_metric.mllm.judge import balanced_orders
from cas_metric.statistics import pass_rates
from cas_metric.statistics.intervals import rate_interval
from cas_metric.statistics.position_bias import position_bias
from cas_metric.statistics.preference import Rankings, preference_scores

DRAWS = 1000
IMAGES, ITEMS = 100, 5


def main() -> None:
    """Print three tables."""
    coverage()
    places()
    scale()


def coverage() -> None:
    """Coverage of the expected rate of an evaluator that errs with probability ``flip``."""
    print(f"| share of good images | evaluator errs | item, Wilson | mean over images | {DRAWS=} |")
    rng = np.random.default_rng(0)
    for quality, flip in ((0.5, 0.1), (0.9, 0.1), (0.9, 0.02)):
        expected = quality * (1 - flip) + (1 - quality) * flip
        hits = np.zeros(2)
        for _ in range(DRAWS):
            truth = np.repeat(rng.random((IMAGES, 1)) < quality, ITEMS, axis=1)
            seen = (truth ^ (rng.random(truth.shape) < flip)).astype(float)
            item = rate_interval(seen[:, 0])
            mean = rate_interval(seen.mean(axis=1), trials=seen.size)
            hits += [one.low <= expected <= one.high for one in (item, mean)]
        print(f"| {quality} | {flip} | {hits[0] / DRAWS:.1%} | {hits[1] / DRAWS:.1%} |")


def places() -> None:
    """How often the test of places rejects, and what a bias does to the scores."""
    print("| judge | orders of a case | places rejected at 0.05 | largest score |")
    for name, lean in (("random", 0.0), ("leans to the first", 0.7), ("always the first", np.inf)):
        for permutations in (1, 3):
            found = [_judged(lean, permutations, draw) for draw in range(200)]
            rejected = np.mean([p < 0.05 for p, _ in found])
            largest = np.mean([score for _, score in found])
            print(f"| {name} | {permutations} | {rejected:.1%} | {largest:.3f} |")


def _judged(lean: float, permutations: int, draw: int, m: int = 3, cases: int = 60):
    """The p-value of the places, and the largest of the scores, which are all 0 in truth."""
    rng = np.random.default_rng([draw, permutations])
    orders = balanced_orders(m, cases, permutations, draw).reshape(-1, m)
    positions = np.argsort(orders, axis=1) + 1.0
    liking = np.where(positions == 1, lean, 0.0) + rng.gumbel(size=positions.shape)
    ranks = np.argsort(np.argsort(-liking, axis=1), axis=1) + 1.0
    parsed = Rankings(
        methods=("a", "b", "c"),
        cases=np.repeat(np.arange(cases).astype(str), permutations),
        raters=np.tile(np.arange(permutations).astype(str), cases),
        ranks=ranks,
        positions=positions,
    )
    scores = preference_scores(parsed).scores
    return position_bias(parsed).p, max(abs(s.estimate) for s in scores.values())


def scale(images: int = 3100, methods: int = 4) -> None:
    """CPU time of the statistics of an audit as large as the paper's largest."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {"method": f"m{k}", "seed": 0, "id": f"{n}", "label": f"class {n % 20}",
             "reference": f"case {n}", "attribute": f"item {a}", "status": "ok",
             "verdict": "present" if rng.random() < 0.7 else "absent"}
            for k in range(methods)
            for n in range(images)
            for a in range(ITEMS)
        ]
    )  # fmt: skip
    started = time.process_time()
    pass_rates.summarise_audit(frame)
    middle = time.process_time()
    table = pass_rates.image_table(frame)
    table["ccs"] = rng.normal(size=len(table)) + table["pass_rate"]
    pass_rates.agreement_with_score(table)
    ended = time.process_time()
    print(
        f"{methods} methods, {images} images each, 20 classes: pass rates "
        f"{middle - started:.1f} s, agreement with CCS {ended - middle:.1f} s of CPU"
    )


if __name__ == "__main__":
    main()
