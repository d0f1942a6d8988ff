"""Which probe judges which image, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.scoring.inputs import Inputs
from cas_metric.scoring.probe import CrossFittedProbe, Probe, cross_fit, fit

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judge:
    """The probe of a run, or the cross-fitted probes, or neither.

    Attributes:
        kind: ``train`` for a probe of the real training split, fitted as the protocol says, and the
            same followed by what departs from it; ``cross-fitted``; or ``none``.
        reason: Why there is none.
        probe: Of kind ``train``.
        crossed: Of kind ``cross-fitted``.
        folds: ``(M,)`` fold of each real image, -1 for those that no probe was fitted on.
    """

    kind: str
    reason: str = ""
    probe: Probe | None = None
    crossed: CrossFittedProbe | None = None
    folds: NDArray[np.int64] | None = None

    def logits(self, embeddings: Floats, real_rows: NDArray[np.int64]) -> Floats | None:
        """``(N, C)`` logits, or None without a probe.

        Args:
            embeddings: ``(N, D)``.
            real_rows: ``(N,)`` position of the real image that each one is, or refers to; -1
                without one. A cross-fitted probe that has seen that image does not judge it.
        """
        if self.probe is not None:
            return self.probe.logits(embeddings)
        if self.crossed is None or self.folds is None:
            return None
        folds = np.where(real_rows >= 0, self.folds[real_rows], -1)
        return self.crossed.logits(embeddings, folds)

    @property
    def taught(self) -> tuple[str, ...]:
        """Classes that a probe of it was fitted on; all of its own where it does not tell."""
        crossed = () if self.crossed is None else self.crossed.probes
        probes = crossed if self.probe is None else (self.probe,)
        named = (name for one in probes for name in one.info.get("fitted_classes", one.classes))
        return tuple(dict.fromkeys(named))

    def describe(self) -> dict[str, Any]:
        """What the summary says of it."""
        if self.probe is not None:
            return {"kind": self.kind, **self.probe.info}
        if self.crossed is not None:
            info = self.crossed.probes[0].info
            made = {k: v for k, v in info.items() if k not in ("images", "training_accuracy")}
            return {"kind": self.kind, "folds": len(self.crossed.probes), **made}
        return {"kind": self.kind, "reason": self.reason}


def make_judge(
    inputs: Inputs,
    encoder: Encoder,
    real: Floats,
    train: Floats | None,
    *,
    probe: Probe | None,
    real_groups: Sequence[str],
) -> Judge:
    """Take the probe given, else fit one on ``train``, else cross-fit on ``real``.

    Args:
        inputs: The tables.
        encoder: The embedding space.
        real: ``(M, D)`` embeddings of ``inputs.real``, NaN where an image failed.
        train: ``(T, D)`` of ``inputs.train``.
        probe: A fitted probe.
        real_groups: ``(M,)`` what must stay in one fold.

    Raises:
        InputError: The probe was fitted on other classes.
    """
    if probe is None and inputs.train is not None and train is not None:
        labels = inputs.train["class_index"].to_numpy()
        rows = np.flatnonzero(np.isfinite(train).all(axis=1) & (labels >= 0))
        if len(np.unique(labels[rows])) < 2:  # there were two classes before the files were read
            return Judge("none", reason="training images of only one class could be read")
        probe = fit(train[rows], labels[rows], inputs.classes, fingerprint=encoder.fingerprint)
    if probe is not None:
        probe = aligned(probe, inputs.classes)
        points = [probe.departure, _untaught(probe, inputs)]
        return Judge("; ".join(["train", *filter(None, points)]), probe=probe)
    labels = inputs.real["class_index"].to_numpy()
    rows = np.flatnonzero(np.isfinite(real).all(axis=1) & (labels >= 0))
    if not len(rows):
        return Judge("none", reason="no real image that could be read has a label")
    groups = [real_groups[int(row)] for row in rows]
    try:
        crossed = cross_fit(
            real[rows],
            labels[rows],
            inputs.classes,
            fingerprint=encoder.fingerprint,
            groups=groups,
        )
    except InputError:
        return Judge(
            "none", reason="too few real images of two classes to fit a probe on some of them"
        )
    folds = np.full(len(real), -1, dtype=np.int64)
    folds[rows] = crossed.folds
    return Judge("cross-fitted", crossed=crossed, folds=folds)


def aligned(probe: Probe, classes: tuple[str, ...]) -> Probe:
    """The probe with its logits in the order of ``classes``.

    Raises:
        InputError: It tells other classes apart.
    """
    if set(probe.classes) != set(classes):
        raise InputError(
            f"the probe tells apart {', '.join(probe.classes)}; the images are of "
            f"{', '.join(classes)}",
            fix="fit a probe on these classes with --train, or choose the domain it belongs to",
        )
    order = [probe.classes.index(name) for name in classes]
    return Probe(classes, probe.fingerprint, probe.weight[order], probe.bias[order], probe.info)


def _untaught(probe: Probe, inputs: Inputs) -> str:
    """Classes of the images that the probe never saw an image of: their DD is 0 whatever they show.

    Those that the training split lacks were refused, or asked for, before; those whose images all
    turned out to be unreadable are known only now.
    """
    seen = inputs.occurring - set(probe.info.get("fitted_classes", inputs.classes))
    return f"without {', '.join(sorted(seen))}" if seen else ""
