"""Coverage and width of every interval that is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator

from benchmarks.statistics import simulated
from benchmarks.statistics.simulated import Half
from cas_metric.statistics import choice_model
from cas_metric.statistics.aggregate import part_of
from cas_metric.statistics.agreement import agreement
from cas_metric.statistics.comparison import difference_part
from cas_metric.statistics.correlation import coefficient, coefficient_interval
from cas_metric.statistics.intervals import mean_interval, rate_interval
from cas_metric.statistics.pass_rates import agreement_with_score
from cas_metric.statistics.preference import Rankings, preference_scores, top1_rates, win_matrix
from cas_metric.statistics.quantiles import quantile_interval
from cas_metric.statistics.tail import reduction_intervals, samples, tail_statistics
from cas_metric.statistics.uncertainty import Interval

SIZES = (5, 10, 20, 50, 200)
CLUSTERS = (5, 10, 50)
#: Truth and interval of one data set; a simulation may look at several statistics of it.
Trial = tuple[float, Interval]
Simulation = tuple[tuple[str, ...], str, Callable[[], list[Trial]]]


class Coverage(NamedTuple):
    """What the simulations of one interval found.

    Attributes:
        name: The interval.
        size: Cases, patients or methods.
        covered: Share of the printed intervals that hold the truth.
        width: Their mean width.
        relative: Their mean width over 3.92 standard deviations of the estimate's error: about 1
            for an interval that is as wide as a normal one has to be, however often a count that
            has few possible values lets it cover.
        none: Share of the data sets for which none is printed.
    """

    name: str
    size: str
    covered: float
    width: float
    relative: float
    none: float


def measure(
    names: tuple[str, ...], size: str, trial: Callable[[], list[Trial]], repetitions: int
) -> list[Coverage]:
    """Run one simulation."""
    every = [trial() for _ in range(repetitions)]
    return [_summary(name, size, [found[k] for found in every]) for k, name in enumerate(names)]


def _summary(name: str, size: str, found: list[Trial]) -> Coverage:
    printed = [(t, i) for t, i in found if np.isfinite(i.low + i.high)]
    covered = [i.low <= t <= i.high for t, i in printed]
    width = float(np.mean([i.high - i.low for _, i in printed])) if printed else float("nan")
    needed = 3.92 * float(np.std([i.estimate - t for t, i in found]))
    return Coverage(
        name,
        size,
        float(np.mean(covered)) if covered else float("nan"),
        width,
        width / needed if needed else float("nan"),
        1 - len(printed) / len(found),
    )


def simulations(half: Half, rng: Generator) -> Iterator[Simulation]:
    """Names, size and trial of every simulation."""
    yield from _means_and_rates(half, rng)
    yield from _clustered(half, rng)
    yield from _correlations(rng)
    yield from _preference(half, rng)
    yield from _tails(half, rng)


def _means_and_rates(half: Half, rng: Generator) -> Iterator[Simulation]:
    for n in SIZES:
        for word, bounds in (("rare", half.rare), ("common", half.common)):

            def scores(n: int = n, bounds: tuple[float, float] = bounds) -> list[Trial]:
                p, q = 1 - rng.uniform(*bounds, size=2)
                shared = rng.random(n)
                other = np.where(rng.random(n) < 0.5, shared, rng.random(n))
                right, worse = (shared < p).astype(float), (other < q).astype(float)
                values, codes = simulated.cas(rng, right), np.arange(n)
                classes = rng.permutation(codes % 4)
                parts = [
                    part_of("cas", values, right, codes, n),
                    difference_part(values - simulated.cas(rng, worse), (right, worse), codes, n),
                ]
                if n >= 10:
                    parts += [
                        part_of("cas", values, right, codes, n, classes),
                        part_of("dd", right, right, codes, n, classes),
                    ]
                mean = simulated.CENTRE + simulated.GAP * p
                truths = [mean, simulated.GAP * (p - q), mean, p]
                found = [part.interval(0.95) for part in parts]
                return [(1 - p, rate_interval(1 - right)), *zip(truths, found, strict=False)]

            names = (
                f"rate, {word} (DD, pass rate)",
                f"mean CAS, {word} wrong diagnoses",
                f"difference in CAS, {word} wrong diagnoses",
                f"class-balanced CAS, {word} wrong diagnoses",
                f"class-balanced DD, {word} wrong diagnoses",
            )
            yield names if n >= 10 else names[:3], f"{n}", scores

        def means(n: int = n) -> list[Trial]:
            p = rng.uniform(0.3, 0.7)
            gaps = rng.normal(size=n) + float(simulated.norm.ppf(p))
            won = rate_interval(0.5 * (np.sign(gaps) + 1), trials=2 * n)
            values = rng.normal(size=n)
            tenth = quantile_interval(values, 0.1)
            return [
                (0.15, mean_interval(0.15 + 0.03 * values)),
                (p, won),
                (float(simulated.norm.ppf(0.1)), tenth),
            ]

        yield ("mean VDC, CCS, SFS", "win rate", "P10"), f"{n}", means


def _clustered(half: Half, rng: Generator) -> Iterator[Simulation]:
    for count in CLUSTERS:

        def scores(count: int = count) -> list[Trial]:
            who = simulated.patients(rng, half, count)
            values = rng.normal(size=count)[who] + rng.normal(size=len(who))
            found = [(0.0, mean_interval(values, clusters=who))]
            for at in (0.25, 0.1):
                truth = float(simulated.norm.ppf(at)) * 2**0.5
                found.append((truth, quantile_interval(values, at, clusters=who)))
            for bounds in (half.rare, half.common):
                p = rng.uniform(*bounds)
                wrong = simulated.outcomes(rng, p, who, half.correlation)
                found.append((p, rate_interval(wrong, clusters=who)))
            return found

        names = ("mean", "tau", "P10", "rate, rare", "rate, common")
        yield (
            tuple(f"{name}, several images a patient" for name in names),
            f"{count} patients",
            scores,
        )


def _tails(half: Half, rng: Generator) -> Iterator[Simulation]:
    for n in SIZES:
        for k, world in enumerate(half.modes, start=1):

            def tails(n: int = n, world: tuple[float, float, float, float] = world) -> list[Trial]:
                wrong, own, baseline, gain = world
                tau, rate = simulated.tail_truth(wrong, own, gain)
                base = simulated.tail_truth(wrong, baseline, 0.0)[1]
                shared = rng.random(n)
                other = np.where(rng.random(n) < 0.5, shared, rng.random(n))
                real = simulated.cas(rng, shared > wrong)
                method = simulated.cas(rng, shared > own, gain)
                ids = np.arange(n)
                found = tail_statistics(method, real, clusters=ids, real_clusters=ids)
                sets = [(method, ids), (simulated.cas(rng, other > baseline), ids)]
                (a, b, reference), count = samples(sets, (real, ids))
                absolute, relative = reduction_intervals(a, b, reference, count)
                a, b = (one._replace(classes=ids % 3) for one in (a, b))
                balanced, _ = reduction_intervals(a, b, reference, count)
                return [
                    (tau, found.tau),
                    (rate, found.rate),
                    (base - rate, absolute),
                    (1 - rate / base, relative),
                    (base - rate, balanced),
                ]

            names = (
                "tau",
                "low-alignment rate",
                "reduction, absolute",
                "reduction, relative",
                "reduction, absolute, over classes",
            )
            yield tuple(f"{name}, world {k}" for name in names), f"{n}", tails


def _preference(half: Half, rng: Generator) -> Iterator[Simulation]:
    taste, names = 0.7, tuple("abcdefgh"[: len(half.scores)])
    many, _ = simulated.rankings(rng, half.scores, 20_000, 1, taste)
    table = choice_model.count_choices(many, np.zeros(20_000, int), "bradley-terry")
    truth = choice_model.fit(table.sets, table.total()[None])[0]
    first = (many == 1).mean(axis=0)
    won = float((many[:, 0] < many[:, 1]).mean())
    shared, by_case = simulated.rankings(rng, half.scores, 20_000, 3, taste)
    agreed = agreement(Rankings(names, by_case, np.tile(np.arange(3), 20_000), shared))
    assert agreed is not None
    for n in SIZES:
        for raters in (1, 3):

            def found(n: int = n, raters: int = raters) -> list[Trial]:
                data = _ranked(half, rng, names, n, raters, taste)
                k = int(rng.integers(len(names)))
                scores = preference_scores(data)
                trials = [
                    (float(truth[k]), scores.scores[names[k]]),
                    (float(truth[0] - truth[1]), scores.differences[0].difference),
                    (float(first[k]), top1_rates(data)[names[k]]),
                    (won, win_matrix(data)["a"]["b"].rate),
                ]
                if raters > 1:
                    told = agreement(data)
                    assert told is not None
                    trials += [
                        (agreed.alpha.estimate, told.alpha),
                        (agreed.kendall_w.estimate, told.kendall_w),
                    ]
                return trials

            told = (
                "Bradley-Terry score",
                "difference of Bradley-Terry scores",
                "ranked first",
                "win matrix",
                "Krippendorff's alpha",
                "Kendall's W",
            )
            yield told if raters > 1 else told[:4], f"{n} cases × {raters}", found


def _ranked(
    half: Half, rng: Generator, names: tuple[str, ...], cases: int, raters: int, taste: float
) -> Rankings:
    """Rankings that determine the scores: the verb refuses others."""
    while True:
        ranks, case = simulated.rankings(rng, half.scores, cases, raters, taste)
        choices = choice_model.count_choices(ranks, case, "bradley-terry")
        if choice_model.is_identified(choice_model.beats(choices.sets, choices.total())):
            return Rankings(names, case, np.tile(np.arange(raters), cases), ranks)


def _correlations(rng: Generator) -> Iterator[Simulation]:
    rho = 0.5
    truths = {
        "pearson": rho,
        "spearman": 6 / np.pi * np.arcsin(rho / 2),
        "kendall": 2 / np.pi * np.arcsin(rho),
    }
    for n in SIZES:

        def coefficients(n: int = n) -> list[Trial]:
            x = rng.normal(size=n)
            y = rho * x + (1 - rho * rho) ** 0.5 * rng.normal(size=n)
            found = [
                (truth, coefficient_interval(coefficient(x, y, name), n, name))
                for name, truth in truths.items()
            ]
            frame = pd.DataFrame(
                {
                    "id": [str(i) for i in range(n)],
                    "method": "m",
                    "label": "a",
                    "ccs": x,
                    "pass_rate": simulated.norm.cdf(y),
                    "complete": (y > 0).astype(float),
                }
            )
            told = agreement_with_score(frame)["m"]["spearman"]
            return [*found, (truths["spearman"], Interval(**told))]

        names = (*(f"{name}'s correlation" for name in truths), "Spearman of images (audit)")
        yield names, f"{n}", coefficients
