"""What a ``craft`` stage can do otherwise than the paper: a cheaper prefix, safeguards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from cas_metric.errors import InputError
from cas_metric.protocol import PRIMITIVES
from craft_trainer.config.stage import Section, Spec

if TYPE_CHECKING:
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.sections import Sampling

#: A share of something.
Share = Annotated[float, Field(ge=0, lt=1)]


class RewardWeights(Section):
    """Weight of each reward within r_cam; 0 switches it off (Eq. 6, Tables 4 and 15).

    Attributes:
        vdc: Likeness to the enriched prompt.
        ccs: Likeness to the checklist of the class.
        dd: Log-likelihood of the class by the probe.
        sfs: Likeness to a real image.

    Examples:
        >>> RewardWeights(dd=0).weights()
        {'vdc': 0.25, 'ccs': 0.25, 'dd': 0.0, 'sfs': 0.25}
    """

    vdc: NonNegativeFloat = 0.25
    ccs: NonNegativeFloat = 0.25
    dd: NonNegativeFloat = 0.25
    sfs: NonNegativeFloat = 0.25

    def weights(self) -> dict[str, float]:
        """Primitive to weight."""
        return {name: getattr(self, name) for name in PRIMITIVES}


class Trajectory(Section):
    """How the rewarded trajectories are drawn in training; as all images where nothing is set.

    Of fewer steps each removes more noise, so that the last K change more of the image and the
    reward pulls harder, for fewer forwards (docs/results/shorter-trajectories.md).

    Attributes:
        steps: T in training, at most ``sampling.steps``.
        guidance: Scale of classifier-free guidance in training; 1 switches it off. Not for a
            guidance-distilled model, which is told ``sampling.guidance``.

    Examples:
        >>> from craft_trainer.config.sections import Sampling
        >>> drawn = Sampling(steps=20, guidance=2)
        >>> Trajectory(steps=10, guidance=3).of(drawn).steps, Trajectory().of(drawn) == drawn
        (10, True)
    """

    steps: PositiveInt | None = None
    guidance: Annotated[float, Field(ge=1)] | None = None

    def of(self, sampling: Sampling) -> Sampling:
        """``sampling`` with what is set here."""
        return sampling.model_copy(update=self.model_dump(exclude_none=True))

    def require(self, family: type[DiffusionModel]) -> None:
        """Hold it against the family of the base model. InputError where it cannot be taken."""
        if self.guidance is not None and not family.unconditional_branch:
            raise InputError(
                f"trajectory.guidance is not offered for {family.pipeline_name}, which is told "
                "sampling.guidance",
                fix="leave it out",
            )


class Prefix(Section):
    """How the T − K steps without a gradient are taken; as the paper does where nothing is set.

    ``solver`` and ``unguided`` are biased: on phantom-sd the mean gradient is another one than the
    paper's by a quarter of its norm. So is ``replay`` thirty steps later at a learning rate of
    1e-4, and by less than 2% up to seven steps later (docs/results/training.md).

    Attributes:
        solver: ``dpmpp_2m`` reaches the first differentiated step by an ordinary differential
            equation, ``dpmpp_2m_sde`` by the stochastic one; by default the sampler's own steps are
            taken. Biased.
        steps: Steps of the solver.
        unguided: Share of the prefix, its noisiest steps, without guidance. Biased.
        own_steps: With ``repeat_mode: renoise``, steps before the last K that each repeat takes on
            its own; 1 draws the last noise alone anew.
        replay: Times that a prefix is used again, on average, from a buffer: biased by its age, and
            a noisier step, for it learns from the same noise again. On one process only.
        replay_age: Most optimizer steps since a prefix of the buffer was drawn.

    Examples:
        >>> paper, cheap = Prefix(), Prefix(solver="dpmpp_2m", steps=6, replay=1)
        >>> [one.forwards(19, branches=2, repeats=2, shared=False) for one in (paper, cheap)]
        [76.0, 12.0]
    """

    solver: Literal["dpmpp_2m", "dpmpp_2m_sde"] | None = None
    steps: PositiveInt = 6
    unguided: Annotated[float, Field(ge=0, le=1)] = 0.0
    own_steps: PositiveInt = 1
    replay: NonNegativeInt = 0
    replay_age: PositiveInt = 30

    @model_validator(mode="after")
    def _fits(self) -> Prefix:
        defaults = type(self).model_fields
        if self.solver is None and self.steps != defaults["steps"].default:
            raise ValueError("steps are those of a solver: name one, or leave them out")
        if self.replay == 0 and self.replay_age != defaults["replay_age"].default:
            raise ValueError("replay_age is that of a replayed prefix: set replay, or leave it out")
        if self.replay >= self.replay_age:
            raise ValueError(f"replay {self.replay} needs a replay_age above it")
        return self

    def require(self, family: type[DiffusionModel]) -> None:
        """Hold it against the family of the base model. InputError where it cannot be taken."""
        refused = ""
        if self.solver is not None and not family.noise_schedule:
            refused = f"prefix.solver is not offered for {family.pipeline_name}, a flow model"
        if self.unguided > 0 and not family.unconditional_branch:
            refused = (
                f"prefix.unguided is not offered for {family.pipeline_name}, which is told the "
                "guidance"
            )
        if refused:
            raise InputError(refused, fix=f"leave {refused.split()[0]} out")

    @property
    def kept(self) -> int:
        """Prefixes that the buffer holds: the oldest is used within ``replay_age`` steps."""
        return max(1, self.replay_age // (1 + self.replay))

    def forwards(self, steps: int, branches: int, repeats: int, *, shared: bool) -> float:
        """Forwards of the prefixes of M trajectories.

        Args:
            steps: T − K.
            branches: Forwards of a guided prediction.
            repeats: M.
            shared: Whether the repeats share their prefix up to ``own_steps`` before its end.
        """
        taken = self.steps if self.solver and steps else steps
        free = round(self.unguided * taken)
        costs = [1] * free + [branches] * (taken - free)
        together = taken - min(self.own_steps, taken) + 1 if shared else 0
        total = sum(costs[:together]) + repeats * sum(costs[together:])
        return total / (1 + self.replay)


class Safeguards(Section):
    """Switches against reward hacking; each is off where nothing is set.

    Attributes:
        sfs_against: What SFS compares with: the ``paired`` image, whose prompt is used as well;
            ``other``, another image of the class; or ``class_mean``, the mean of all others.
        ccs_contrast: CCS is that of the own class minus that of the most confusable other one.
        trajectory_kl: Weight of the mean squared difference between the predictions with and
            without the adapter where the differentiated steps begin, on the generated trajectory.
        differentiate: Which K steps have a gradient: the ``last``, K ``random`` ones, or K evenly
            ``spread`` ones with a random offset. In the latter two no gradient passes through a
            second prediction.
        base_steps: Last steps that the model takes without its adapter, in training.
        clip_at_real: A reward above the mean of the real images of its class counts no more.
        critics: Further encoders; rewards are the mean over all.
        augment: Share of the side that the critic sees randomly cropped away.
        grey: The critic sees no colour, so that no reward tints what has none, such as radiographs.
        balance: Rewards are weighted so that their gradients at the image have equal norms.

    Examples:
        >>> Safeguards(differentiate="spread").whole_trajectory
        True
    """

    sfs_against: Literal["paired", "other", "class_mean"] = "paired"
    ccs_contrast: bool = False
    trajectory_kl: NonNegativeFloat = 0.0
    differentiate: Literal["last", "random", "spread"] = "last"
    base_steps: NonNegativeInt = 0
    clip_at_real: bool = False
    critics: tuple[Spec, ...] = ()
    augment: Share = 0.0
    grey: bool = False
    balance: bool = False

    @property
    def whole_trajectory(self) -> bool:
        """Whether trajectories are not a prefix and K steps after it."""
        return self.differentiate != "last" or self.base_steps > 0
