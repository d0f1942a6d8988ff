"""Curves of a stage as one PNG, from its journals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cas_metric.protocol import PRIMITIVES
from cas_metric.report.figures import STYLE
from cas_metric.report.palette import REAL, ink
from cas_metric.statistics.intervals import mean_interval
from craft_trainer.guards.reward_hacking import Look

#: Steps that a curve is smoothed over, as a share of all.
_SMOOTHING: Final = 0.05
#: What is rewarded: by a gradient, or by the score of ``nft``.
_REWARDS: Final = (*PRIMITIVES, "score")
#: Losses of a stage, and their titles: the first one that it logs is drawn.
_LOSSES: Final = {
    "loss/diffusion": "diffusion loss",
    "loss/nft": "DiffusionNFT loss",
    "loss/total": "loss",
}


def draw_curves(
    rows: Sequence[Mapping[str, Any]], looks: Sequence[Look], real: Look | None, best: int | None
) -> bytes:
    """A PNG: the loss; where there are any, the critic's rewards and the held-out evaluation.

    Args:
        rows: Lines of ``metrics.jsonl``.
        looks: Held-out evaluations of the stage.
        real: The same of the real partners; a grey line.
        best: Step of the best look; a dotted line.
    """
    rewards = [name for name in _REWARDS if any(f"reward/{name}" in row for row in rows)]
    panels = ["loss"] + ["rewards"] * bool(rewards) + ["held-out"] * bool(looks)
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(3.4 * len(panels), 2.6), layout="constrained")
        axes = dict(zip(panels, np.ravel(figure.subplots(1, len(panels))), strict=True))
        _loss(axes["loss"], rows)
        if rewards:
            _rewards(axes["rewards"], rows, rewards)
        if looks:
            _held_out(axes["held-out"], looks, real, best)
        for panel in axes.values():
            panel.grid(axis="y")
            panel.set_xlabel("optimizer steps")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _loss(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    drawn = [name for name in _LOSSES if any(name in row for row in rows)]
    name = drawn[0] if drawn else "loss/diffusion"
    axes.set_title(_LOSSES[name])
    _curve(axes, rows, name, 0, "")


def _rewards(axes: Axes, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Change since the first steps: log-likelihood and cosines share no scale."""
    axes.set_title("rewards, change")
    for index, name in enumerate(names):
        _curve(axes, rows, f"reward/{name}", index, name.upper(), change=True)
    axes.legend(fontsize=7, ncols=2)


def _held_out(axes: Axes, looks: Sequence[Look], real: Look | None, best: int | None) -> None:
    axes.set_title("held-out CAS, 95% interval")
    steps = [look.step for look in looks]
    intervals = [mean_interval(look.scores["cas"]) for look in looks]
    style = ink(0)
    low, high = [one.low for one in intervals], [one.high for one in intervals]
    axes.fill_between(steps, low, high, color=style.light, alpha=0.15, linewidth=0)
    axes.plot(steps, [one.estimate for one in intervals], color=style.light, marker=".")
    if real is not None:
        axes.axhline(real.cas, color=REAL.light, linewidth=1.0, label="real images")
    if best is not None:
        axes.axvline(best, color="#1c2127", linewidth=0.8, linestyle=":", label="best")
    axes.legend(fontsize=7)


def _curve(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    index: int,
    label: str,
    *,
    change: bool = False,
) -> None:
    """The values behind, their running mean in front."""
    points = [(row["step"], row[name]) for row in rows if name in row]
    if not points:
        return
    steps, values = (np.array(axis, dtype=float) for axis in zip(*points, strict=True))
    width = max(1, round(_SMOOTHING * len(values)))
    kernel = np.ones(width)
    smooth = np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")
    start = smooth[0] if change else 0.0
    colour = ink(index).light
    if not change:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
    axes.plot(steps, smooth - start, color=colour, label=label)
