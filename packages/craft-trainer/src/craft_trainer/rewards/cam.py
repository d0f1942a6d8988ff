"""Clinical Alignment Module: the four primitives as differentiable rewards (§3.2, §A.1).

The definitions are those of :mod:`cas_metric.primitives`; here they get a frozen critic, a frozen
probe and what the critic has already made of prompts, checklists and reference images. Only the
generated image is embedded in a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cas_metric import primitives
from cas_metric.encoders import Encoder
from cas_metric.errors import InputError
from cas_metric.protocol import PRIMITIVES
from cas_metric.scoring.probe import Probe

#: Weight of each reward within r_cam: Eq. 6 takes their mean.
EQUAL_WEIGHTS: Final[Mapping[str, float]] = dict.fromkeys(PRIMITIVES, 0.25)


@dataclass(frozen=True)
class Targets:
    """What a batch of generated images is judged against; precomputed, without gradients.

    Attributes:
        prompt: ``(B, D)`` critic embeddings of t_ep.
        checklist: ``(B, D)`` critic embeddings of t_c.
        reference: ``(B, D)`` critic embeddings of x_r.
        label: ``(B,)`` class indices of the probe.
    """

    prompt: Tensor
    checklist: Tensor
    reference: Tensor
    label: Tensor

    def at(self, rows: Sequence[int]) -> Targets:
        """The targets of some rows, on the device of the others."""
        index = torch.as_tensor(rows, device=self.label.device)
        return Targets(
            self.prompt[index], self.checklist[index], self.reference[index], self.label[index]
        )

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        parts = (self.prompt, self.checklist, self.reference, self.label)
        return Targets(*(part.to(device) for part in parts))

    def repeat(self, times: int) -> Targets:
        """The targets of ``times`` trajectories an image, repeat by repeat."""
        return Targets(
            self.prompt.repeat(times, 1),
            self.checklist.repeat(times, 1),
            self.reference.repeat(times, 1),
            self.label.repeat(times),
        )


@dataclass(frozen=True)
class Rewards:
    """Rewards of a batch of images.

    Attributes:
        terms: Primitive to ``(B,)``; only those with a weight.
        r_cam: ``(B,)`` their weighted sum.
    """

    terms: Mapping[str, Tensor]
    r_cam: Tensor


class ClinicalAlignmentModule:
    """Rewards per dimension of images in [0, 1].

    Args:
        critic: Frozen encoder (MedSigLIP in the paper); gradients flow through its preprocessing
            to the pixels and never into its weights.
        probe: Fitted on the critic's embeddings of real training images. Not needed when ``dd``
            has no weight.
        weights: Of each primitive within r_cam; 0, or leaving one out, switches it off (Tables 4
            and 15). By default the mean of Eq. 6.

    Raises:
        InputError: An unknown or negative weight, none above zero, or ``dd`` without a probe.
    """

    def __init__(
        self,
        critic: Encoder,
        probe: Probe | None,
        weights: Mapping[str, float] = EQUAL_WEIGHTS,
    ) -> None:
        self.critic = critic
        self.probe = probe
        self.weights = active(weights)
        if "dd" in self.weights and probe is None:
            raise InputError(
                "the reward dd needs a probe",
                fix="fit one on real images of at least two classes, or set the weight of dd to 0",
            )
        if probe is not None and probe.fingerprint != critic.fingerprint:
            raise InputError(
                f"the probe was not fitted on embeddings of {critic.name}",
                fix="fit it on the critic that gives the rewards",
            )

    def rewards(self, images: Tensor, targets: Targets) -> Rewards:
        """Rewards of ``(B, 3, H, W)`` images in [0, 1]; gradients flow to them (Eqs. 2-6)."""
        embeddings = self.critic.embed_images(images)
        terms = {name: self._term(name, embeddings, targets) for name in self.weights}
        weighted = [self.weights[name] * value for name, value in terms.items()]
        return Rewards(terms, torch.stack(weighted).sum(dim=0))

    def _term(self, name: str, embeddings: Tensor, targets: Targets) -> Tensor:
        if name == "vdc":
            return primitives.vdc(embeddings, targets.prompt)
        if name == "ccs":
            return primitives.ccs(embeddings, targets.checklist)
        if name == "sfs":
            return primitives.sfs(embeddings, targets.reference)
        assert self.probe is not None
        return primitives.dd_log_likelihood(self.probe.logits(embeddings), targets.label)


def active(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights above zero, in the order of every table.

    Raises:
        InputError: An unknown name, a negative weight, or none above zero.
    """
    unknown = [name for name in weights if name not in PRIMITIVES]
    if unknown or any(value < 0 for value in weights.values()):
        raise InputError(
            f"reward weights {dict(weights)} cannot be used",
            fix=f"give {', '.join(PRIMITIVES)} weights of 0 or more",
        )
    chosen = {name: weights[name] for name in PRIMITIVES if weights.get(name, 0.0) > 0}
    if not chosen:
        raise InputError("every reward is switched off", fix="give one a weight above 0")
    return chosen
