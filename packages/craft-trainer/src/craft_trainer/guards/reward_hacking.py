"""Detectors of reward hacking: pure functions of what was seen at the looks of a run.

A *look* is one held-out evaluation: the same prompts, the same noise, so that its numbers differ
from those of another look by the weights alone. Each detector is a sign that the latest looks show
or do not show; ``patience`` looks in a row make it a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.stats import binomtest

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.exceeds_real import WATCHED
from cas_metric.statistics.intervals import mean_interval
from craft_trainer.config.validation import Drift, Guard, Guards

#: Guards on a statistic that must stay in its band: name to what it is called in a sentence.
DRIFTS: Final = {
    "diversity": "diversity within a class",
    "edge_density": "edge density",
    "saturation": "saturation",
    "entropy": "entropy of the grey values",
    "noise": "share of high frequencies",
}
#: Two-sided error of an interval, shared by the looks that could have been taken for another.
_ERROR: Final = 1 - CONFIDENCE
#: p-value below which a count of copies is not put down to chance.
_SIGNIFICANT: Final = 0.01
#: More diversity, or less noise, than at first is no sign of collapse.
_ONE_SIDED: Final = {"diversity": "low", "noise": "high"}


@dataclass(frozen=True)
class Look:
    """One held-out evaluation.

    Attributes:
        step: Optimizer steps taken before it.
        scores: ``vdc``, ``ccs``, ``dd``, ``dd_prob``, ``sfs`` and ``cas``: one value a held-out
            prompt, always in the same order.
        statistics: ``edge_density``, ``saturation``, ``entropy``, ``noise``, ``grid``,
            ``diversity`` and ``copies`` of the samples.
        reward: Mean reward over the steps since the look before, r_cam of ``craft`` and the score
            of ``nft``; None without one.
    """

    step: int
    scores: Mapping[str, tuple[float, ...]]
    statistics: Mapping[str, float]
    reward: float | None = None

    @property
    def cas(self) -> float:
        """Mean Clinical Alignment Score."""
        return float(np.mean(self.scores["cas"]))

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a line of ``heldout.jsonl``."""
        return {
            "step": self.step,
            "scores": {name: list(values) for name, values in self.scores.items()},
            "statistics": dict(self.statistics),
            "reward": self.reward,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Look:
        """What :meth:`to_json` made."""
        scores = {name: tuple(row) for name, row in values["scores"].items()}
        return cls(values["step"], scores, values["statistics"], values["reward"])


class Finding(NamedTuple):
    """A guard that has found something.

    Attributes:
        guard: Its name, as in the configuration.
        step: Of the look at which patience ended.
        value: What was measured there.
        limit: What it should not have passed.
        message: One sentence for people.
        reaction: ``warn`` or ``stop``.
    """

    guard: str
    step: int
    value: float
    limit: float
    message: str
    reaction: str


class Sign(NamedTuple):
    """What a detector saw at one look; the fields are those of :class:`Finding`."""

    value: float
    limit: float
    message: str


def examine(looks: Sequence[Look], real: Look, guards: Guards) -> list[Finding]:
    """Findings of the latest look.

    Args:
        looks: Every look of the stage so far, the one before its first step included.
        real: The same of the real partners of the held-out prompts.
        guards: Thresholds and reactions.
    """
    found = []
    for name, sign in _SIGNS.items():
        guard: Guard = getattr(guards, name)
        if guard.reaction == "off" or len(looks) < guard.patience:
            continue
        last = range(len(looks) - guard.patience, len(looks))
        signs = [sign(name, looks[: index + 1], real, guards) for index in last]
        if all(signs) and (latest := signs[-1]) is not None:
            found.append(Finding(name, looks[-1].step, *latest, guard.reaction))
    return found


def best_of(looks: Sequence[Look]) -> int:
    """Position of the look with the highest mean held-out CAS; the first of equals."""
    return int(np.argmax([look.cas for look in looks]))


def _divergence(name: str, looks: Sequence[Look], real: Look, guards: Guards) -> Sign | None:
    """Held-out CAS falls from its best while the critic's reward rises."""
    best, now = best_of(looks), looks[-1]
    # The look before the first step has no reward: what came right after stands for it.
    earlier = (
        looks[best] if looks[best].reward is not None else looks[min(best + 1, len(looks) - 1)]
    )
    if now.reward is None or earlier.reward is None or now.reward <= earlier.reward:
        return None
    fall = np.subtract(looks[best].scores["cas"], now.scores["cas"])
    # The best of many looks is partly luck, of which two looks in a row have as much.
    chances = len(looks) - 1
    if guards.divergence.patience == 1:
        chances *= len(looks)
    interval = mean_interval(fall, level=1 - _ERROR / max(chances, 1))
    if interval.estimate <= guards.divergence.drop or interval.low <= 0:
        return None
    return Sign(
        interval.estimate,
        guards.divergence.drop,
        f"held-out CAS fell to {now.cas:.3f} from {looks[best].cas:.3f} at step "
        f"{looks[best].step} while the critic's reward rose to {now.reward:.3f} from "
        f"{earlier.reward:.3f}",
    )


def band_of(name: str, looks: Sequence[Look], real: Look, guards: Guards) -> tuple[float, float]:
    """Lowest and highest value that are no sign: what the first looks and real images span.

    Real images belong to it, for moving towards them is what training is for.
    """
    drift: Drift = getattr(guards, name)
    seen = [look.statistics[name] for look in (*looks[: guards.baseline], real)]
    margin = max(drift.tolerance * max(map(abs, seen)), drift.slack)
    return min(seen) - margin, max(seen) + margin


def _drift(name: str, looks: Sequence[Look], real: Look, guards: Guards) -> Sign | None:
    """A statistic has left its band."""
    if len(looks) <= guards.baseline:
        return None
    low, high = band_of(name, looks, real, guards)
    value, side = looks[-1].statistics[name], _ONE_SIDED.get(name)
    if value < low and side != "high":
        limit, way = low, "below"
    elif value > high and side != "low":
        limit, way = high, "above"
    else:
        return None
    return Sign(
        value,
        limit,
        f"the {DRIFTS[name]} of the samples is {value:.3g}, {way} the band {low:.3g} to {high:.3g} "
        "of the first looks and the real images",
    )


def _grid(name: str, looks: Sequence[Look], real: Look, guards: Guards) -> Sign | None:
    """A spectral peak at the cells of the VAE or the critic."""
    if len(looks) <= guards.baseline:
        return None
    usual = max(look.statistics["grid"] for look in (*looks[: guards.baseline], real))
    value, limit = looks[-1].statistics["grid"], usual + guards.grid.ratio
    if value <= limit:
        return None
    return Sign(
        value,
        limit,
        f"a pattern at the period of the VAE's or the critic's cells stands {value:.1f} dB out of "
        f"the spectrum, {value - usual:.1f} dB more than at first and in real images",
    )


def _exceeds_real(name: str, looks: Sequence[Look], real: Look, guards: Guards) -> Sign | None:
    """DD, VDC or CCS lie above those of the real partners, by more than so many looks explain."""
    now, level = looks[-1], 1 - _ERROR / (len(WATCHED) * len(looks))
    for primitive in WATCHED:
        gaps = np.subtract(now.scores[primitive], real.scores[primitive])
        excess = mean_interval(gaps, level=level)
        # Without any spread there is no interval, and every case says the same.
        if excess.low > 0 or (np.ptp(gaps) < 1e-9 and excess.estimate > 0):
            value, reference = (float(np.mean(x.scores[primitive])) for x in (now, real))
            return Sign(
                value,
                reference,
                f"held-out {primitive.upper()} is {value:.3f} where real images have "
                f"{reference:.3f}: a reference point, not a target",
            )
    return None


def _memorization(name: str, looks: Sequence[Look], real: Look, guards: Guards) -> Sign | None:
    """More samples are near-copies of training images than chance explains.

    Of n samples that are no copies, one in n + 1 is nearer to training than n real images are.
    """
    value, count = looks[-1].statistics["copies"], len(real.scores["cas"])
    chance = max(real.statistics["copies"], 1 / (count + 1))
    limit = real.statistics["copies"] + guards.memorization.share
    p = binomtest(round(value * count), count, chance, alternative="greater").pvalue
    if value <= limit or p >= _SIGNIFICANT:
        return None
    return Sign(
        value,
        limit,
        f"{value:.0%} of the samples are near-copies of training images, against "
        f"{real.statistics['copies']:.0%} of the real held-out images (p = {p:.1g})",
    )


_SIGNS: Final = {
    "divergence": _divergence,
    **dict.fromkeys(DRIFTS, _drift),
    "grid": _grid,
    "exceeds_real": _exceeds_real,
    "memorization": _memorization,
}
