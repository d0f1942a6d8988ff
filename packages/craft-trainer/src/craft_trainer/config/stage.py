"""What a stage of a run is: the part of the configuration that a method defines for itself.

A method is one file: a subclass of :class:`TrainedStage` with the method's settings, and everything
that the rest of the trainer asks of it: what it learns, reads, needs and costs, and its loss. It
lies in ``craft_trainer/methods`` under the method's name, or another package offers it as an entry
point of the group ``craft_trainer.methods``.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cas_metric.domains.reading import nearest
from cas_metric.errors import InputError
from craft_trainer.config.extensions import extension, extension_names

if TYPE_CHECKING:
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.schema import Config
    from craft_trainer.config.sections import Sampling
    from craft_trainer.data.dataset import Examples
    from craft_trainer.methods.base import Method, Setup

#: Where methods come from.
METHODS = "craft_trainer.methods"


class Section(BaseModel):
    """A part of the configuration.

    Unknown keys are refused, as are NaN, infinities and truth values where numbers are expected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what Python takes for 1 or 0, and a user has not meant by ``seed: yes``."""
        kinds = set(_atoms(cls.model_fields[str(info.field_name)].annotation))
        below = value.values() if isinstance(value, Mapping) else value
        each = below if isinstance(value, (Mapping, list, tuple)) else (value,)
        if kinds & {int, float} and bool not in kinds and any(isinstance(x, bool) for x in each):
            raise ValueError("a number is expected; yes, no, true and false are none")
        return value


def _atoms(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is put together from."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _atoms(part)


def _known_fields(template: str) -> str:
    """A template that can be filled in; found now, and not after the stages before it."""
    try:
        template.format(prompt="", label="", token="")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError("only {prompt}, {label} and {token} can stand in it") from error
    return template


#: Beyond it, a step is no number that float32 holds.
LearningRate = Annotated[float, Field(gt=0, le=1e6)]

#: A seed that torch takes.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

#: Template of a conditioning text.
Template = Annotated[str, AfterValidator(_known_fields)]


def _at_home(path: Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - an unknown user is no error here


#: A path of a configuration, in which no shell has replaced ``~``.
Place = Annotated[Path, AfterValidator(_at_home)]
#: What may be a path, or the name of a model.
Spec = Annotated[str, AfterValidator(os.path.expanduser)]


class Kept(NamedTuple):
    """Bytes that autograd keeps for the backward pass of one image.

    Attributes:
        denoiser: Of one prediction whose latent needs no gradient.
        later: Of one whose latent needs one: every step of a trajectory but the first.
        decoder: Of the VAE's decoder.
        critic: Of the critic's image tower; 0 where the stage takes no reward.
        block: Largest block of the denoiser, which gradient checkpointing holds once more; 0
            without it.
        decoder_block: The same of the decoder.
        branches: Predictions of one guided step.
    """

    denoiser: int
    later: int
    decoder: int
    critic: int
    block: int
    decoder_block: int
    branches: int


class Stage(Section):
    """A stage that trains nothing: the base model as it is.

    Attributes:
        method: Its name in a configuration.
        prompt: Template of the text that the model is conditioned on, with ``{prompt}``,
            ``{label}`` and, after textual inversion, ``{token}``.

    Examples:
        >>> from craft_trainer.config.schema import resolve
        >>> made = resolve(settings, stages=[{"method": "zero_shot"}]).stages[0]
        >>> type(made).__name__, made.rewarded()
        ('ZeroShotStage', {})
    """

    method: str
    prompt: Template = "{prompt}"

    #: What a model card calls the method.
    title: ClassVar[str]
    #: What is trained: matrices of an adapter of the denoiser, or vectors of new tokens.
    learns: ClassVar[Literal["nothing", "tokens", "lora"]] = "nothing"
    #: Settings that change no step: a run may go on with other ones.
    without_effect: ClassVar[tuple[str, ...]] = ()
    #: What a new configuration sets beside the method.
    first_values: ClassVar[Mapping[str, Any]] = {}

    def check(self, config: Config) -> None:
        """Hold the stage against the rest of the configuration; ValueError where it cannot run."""

    def require(self, config: Config, family: type[DiffusionModel]) -> None:
        """Hold the stage against the family of the base model.

        Raises:
            InputError: It cannot train such a model.
        """

    def require_times(self, times: Sequence[float]) -> None:
        """Hold the stage against the timesteps of a trajectory, where the base model has some.

        Raises:
            InputError: A solver cannot take its steps between them.
        """

    def require_examples(self, config: Config, examples: Examples) -> None:
        """Hold the stage against the training images.

        Raises:
            InputError: They lack what it needs beside prompts, checklists and classes.
        """

    def rewarded(self) -> dict[str, float]:
        """Primitives that a critic rewards, and their weights; empty where there is no critic."""
        return {}

    def encoders(self, config: Config) -> tuple[str, ...]:
        """The critics that are loaded, that of the configuration first."""
        return (config.critic.encoder,) if self.rewarded() else ()

    def judged_by(self, config: Config) -> str:
        """Who gives the rewards, as a model card says it."""
        return ", ".join(self.encoders(config)) or "none: no reward"

    def sampling(self, config: Config) -> Sampling:
        """How the stage draws its own trajectories."""
        return config.sampling

    def sources(self) -> tuple[Path, ...]:
        """Files that :meth:`examples` reads, beside the training images."""
        return ()

    def examples(self, train: Examples) -> tuple[Examples, Examples | None]:
        """What is passed over: the training images, or pairs of images of the stage's own.

        Returns:
            Images to learn from and, for pairs, those to learn against, row by row.
        """
        return train, None

    def forwards_per_image(self, differentiated: float, branches: int, steps: int) -> float:
        """What one image, or pair, costs in forwards of the denoiser.

        Args:
            differentiated: Cost of a forward with its backward.
            branches: Forwards of one guided prediction.
            steps: T, the steps of a trajectory.
        """
        return 0.0


class TrainedStage(Stage):
    """What every stage that trains has.

    Attributes:
        steps: Optimizer steps; or give ``epochs``.
        epochs: Passes over the training images.
        batch_size: Images in one forward pass, on each process; of ``nft`` prompts.
        accumulate: Forward passes to one optimizer step.
        learning_rate: At the end of the warm-up. ``prodigy`` finds its own: give it 1.
        weight_decay: Of the optimizer.
        optimizer: By default AdamW. ``adamw8bit`` and ``prodigy`` need the extra of that name;
            ``muon`` is torch's, with AdamW's scale of learning rates.
        warmup_steps: Steps in which the learning rate rises linearly.
        schedule: Of the learning rate after the warm-up, as diffusers names them; by default it is
            constant.
        schedule_cycles: Restarts of ``cosine_with_restarts``.
        max_grad_norm: Gradients are clipped to this norm.
        ema: Share of an exponential moving average of the trained parameters that stays in each
            step; that average is then what is looked at and kept. By default the last weights are.
        checkpoint_every: Optimizer steps between two checkpoints.
        checkpoint_minutes: And minutes, for machines that are taken away; also SIGTERM, SIGINT and
            SIGUSR1 end a run with a checkpoint.

    Examples:
        >>> stage = stage_class("lora").model_validate({"method": "lora", "epochs": 5})
        >>> isinstance(stage, TrainedStage), stage.accumulate
        (True, 1)
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt = 4
    accumulate: PositiveInt = 1
    learning_rate: LearningRate = 5e-6
    weight_decay: NonNegativeFloat = 0.0
    optimizer: Literal["adamw", "adamw8bit", "prodigy", "muon"] | None = None
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["constant", "linear", "cosine", "cosine_with_restarts"] | None = None
    schedule_cycles: PositiveInt | None = None
    max_grad_norm: PositiveFloat = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    checkpoint_every: PositiveInt = 100
    checkpoint_minutes: PositiveFloat | None = None

    learns: ClassVar[Literal["nothing", "tokens", "lora"]] = "lora"
    without_effect: ClassVar[tuple[str, ...]] = ("checkpoint_every", "checkpoint_minutes")
    first_values: ClassVar[Mapping[str, Any]] = {"epochs": 10}

    @model_validator(mode="after")
    def _has_one_length(self) -> TrainedStage:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        return self

    @model_validator(mode="after")
    def _restarts_where_it_says_so(self) -> TrainedStage:
        if self.schedule_cycles is not None and self.schedule != "cosine_with_restarts":
            raise ValueError("schedule_cycles counts restarts: set schedule: cosine_with_restarts")
        return self

    @property
    def period(self) -> int:
        """Steps after which the cost of a step repeats."""
        return 1

    @property
    def copies(self) -> int:
        """Copies of the trained parameters that the method keeps beside them."""
        return 0

    def attach(self, model: DiffusionModel, classes: Sequence[str]) -> None:
        """Make tokens trainable; asked of a stage that ``learns`` tokens, no other defines it.

        Args:
            model: Extended in place.
            classes: Names of the classes that are learned from.
        """
        raise TypeError(f"{type(self).__name__} learns tokens: it must say how, by `attach`")

    @abstractmethod
    def build(self, setup: Setup) -> Method:
        """The method, ready to give the loss of a batch.

        Raises:
            InputError: The base model, the data or the critic do not suit it.
        """

    def forwards_per_image(self, differentiated: float, branches: int, steps: int) -> float:
        """See :meth:`Stage.forwards_per_image`; by default one differentiated prediction."""
        return differentiated

    def trained_bytes(self, adapter: int, token: int, classes: int) -> int:
        """Bytes of the trained parameters.

        Args:
            adapter: Of an adapter of the denoiser.
            token: Of one vector in every text encoder.
            classes: Classes that are learned from.
        """
        return adapter

    def kept_bytes(self, kept: Kept) -> int:
        """Kept for the backward pass of one batch; by default one prediction an image."""
        return (kept.denoiser + kept.block) * self.batch_size


