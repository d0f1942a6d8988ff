"""Does an encoder see the classes of real photographs that it has never seen?

``python -m benchmarks.real.selftest skin ENCODER [--fitted evaluator]``

A probe is fitted on a part that the encoder was not trained on, the same number of each class, and
judged on the test part: DD as the mean over classes of the share that it names rightly, with a 95%
bootstrap interval, and the area under the ROC curve of each class. The encoder passes if the
interval of DD lies above chance, ``1 / classes``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from benchmarks.phantoms.evaluate import embed
from benchmarks.real.pictures import SIDE, WORLDS, Pictures, World, read_pictures
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.scoring.probe import fit

_RESAMPLES = 2000


@dataclass(frozen=True)
class Verdict:
    """What was measured; ``dd`` and ``zero_shot`` are mean, low and high."""

    dd: tuple[float, float, float]
    zero_shot: tuple[float, float, float]
    auroc: dict[str, float]
    chance: float
    count: int

    @property
    def passed(self) -> bool:
        """Whether DD is above chance by its interval."""
        return self.dd[1] > self.chance

    def __str__(self) -> str:
        areas = ", ".join(f"{name} {area:.3f}" for name, area in self.auroc.items())
        return (
            f"DD {_interval(self.dd)}, by checklist {_interval(self.zero_shot)}, chance "
            f"{self.chance:.3f}, AUROC {areas}; {self.count} test images"
        )


def _interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def mean_recall(right: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Mean over classes of the share of hits, with a 95% bootstrap interval within classes."""
    rng = np.random.default_rng(0)
    drawn = []
    for label in np.unique(labels):
        hits = right[labels == label]
        drawn.append(rng.binomial(len(hits), hits.mean(), _RESAMPLES) / len(hits))
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    means = [right[labels == label].mean() for label in np.unique(labels)]
    return float(np.mean(means)), float(low), float(high)


def area(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of ``(N,)`` scores, ties counted half."""
    ranks, count = rankdata(scores), int(positive.sum())
    above = ranks[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(scores) - count)))


def balanced(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As many of ``rows`` of each class as the rarest has."""
    by_class = [rows[labels[rows] == label] for label in np.unique(labels)]
    fewest = min(map(len, by_class))
    rng = np.random.default_rng(0)
    return np.sort(np.concatenate([rng.choice(one, fewest, replace=False) for one in by_class]))


def judge(world: World, pictures: Pictures, encoder: Encoder, fitted: str) -> Verdict:
    """The self-test; ``fitted`` is the part on which the probe learns."""
    domain = world.domain
    known, test = balanced(pictures.labels, pictures.rows(fitted)), pictures.rows("test")
    probe = fit(
        embed(encoder, list(pictures.images[known]), batch=32),
        pictures.labels[known],
        domain.class_names,
        fingerprint=encoder.fingerprint,
    )
    features, labels = embed(encoder, list(pictures.images[test]), 32), pictures.labels[test]
    logits = probe.logits(features).numpy()
    texts = [domain.checklist_text(name) for name in domain.class_names]
    named = (features @ encoder.embed_texts(texts).embeddings.T).argmax(dim=1).numpy()
    chances = torch.from_numpy(logits).softmax(dim=1).numpy()
    return Verdict(
        mean_recall(logits.argmax(axis=1) == labels, labels),
        mean_recall(named == labels, labels),
        {
            name: area(chances[:, index], labels == index)
            for index, name in enumerate(domain.class_names)
        },
        1 / len(domain.class_names),
        len(test),
    )


def main() -> None:
    """Judge one encoder; exit code 1 if it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("encoder", help="a directory or any other spec of cas-metric")
    parser.add_argument("--fitted", default="critic", help="part on which the probe learns")
    parser.add_argument("--pixels", type=int, default=SIDE, help="of the pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = WORLDS[options.world]
    pictures = read_pictures(world, pixels=options.pixels)
    verdict = judge(world, pictures, load_encoder(options.encoder, device="cpu"), options.fitted)
    print(f"{options.world}: {verdict}")
    sys.exit(0 if verdict.passed else 1)


if __name__ == "__main__":
    main()
