"""The critics, and from clean latents to their mean reward with a graph, as a whole or in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from craft_trainer.guards.statistics import gradient_logs, image_gradients, image_statistics
from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule, Rewards, Targets
from craft_trainer.rewards.safeguards import cropped
from craft_trainer.rewards.targets import load_critic, offload_text, prepare_guarded

if TYPE_CHECKING:
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.methods.base import Setup
    from craft_trainer.methods.craft import CraftStage


@dataclass(frozen=True)
class Judge:
    """Decodes latents and rewards the images.

    Attributes:
        model: Whose decoder makes images.
        cams: Critics; rewards are the mean over them.
        repeats: M, for the statistics of repeats.
        micro_batch: Images that are judged at once; None for all in one graph.
        augment: Share of the side that the critics see cropped away.
        grey: Whether the critics see the mean of the colours.
        balance: Whether the gradients of the rewards at the image get equal norms.
    """

    model: DiffusionModel
    cams: tuple[ClinicalAlignmentModule, ...]
    repeats: int
    micro_batch: int | None = None
    augment: float = 0.0
    grey: bool = False
    balance: bool = False

    def __call__(
        self,
        latents: Tensor,
        targets: Sequence[Targets],
        generators: Sequence[torch.Generator],
        *,
        look: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean reward of ``(N, C, h, w)`` latents, whose gradient reaches them, and its logs.

        With ``micro_batch`` the reward's gradient at the latents is summed up first, with the
        graph of decoder and critics for so many images at a time: what is returned has the value
        of the mean reward, and that gradient.

        Args:
            latents: With a graph.
            targets: For each critic, one row an image.
            generators: One an image, for what the critics see.
            look: Whether each reward's gradient is logged.
        """
        if self.micro_batch is None:
            images = self.model.decode(latents)
            rewards = self._rewards(images, targets, generators)
            logs = {f"reward/{name}": value.mean().detach() for name, value in _all(rewards)}
            logs |= image_statistics(images.detach(), self.repeats)
            if look:
                logs |= gradient_logs(image_gradients(rewards.terms, images, len(images)))
            return rewards.r_cam.mean(), logs
        return self._in_parts(latents, targets, generators, look, self.micro_batch)

    def _in_parts(
        self,
        latents: Tensor,
        targets: Sequence[Targets],
        generators: Sequence[torch.Generator],
        look: bool,
        size: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        count = len(latents)
        leaf = latents.detach().requires_grad_()
        drawn, values, gradients = [], [], []
        for start in range(0, count, size):
            rows = range(start, min(start + size, count))
            images = self.model.decode(leaf[rows.start : rows.stop])
            own = [one.at(rows) for one in targets]
            rewards = self._rewards(images, own, generators[rows.start : rows.stop])
            if look:
                gradients.append(image_gradients(rewards.terms, images, count))
            (rewards.r_cam.sum() / count).backward(inputs=[leaf])
            drawn.append(images.detach())
            values.append({name: value.detach() for name, value in _all(rewards)})
        logs = {
            f"reward/{name}": torch.cat([one[name] for one in values]).mean() for name in values[0]
        }
        logs |= image_statistics(torch.cat(drawn), self.repeats)
        if look:
            whole = {name: torch.cat([one[name] for one in gradients]) for name in gradients[0]}
            logs |= gradient_logs(whole)
        assert leaf.grad is not None
        carried = (latents * leaf.grad).sum()
        return logs["reward/r_cam"] + (carried - carried.detach()), logs

    def _rewards(
        self, images: Tensor, targets: Sequence[Targets], generators: Sequence[torch.Generator]
    ) -> Rewards:
        """Of images, the mean over the critics."""
        seen = images.mean(dim=1, keepdim=True).expand_as(images) if self.grey else images
        seen = cropped(seen, self.augment, generators) if self.augment > 0 else seen
        found = [cam.unchecked(seen, own) for cam, own in zip(self.cams, targets, strict=True)]
        rewards = found[0] if len(found) == 1 else _mean(found)
        return self._balanced(rewards, images) if self.balance else rewards

    def _balanced(self, rewards: Rewards, images: Tensor) -> Rewards:
        """Each reward's gradient, in place of its size, counts as its weight says.

        The value stays that of the weights, which curves and guards compare over the steps. A
        reward without a gradient, such as one that is clipped, has nothing to be scaled.
        """
        gradients = image_gradients(rewards.terms, images, 1)
        norms = {name: one.flatten(1).norm(dim=1) for name, one in gradients.items()}
        usual = torch.stack(list(norms.values())).mean(dim=0)
        weighted = [
            self.cams[0].weights[name] * value * usual / norms[name].clamp(min=1e-12)
            for name, value in rewards.terms.items()
        ]
        pull = torch.stack(weighted).sum(dim=0)
        return Rewards(rewards.terms, rewards.r_cam.detach() + (pull - pull.detach()))


def _all(rewards: Rewards) -> list[tuple[str, Tensor]]:
    return [*rewards.terms.items(), ("r_cam", rewards.r_cam)]


def _mean(found: Sequence[Rewards]) -> Rewards:
    terms = {
        name: torch.stack([one.terms[name] for one in found]).mean(dim=0) for name in found[0].terms
    }
    return Rewards(terms, torch.stack([one.r_cam for one in found]).mean(dim=0))


def prepared_critic(
    setup: Setup, stage: CraftStage, spec: str
) -> tuple[ClinicalAlignmentModule, Targets]:
    """A critic as the configuration wants it, and what it judges each training image's samples by.

    Its text tower leaves the device once all texts are embedded.
    """
    config = setup.config
    critic = load_critic(spec, config, setup.model.device)
    probe = config.critic.probe if spec == config.critic.encoder else None

    def prepare() -> Any:
        return prepare_guarded(
            setup.examples, critic, setup.cache, stage.rewards.weights(), probe, stage.guarded
        )

    targets, fitted, rivals = setup.once(prepare)
    offload_text(critic)
    rivals = None if rivals is None else rivals.to(critic.device)
    cam = ClinicalAlignmentModule(critic, fitted, stage.rewards.weights(), rivals=rivals)
    return cam, targets
