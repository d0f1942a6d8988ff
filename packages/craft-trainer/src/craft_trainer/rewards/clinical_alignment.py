"""Clinical Alignment Module: the four primitives as differentiable rewards (§3.2, §A.1).

The definitions are those of :mod:`cas_metric.primitives`; here they get a frozen critic, a frozen
probe and what the critic has already made of prompts, checklists and reference images. Only the
generated image is embedded in a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from cas_metric import primitives
from cas_metric.encoders import Encoder
from cas_metric.errors import InputError
from cas_metric.images.tensors import require_unit_range
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
        ceiling: ``(B, 4)`` values above which the rewards count no more, in the order of
            ``protocol.PRIMITIVES``; None for no such limit.

    Examples:
        >>> one = torch.eye(2)
        >>> targets = Targets(one, one, one, torch.tensor([0, 1]))
        >>> targets.repeat(2).label.tolist(), targets.at([1]).label.tolist()
        ([0, 1, 0, 1], [1])
    """

    prompt: Tensor
    checklist: Tensor
    reference: Tensor
    label: Tensor
    ceiling: Tensor | None = None

    def at(self, rows: Sequence[int]) -> Targets:
        """The targets of some rows, on the device of the others."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.label.device)
        return self._each(lambda part: part[index])

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return self._each(lambda part: part.to(device))

    def repeat(self, times: int) -> Targets:
        """The targets of ``times`` trajectories an image, repeat by repeat."""
        return self._each(lambda part: part.repeat(times, *[1] * (part.ndim - 1)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        return Targets(
            change(self.prompt),
            change(self.checklist),
            change(self.reference),
            change(self.label),
            None if self.ceiling is None else change(self.ceiling),
        )


@dataclass(frozen=True)
class Rewards:
    """Rewards of a batch of images.

    Attributes:
        terms: Primitive to ``(B,)``; only those with a weight.
        r_cam: ``(B,)`` their weighted sum.

    Examples:
        >>> rewards = Rewards({"vdc": torch.tensor([0.1, 0.2])}, torch.tensor([0.1, 0.2]))
        >>> rewards.r_cam.mean()
        tensor(0.1500)
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
        targets: What the rows of a manifest are judged against; see :meth:`from_manifest`.
        ids: Of those rows.
        rivals: ``(C, D)`` checklists of all classes, in the order of their indices; with them CCS
            is that of the own class minus that of the most confusable other one.

    Raises:
        InputError: An unknown or negative weight, none above zero, or ``dd`` without a probe.
    """

    def __init__(
        self,
        critic: Encoder,
        probe: Probe | None,
        weights: Mapping[str, float] = EQUAL_WEIGHTS,
        *,
        targets: Targets | None = None,
        ids: Sequence[str] = (),
        rivals: Tensor | None = None,
    ) -> None:
        self.critic = critic
        self.rivals = rivals
        self.targets = targets
        self._row_of = {name: row for row, name in enumerate(ids)}
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

    @classmethod
    def from_manifest(
        cls,
        manifest: str | Path,
        critic: str | Encoder = "medsiglip",
        *,
        domain: str | None = None,
        weights: Mapping[str, float] = EQUAL_WEIGHTS,
        probe: str | Path | None = None,
        device: str | torch.device | None = None,
        cache: str | Path | None = None,
        offline: bool = False,
    ) -> ClinicalAlignmentModule:
        """Rewards against the rows of a manifest, for a training loop of one's own.

        What the critic can see beforehand is embedded once: prompts, checklists, real images; and
        the probe is fitted on these.

        Args:
            manifest: Real training images with labels and prompts: a table or a folder.
            critic: Encoder that gives the rewards, or its spec. Never the one that scores the
                result.
            domain: Domain pack with classes and checklists; by default what the folder's cas.yaml
                names.
            weights: Of each primitive within r_cam; 0 switches it off.
            probe: A saved probe in the critic's space, in place of a fitted one.
            device: Where the critic goes; a GPU where there is one.
            cache: Folder of the embedding store; ``"none"`` for a temporary one.
            offline: Whether the hub is left alone.

        Raises:
            PreflightError: Rows lack what a reward with a weight needs; all are listed.
            ModelUnavailable: The critic cannot be had here.

        Examples:
            >>> import torch, craft_trainer
            >>> cam = craft_trainer.ClinicalAlignmentModule.from_manifest(
            ...     train, critic="phantom-medsiglip", cache="none"
            ... )
            >>> images = torch.rand(2, 3, 64, 64, requires_grad=True)
            >>> rewards = cam(images, rows=[0, 5])
            >>> sorted(rewards.terms)
            ['ccs', 'dd', 'sfs', 'vdc']
            >>> rewards.r_cam.mean().backward()
            >>> images.grad.shape
            torch.Size([2, 3, 64, 64])
        """
        from cas_metric.embedding.cache import EmbeddingCache
        from cas_metric.encoders import load_encoder
        from craft_trainer.data.dataset import read_examples
        from craft_trainer.rewards.targets import prepare_targets

        examples = read_examples(Path(manifest), domain)
        if isinstance(critic, str):
            where = str(device) if device is not None else "auto"
            critic = load_encoder(critic, device=where, offline=offline)
        with EmbeddingCache(cache) as store:
            saved = None if probe is None else Path(probe)
            targets, fitted = prepare_targets(examples, critic, store, weights, saved)
        ids = tuple(str(one) for one in examples.manifest.rows["id"])
        return cls(critic, fitted, weights, targets=targets, ids=ids)

    def __call__(self, images: Tensor, rows: Sequence[int] | Sequence[str] | Tensor) -> Rewards:
        """Rewards of generated images, each judged against a row of the manifest.

        Args:
            images: ``(B, 3, H, W)`` floating-point RGB in [0, 1], on the critic's device.
            rows: ``B`` positions in the manifest, from 0, or ids.

        Returns:
            ``terms`` maps each primitive with a weight to ``(B,)``, ``r_cam`` is their weighted
            sum; gradients flow to ``images``. DD is a log-likelihood, the others are cosines.

        Raises:
            InputError: The images are of another shape, type or range, or not finite; or a row is
                not in the manifest, or there is no manifest.
        """
        if self.targets is None:
            raise InputError(
                "this module has no manifest to look rows up in",
                fix="make it with ClinicalAlignmentModule.from_manifest, or call `rewards`",
            )
        if len(rows) != len(images):
            raise InputError(
                f"{len(images)} images and {len(rows)} rows", fix="name one row for each image"
            )
        targets = self.targets.at(self._positions(rows)).to(self.critic.device)
        return self.rewards(images, targets)

    def _positions(self, rows: Sequence[int] | Sequence[str] | Tensor) -> list[int]:
        """Where rows stand in the manifest."""
        if isinstance(rows, Tensor):
            rows = [int(row) for row in rows.tolist()]
        found = []
        for row in rows:
            position = self._row_of.get(row, -1) if isinstance(row, str) else int(row)
            if not 0 <= position < len(self._row_of):
                raise InputError(
                    f"{row!r} is no row of the manifest, which has {len(self._row_of)}",
                    fix="give positions from 0, or ids of its `id` column",
                )
            found.append(position)
        return found

    def rewards(self, images: Tensor, targets: Targets) -> Rewards:
        """Rewards of ``(B, 3, H, W)`` images in [0, 1]; gradients flow to them (Eqs. 2-6).

        Raises:
            InputError: As of :func:`require_unit_range`.
        """
        require_unit_range(images)
        return self.unchecked(images, targets)

    def unchecked(self, images: Tensor, targets: Targets) -> Rewards:
        """As :meth:`rewards`, without a look at the images, for which a device would wait."""
        embeddings = self.critic.embed_images(images)
        terms = self.terms(embeddings, targets)
        weighted = [self.weights[name] * value for name, value in terms.items()]
        return Rewards(terms, torch.stack(weighted).sum(dim=0))

    def terms(self, embeddings: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Primitive to ``(B,)`` rewards of embedded images; only those with a weight."""
        found = {name: self._term(name, embeddings, targets) for name in self.weights}
        if targets.ceiling is None:
            return found
        limits = dict(zip(PRIMITIVES, targets.ceiling.unbind(dim=1), strict=True))
        return {name: value.minimum(limits[name]) for name, value in found.items()}

    def _term(self, name: str, embeddings: Tensor, targets: Targets) -> Tensor:
        if name == "vdc":
            return primitives.vdc(embeddings, targets.prompt)
        if name == "ccs":
            own = primitives.ccs(embeddings, targets.checklist)
            return own if self.rivals is None else own - self._most_confusable(embeddings, targets)
        if name == "sfs":
            return primitives.sfs(embeddings, targets.reference)
        assert self.probe is not None
        return primitives.dd_log_likelihood(self.probe.logits(embeddings), targets.label)

    def _most_confusable(self, embeddings: Tensor, targets: Targets) -> Tensor:
        """``(B,)`` highest CCS with a class that is not the own one."""
        assert self.rivals is not None
        every = embeddings @ self.rivals.T
        own = torch.nn.functional.one_hot(targets.label, len(self.rivals)).bool()
        return every.masked_fill(own, -torch.inf).amax(dim=1)


def active(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights above zero, in the order of every table.

    Raises:
        InputError: An unknown name, a negative weight, or none above zero.

    Examples:
        >>> active({"sfs": 0.5, "dd": 0, "vdc": 0.5})
        {'vdc': 0.5, 'sfs': 0.5}
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
