"""The tables of ``benchmarks.real.craft``, from what its commands left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.paper.methods import pair_table
from benchmarks.paper.steps import times
from benchmarks.phantoms.craft import interval
from benchmarks.real.craft import TITLES, Photographs, sizes
from benchmarks.real.judge import AlexNet, Gain, Known, Logistic, gains
from cas_metric.manifest import read_manifest
from cas_metric.protocol import ALPHA
from cas_metric.statistics.intervals import rate_interval
from cas_metric.statistics.tables import markdown_table, number, percent
from cas_metric.statistics.uncertainty import Interval
from cas_metric.verbs.memorization_text import memorization_markdown

if TYPE_CHECKING:
    from cas_metric.manifest import Manifest

_ORDER = {name: place for place, name in enumerate(TITLES)}
_COLUMNS = ("vdc", "ccs", "dd", "sfs", "cas")
#: Draws of the real photographs that a judge learns from.
_DRAWS = 20


def report(experiment: Photographs, alexnet: Path) -> str:
    """All tables; the features of the judge are kept in the run directory."""
    folder = experiment.folder
    found = json.loads((folder / "comparison" / "comparison.json").read_text(encoding="utf-8"))
    scored = json.loads((folder / "scores" / "summary.json").read_text(encoding="utf-8"))
    copies = json.loads((folder / "memorization" / "summary.json").read_text(encoding="utf-8"))
    judge = Judge(experiment, alexnet)
    count = len(judge.known["base"].labels)
    parts = [
        f"# CRAFT on real photographs: {experiment.world.name}",
        "## Table 1",
        table1(found, judge.verdicts()),
        "## Table 14",
        table14(found, scored["cas_v2"]["tail"]),
        "## Paired differences",
        pair_table(found, experiment.focus),
        *(f"- Warning: {warning}" for warning in found["warnings"]),
        "## Memorization, first seed",
        memorization_markdown(copies),
        "## Probes of AlexNet's features, with images for training prompts",
        gain_table(judge.gains(sizes(count)), judge.counts()),
        (folder / "utility" / "utility.md").read_text(encoding="utf-8").replace("# ", "## ", 1),
        "## Time",
        markdown_table(
            ("step", "seconds"), [(k, str(v)) for k, v in times(folder / "steps.log").items()]
        ),
    ]
    return "\n\n".join(parts) + "\n"


class Judge:
    """AlexNet's features of all sets, and what probes on them say.

    Attributes:
        known: Features and classes: ``base``, ``test``, ``images``, and the sets of
            :meth:`Photographs.sets`.
    """

    def __init__(self, experiment: Photographs, alexnet: Path) -> None:
        self.experiment, self.names = experiment, experiment.world.domain.class_names
        folder = experiment.folder
        self.images = read_manifest(folder / "images")
        sets = {
            "base": read_manifest(folder / "data" / "base"),
            "test": read_manifest(folder / "data" / "test"),
            "images": self.images,
            **{name: read_manifest(path) for name, path in experiment.sets().items()},
        }
        self.known = {name: self._known(name, one, alexnet) for name, one in sets.items()}

    def _known(self, name: str, manifest: Manifest, alexnet: Path) -> Known:
        path = self.experiment.folder / "alexnet" / f"{name}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            np.save(path, AlexNet(alexnet)(manifest).numpy())
        labels = [self.names.index(label) for label in manifest.rows["label"]]
        return Known(torch.from_numpy(np.load(path)), np.array(labels))

    def verdicts(self) -> dict[str, Interval]:
        """Method, or ``real``, to the share that a judge of real photographs names rightly."""
        judge = Logistic(self.known["base"], len(self.names))
        test, images = self.known["test"], self.known["images"]
        found = {"real": rate_interval(judge.named(test.features) == test.labels)}
        right = judge.named(images.features) == images.labels
        for method in self.experiment.methods:
            own = (self.images.rows["method"] == method).to_numpy()
            cases = self.images.rows.loc[own, "reference"].to_numpy()
            found[method] = rate_interval(right[own], clusters=cases)
        return found

    def counts(self) -> dict[str, int]:
        """Images of each synthetic set."""
        return {name: len(self.known[name].labels) for name in self.experiment.sets()}

    def gains(self, counts: Sequence[int]) -> list[Gain]:
        """What the synthetic sets do to judges of ``counts`` real photographs."""
        sets = {name: self.known[name] for name in self.experiment.sets()}
        return gains(self.known["base"], self.known["test"], sets, counts, _DRAWS)


def table1(found: Mapping[str, Any], verdicts: Mapping[str, Interval]) -> str:
    """Means with Real and Floor above them; the last column is AlexNet's."""
    entries = [{"method": name, **found[name]} for name in ("real", "floor") if name in found]
    lines = []
    for entry in entries + sorted(found["methods"], key=lambda one: _ORDER[one["method"]]):
        name = entry["method"]
        seen, spread = verdicts.get(name), entry.get("seeds", {}).get("cas")
        lines.append(
            (
                TITLES.get(name, name.capitalize()),
                *(number(entry["mean"][column]) for column in _COLUMNS),
                interval(*entry["interval"]["cas"]),
                f"± {number(spread['std'])}" if spread and spread["std"] is not None else "–",
                f"{number(seen.estimate)} {interval(seen.low, seen.high)}" if seen else "–",
            )
        )
    headings = [*map(str.upper, _COLUMNS), "95% interval of CAS", "over seeds", "named by AlexNet"]
    return markdown_table(("method", *headings), lines)


def table14(found: Mapping[str, Any], low: Sequence[Mapping[str, Any]]) -> str:
    """The tail of cas-v1, and the low share of cas-v2 at its level with that of held-out Real."""
    second = {
        one["method"]: one for one in low if one["alpha"] == ALPHA and not one["label"]
    }  # over all classes
    lines = []
    for name, entry in sorted(found["tail"]["by_cas"].items(), key=lambda one: _ORDER[one[0]]):
        calibrated = second[name]
        shares = [
            f"{percent(calibrated[mean])} [{percent(calibrated[left])}, "
            f"{percent(calibrated[right])}]"
            for mean, left, right in (
                ("share_low", "low", "high"),
                ("real_share_low", "real_low", "real_high"),
            )
        ]
        rate = [percent(value) for value in (entry["rate"], *entry["rate_interval"])]
        lines.append((TITLES[name], "{} [{}, {}]".format(*rate), number(entry["p10"]), *shares))
    tail = found["tail"]
    text = (
        f"tau = {number(tail['tau'])} {interval(*tail['tau_interval'])}, the 25th percentile of "
        f"the real images; cas-v2 at alpha = {ALPHA}."
    )
    headings = ("method", "CAS < tau", "10th pct.", "cas-v2 low", "of held-out real images")
    return f"{text}\n\n{markdown_table(headings, lines)}"


def gain_table(found: Sequence[Gain], counts: Mapping[str, int]) -> str:
    """Accuracy on the test photographs, and what each set changed."""
    lines = []
    for one in found:
        change = one.difference
        lines.append(
            (
                str(one.real),
                f"{one.name} ({counts[one.name]})" if one.name else "real only",
                f"{number(one.accuracy)} ± {number(one.spread)}",
                f"{change.estimate:+.3f} {interval(change.low, change.high)}" if change else "–",
            )
        )
    headings = ("real images", "with", "accuracy, ± over draws", "difference, 95% over test images")
    return markdown_table(headings, lines)
