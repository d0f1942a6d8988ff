"""False alarms and power of every warning and test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator

from benchmarks.statistics import simulated
from benchmarks.statistics.simulated import Half
from cas_metric.copies import neighbours
from cas_metric.scoring.self_test import verdict_of
from cas_metric.statistics.bimodality import bimodality
from cas_metric.statistics.comparison import paired_differences
from cas_metric.statistics.correlation import permutation_p
from cas_metric.statistics.exceeds_real import exceeds_real
from cas_metric.statistics.position_bias import position_bias
from cas_metric.statistics.preference import Rankings, preference_scores

ALPHA = 0.05
#: Random arrangements of a permutation test: few, since there are thousands of tests.
ARRANGEMENTS = 199
#: Whether a data set without (False) or with (True) the effect raises the alarm.
Trial = Callable[[bool], bool]


class Alarm(NamedTuple):
    """What the simulations of one test found.

    Attributes:
        name: The test.
        size: Of the data.
        false: Share of harmless data sets that raise it.
        effect: What is planted in the others.
        power: Share of these that raise it.
    """

    name: str
    size: str
    false: float
    effect: str
    power: float


def measure(name: str, size: str, trial: tuple[str, Trial], repetitions: int) -> Alarm:
    """Run one simulation; a tenth of the repetitions, 200 at least, tell the power."""
    effect, raised = trial
    false = float(np.mean([raised(False) for _ in range(repetitions)]))
    planted = max(min(repetitions, 200), repetitions // 10)
    power = float(np.mean([raised(True) for _ in range(planted)]))
    return Alarm(name, size, false, effect, power)


def simulations(half: Half, rng: Generator) -> Iterator[tuple[str, str, tuple[str, Trial]]]:
    """Name, size and trial of every simulation."""
    yield from _others(half, rng)
    yield from _copies(rng)
    yield from _places(rng)
    yield from _above_real(half, rng)
    yield from _self_test(rng)


def _rows(
    rng: Generator, cases: np.ndarray, who: np.ndarray, gain: float, method: str
) -> pd.DataFrame:
    """Scores of images of the same cases; what belongs to the case is common to all methods."""
    n = len(cases)
    own = np.random.default_rng(int(cases[0])).normal(size=n)
    return pd.DataFrame(
        {
            "id": [f"{method}-{k}" for k in range(n)],
            "image": [f"{method}-{k}" for k in range(n)],
            "reference": [f"Real-{k}" for k in range(n)],
            "patient": [f"p{k}" for k in who],
            "label": np.where(np.arange(n) % 2, "a", "b"),
            "vdc": 0.15 + gain + 0.01 * own + rng.normal(0, 0.02, n),
            "ccs": 0.14 + gain + 0.01 * own + rng.normal(0, 0.02, n),
            "dd": (rng.random(n) < 0.8).astype(float),
        }
    )


def _above_real(half: Half, rng: Generator) -> Iterator[tuple[str, str, tuple[str, Trial]]]:
    # Generated images, of how many cases, of how many patients, and methods.
    for images, cases, patients, methods in (
        (240, 240, 240, 1),
        (60, 60, 60, 4),
        (60, 60, 10, 2),
        (20, 20, 20, 4),
        (10, 10, 10, 1),
    ):

        def raised(
            planted: bool,
            cases: int = cases,
            patients: int = patients,
            methods: int = methods,
        ) -> bool:
            seeds = rng.integers(2**31, size=cases)
            who = np.arange(cases) % patients
            real = _rows(rng, seeds, who, 0.0, "Real")
            sets = {
                f"m{k}": _rows(rng, seeds, who, 0.01 if planted and k == 0 else 0.0, f"m{k}")
                for k in range(methods)
            }
            # Enough for a p-value that survives Holm over twelve tests.
            found = exceeds_real(sets, real, permutations=10 * ARRANGEMENTS)
            return bool(found["m0"]) if planted else any(found.values())

        size = f"{images} images, {patients} patients, {methods} methods"
        yield "above Real", size, ("0.5 sd in VDC and CCS", raised)


def _self_test(rng: Generator) -> Iterator[tuple[str, str, tuple[str, Trial]]]:
    """The alarm is the wrong one to miss: an encoder at chance that is not called blind."""
    for sizes in ((5, 5), (10, 10), (20, 5), (57, 3), (95, 5), (40, 40, 40, 40)):

        def able(planted: bool, sizes: tuple[int, ...] = sizes) -> bool:
            classes = np.repeat(np.arange(len(sizes)), sizes)
            right = rng.random(len(classes)) < (0.8 if planted else 1 / len(sizes))
            found = verdict_of("dd", right.astype(float), classes, np.arange(len(classes)))
            return found is not None and not found["blind"]

        told = " + ".join(map(str, sizes))
        yield "self-test: not blind", f"{told} images", ("80% right", able)


def _copies(rng: Generator) -> Iterator[tuple[str, str, tuple[str, Trial]]]:
    def unit(values: np.ndarray) -> np.ndarray:
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))

    def drawn(count: int, patients: int) -> tuple[np.ndarray, np.ndarray]:
        who = np.sort(rng.integers(patients, size=count))
        centres = rng.normal(size=(patients, 16)) if patients < count else np.zeros((patients, 16))
        return unit(centres[who] + rng.normal(size=(count, 16))), who

    for n, train, test, patients in ((100, 100, 50, 0), (100, 100, 50, 25), (40, 60, 60, 0)):

        def parts(
            planted: bool,
            n: int = n,
            train: int = train,
            test: int = test,
            patients: int = patients,
        ) -> tuple[np.ndarray, ...]:
            own, _ = drawn(n, n)
            seen, who = drawn(train, patients or train)
            unseen, others = drawn(test, (patients or test * 2) // 2)
            if planted:
                copied = rng.choice(train, n // 10, replace=False)
                own[: n // 10] = unit(seen[copied] + 0.01 * rng.normal(size=(n // 10, 16)))
            return own, seen, unseen, who, others + 10_000

        def exchanged(planted: bool, parts: Callable[..., tuple[np.ndarray, ...]] = parts) -> bool:
            own, seen, unseen, who, others = parts(planted)
            classes = np.concatenate([who, others]) % 3
            p = neighbours.permutation_p(
                own, seen, unseen, strata=classes.tolist(),
                units=np.concatenate([who, others]).tolist(), permutations=ARRANGEMENTS // 2,
                seed=int(rng.integers(2**31)),
            )  # fmt: skip
            return p < ALPHA

        def nearer(planted: bool, parts: Callable[..., tuple[np.ndarray, ...]] = parts) -> bool:
            own, seen, unseen, _, others = parts(planted)
            near = [neighbours.nearest(one, seen).distance[:, 0] for one in (own, unseen)]
            return neighbours.nearer_p(*near, units=others.tolist()) < ALPHA

        def hits(planted: bool, parts: Callable[..., tuple[np.ndarray, ...]] = parts) -> bool:
            own, seen, unseen, _, others = parts(planted)
            first = np.unique(others, return_index=True)[1]
            near = [neighbours.nearest(one, seen).distance[:, 0] for one in (own, unseen[first])]
            return neighbours.excess_p(near[0] < 0.2, near[1] < 0.2) < ALPHA

        size = f"{n} images, {train} training, {test} test" + (", patients" if patients else "")
        yield "nearer to training (exchange)", size, ("10% copies", exchanged)
        yield "nearer than any real test image", size, ("10% copies", nearer)
        yield "pHash or SSIM hits beside real", size, ("10% copies", hits)


def _places(rng: Generator) -> Iterator[tuple[str, str, tuple[str, Trial]]]:
    for cases, raters, shared in ((10, 3, True), (20, 5, True), (20, 3, False), (50, 1, True)):

        def raised(
            planted: bool, cases: int = cases, raters: int = raters, shared: bool = shared
        ) -> bool:
            case = np.repeat(np.arange(cases), raters)
            orders = rng.permuted(np.tile(np.arange(3), (cases * raters, 1)), axis=1)
            if shared:
                orders = orders[case * raters]
            worth = (np.array([0.0, 0.5, 1.5]) + rng.normal(size=(cases, 3)))[case]
            seen = worth + 1.5 * planted * (orders == 0) + 0.5 * rng.gumbel(size=orders.shape)
            ranks = (-seen).argsort(axis=1).argsort(axis=1) + 1.0
            raters_of = np.tile(np.arange(raters), cases)
            data = Rankings(("a", "b", "c"), case, raters_of, ranks, orders + 1.0)
            found = position_bias(data, exchanges=199, seed=int(rng.integers(2**31)))
            return found is not None and found.p < ALPHA

        orders = "one order a case" if shared else "an order a rater"
        yield "position bias", f"{cases} cases × {raters}, {orders}", ("1.5 in worth", raised)


def _others(half: Half, rng: Generator) -> Iterator[tuple[str, str, tuple[str, Trial]]]:
    for n in (10, 20, 50, 200):

        def pairs(planted: bool, n: int = n) -> bool:
            case = rng.normal(size=n)
            table = {
                name: case + rng.normal(size=n) + (0.8 if planted and name == "a" else 0.0)
                for name in "abc"
            }
            found = paired_differences(table, permutations=ARRANGEMENTS)
            return any(one.p_adjusted < ALPHA for one in found)

        def scores(planted: bool, n: int = n) -> bool:
            values = (1.0, 0.0, 0.0) if planted else (0.0, 0.0, 0.0)
            ranks, cases = simulated.rankings(rng, values, n, 3, 0.7)
            data = Rankings(("a", "b", "c"), cases, np.tile(np.arange(3), n), ranks)
            return any(one.p_adjusted < ALPHA for one in preference_scores(data).differences)

        def correlated(planted: bool, n: int = n) -> bool:
            x = rng.normal(size=n)
            y = (0.7 if planted else 0.0) * x + 0.7 * rng.normal(size=n)
            return permutation_p(x, y, "spearman", orders=ARRANGEMENTS)[0] < ALPHA

        yield "paired differences, 3 methods", f"{n} cases", ("0.6 sd", pairs)
        yield "differences of Bradley-Terry scores", f"{n} cases × 3", ("1 in log worth", scores)
        if n <= 50:
            yield "correlation of methods", f"{n}", ("rho 0.7", correlated)
    for n, patients in ((100, 0), (400, 0), (400, 40)):

        def modes(planted: bool, n: int = n, patients: int = patients) -> bool:
            who = np.arange(n) % patients if patients else np.arange(n)
            wrong = simulated.outcomes(rng, 0.25 if planted else 0.03, who, 0.2)
            return bimodality(simulated.cas(rng, 1 - wrong), 1 - wrong, clusters=who).warning

        size = f"{n} real images" + (f", {patients} patients" if patients else "")
        yield "tau between the modes of Real", size, ("25% wrong in place of 3%", modes)
