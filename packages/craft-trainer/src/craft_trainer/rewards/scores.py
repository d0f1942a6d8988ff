"""Scores of images that need no gradient, by name: of this package, or an entry point.

A score takes ``(N, 3, H, W)`` images in [0, 1] and the ``N`` rows of the training images whose
prompts they were drawn from, and hands back ``(N,)`` numbers, the higher the better. Another
package (an audit by a language model, a physician's ranking) offers a function from the
:class:`~craft_trainer.methods.base.Setup` of a stage to a score, as an entry point of the group
``craft_trainer.scores``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from cas_metric import primitives
from cas_metric.errors import InputError
from cas_metric.protocol import PRIMITIVES
from craft_trainer.rewards.clinical_alignment import EQUAL_WEIGHTS, ClinicalAlignmentModule
from craft_trainer.rewards.targets import load_critic, offload_text, prepare_targets

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder
    from craft_trainer.methods.base import Setup

GROUP: Final = "craft_trainer.scores"


class Score(NamedTuple):
    """A score, and the encoder that it comes from, where there is one.

    Attributes:
        of: ``(N, 3, H, W)`` images and ``N`` rows to ``(N,)``.
        critic: It cannot be the held-out evaluator.
    """

    of: Callable[[Tensor, Sequence[int]], Tensor]
    critic: Encoder | None = None


def load_score(name: str, setup: Setup) -> Score:
    """A score by name.

    Args:
        name: ``dd``, 0 or 1 as it is evaluated; ``cas``, the mean of the four primitives with that
            DD; or an entry point.
        setup: Of the stage.

    Raises:
        InputError: Nobody offers it; those that are offered are named.
    """
    require_score(name)
    if name in OWN:
        return _of_primitives(OWN[name], setup)
    (one, *_) = entry_points(group=GROUP, name=name)
    found: Score = one.load()(setup)
    return found


def require_score(name: str) -> None:
    """Refuse a name that nobody offers a score by. InputError, which names those that are."""
    known = sorted({*OWN, *(one.name for one in entry_points(group=GROUP))})
    if name not in known:
        raise InputError(f"no score {name!r}", fix=f"scores: {', '.join(known)}")


def _of_primitives(names: tuple[str, ...], setup: Setup) -> Score:
    """The mean of some primitives in the space of the critic, DD as 0 or 1."""
    config = setup.config
    critic = load_critic(config.critic.encoder, config, setup.model.device)
    weights = {name: EQUAL_WEIGHTS[name] for name in names}

    def prepare() -> tuple[object, object]:
        return prepare_targets(setup.examples, critic, setup.cache, weights, config.critic.probe)

    targets, probe = setup.once(prepare)
    offload_text(critic)
    cam = ClinicalAlignmentModule(critic, probe, weights)

    @torch.no_grad()
    def score(images: Tensor, rows: Sequence[int]) -> Tensor:
        own = targets.at(rows).to(critic.device)
        embedded = critic.embed_images(images)
        terms = cam.terms(embedded, own)
        if probe is not None:
            terms["dd"] = primitives.dd(probe.logits(embedded), own.label)
        return torch.stack(list(terms.values())).mean(dim=0)

    return Score(score, critic)


#: Name to the primitives that it is the mean of.
OWN: Final[dict[str, tuple[str, ...]]] = {"dd": ("dd",), "cas": PRIMITIVES}