class DenoisingStage(TrainedStage):
    """A stage with the diffusion loss of real images.

    Attributes:
        min_snr_gamma: Timesteps count by min(SNR, γ) instead of SNR, in the scale of clean images
            (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"); 5 is
            their choice. By default all count alike.
        prompt_dropout: Share of the images of the diffusion loss whose prompt is left empty, which
            is what guidance leads away from.

    Examples:
        >>> stage = stage_class("lora").model_validate({"method": "lora", "steps": 5})
        >>> isinstance(stage, DenoisingStage), stage.prompt_dropout
        (True, 0.0)
    """

    min_snr_gamma: PositiveFloat | None = None
    prompt_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


def stage_class(method: str) -> type[Stage]:
    """The class of a method's section.

    Raises:
        InputError: No method has the name; those that are there are named.

    Examples:
        >>> stage_class("craft").title
        'CRAFT'
    """
    found = extension(METHODS, method, _stage_in)
    if found is None:
        names = list(method_names())
        hint = nearest(method, names) or f"methods: {', '.join(names)}"
        raise InputError(f"no method {method!r}", fix=hint.strip())
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise InputError(
            f"the entry point {method!r} of {METHODS} is no Stage",
            fix="correct the package that offers it",
        )
    return found


def method_names() -> Iterator[str]:
    """Every method that can be used here, in alphabetical order.

    Examples:
        >>> "craft" in list(method_names())
        True
    """
    return extension_names(METHODS, _stage_in)


def _stage_in(module: Any, name: str) -> type[Stage] | None:
    """The stage of a method's file: the class whose ``method`` is the file's name."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Stage):
            allowed = getattr(value.model_fields["method"].annotation, "__args__", ())
            if name in allowed:
                return value
    return None
