"""The configuration of a run: one YAML file, plus ``key=value`` on the command line.

Defaults are the paper's (§4.1.3, §3.3, Appendix A) where it states a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from cas_metric.domains.reading import nearest, parse_yaml
from cas_metric.errors import InputError
from craft_trainer.config.section import Section
from craft_trainer.config.stages import (
    STAGES,
    AnyStage,
    CraftStage,
    DpoStage,
    LoraStage,
    Rewards,
    Stage,
    TextualInversionStage,
    ZeroShotStage,
)
from craft_trainer.config.validation import Guards, Validation

__all__ = [
    "STAGES",
    "AnyStage",
    "Config",
    "CraftStage",
    "DpoStage",
    "LoraStage",
    "Rewards",
    "Sampling",
    "Stage",
    "TextualInversionStage",
    "ZeroShotStage",
    "load_config",
    "parse_config",
    "to_yaml",
]


class Data(Section):
    """Real training images.

    Attributes:
        train: Manifest with images, labels and enriched prompts t_ep.
        domain: Domain pack with classes and checklists; by default what the folder's cas.yaml
            names.
        resolution: Side of the square that images are resized to, in pixels.
    """

    train: Path
    domain: str | None = None
    resolution: PositiveInt = 512


class Lora(Section):
    """Low-rank adapters of the denoiser's attention to the text."""

    rank: PositiveInt = 32
    alpha: PositiveInt = 32


class Sampling(Section):
    """How images are sampled, in training, in validation and by ``craft-trainer generate``.

    Attributes:
        steps: T, steps of a trajectory.
        guidance: Scale of classifier-free guidance; 1 switches it off. A guidance-distilled model
            is told it.
        timestep_spacing: Which timesteps are visited. ``leading`` ends nearly without noise,
            ``trailing`` with more, so that the last K steps change more. Not for flow models.
        flow_sampler: How a flow-matching model steps: ``euler`` as pipelines do, or ``ancestral``,
            which draws noise as DDPM does and which ``repeat_mode: renoise`` needs.
    """

    steps: PositiveInt = 20
    guidance: Annotated[float, Field(ge=1)] = 5.0
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    flow_sampler: Literal["euler", "ancestral"] = "euler"


class Critic(Section):
    """The frozen encoder that gives the rewards.

    Attributes:
        encoder: Encoder spec as ``cas encoders`` lists them.
        probe: Saved probe in the critic's space; by default one is fitted on ``data.train``.
        text_policy: How texts beyond the encoder's limit are treated.
    """

    encoder: str = "medsiglip"
    probe: Path | None = None
    text_policy: Literal["truncate", "chunk-mean", "per-attribute-mean"] = "truncate"


class Config(Section):
    """A run: a base model, data, and the stages that adapt it one after the other.

    Attributes:
        output: Folder of the run; each stage has its own folder in it.
        base: Hub id or local directory of a Stable Diffusion 1.x, 2.x, XL, 3 or Flux pipeline.
        revision: Commit of a hub id.
        compile: Whether the denoiser goes through ``torch.compile``; names and files are the same.
        dtype: Of the frozen denoiser and text encoders. Trained parameters and the VAE are float32.
        seed: Decides initial weights, order and noise.
        tracker: Where curves go: any tracker that accelerate knows.
        keep_checkpoints: Latest checkpoints of a stage that are kept.
        start: Artefact of an earlier run that the first stage starts from, so that several runs
            can share one textual inversion.
        artifact: Whether a stage hands on its last weights, or those with the best held-out CAS.
        stages: Each starts from what the one before it learned.
    """

    output: Path
    base: str
    revision: str | None = None
    offline: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    compile: bool = False
    seed: NonNegativeInt = 42
    tracker: str = "tensorboard"
    keep_checkpoints: PositiveInt = 2
    start: Path | None = None
    data: Data
    lora: Lora = Lora()
    sampling: Sampling = Sampling()
    critic: Critic = Critic()
    validation: Validation = Validation()
    guards: Guards = Guards()
    artifact: Literal["last", "best"] = "last"
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Config:
        if len(self.stages) > 1 and any(isinstance(one, ZeroShotStage) for one in self.stages):
            raise ValueError("zero_shot trains nothing and stands alone")
        if self.start and isinstance(self.stages[0], ZeroShotStage):
            raise ValueError("zero_shot is the base model, without `start`")
        for position, stage in enumerate(self.stages):
            if isinstance(stage, TextualInversionStage) and (position > 0 or self.start):
                raise ValueError("textual_inversion must be the first stage, without `start`")
            if isinstance(stage, CraftStage) and self.critic.encoder == self.validation.encoder:
                raise ValueError(
                    f"the critic {self.critic.encoder} cannot be its own held-out evaluator: "
                    "name another checkpoint in validation.encoder"
                )
            if isinstance(stage, CraftStage) and stage.gradient_steps > self.sampling.steps:
                raise ValueError(
                    f"gradient_steps {stage.gradient_steps} exceeds sampling.steps "
                    f"{self.sampling.steps}"
                )
        if self.artifact == "best" and self.validation.encoder is None:
            raise ValueError("artifact: best needs validation.encoder, which says what is best")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: YAML file. Relative paths in it are relative to the working directory.
        overrides: ``key=value`` with dotted keys, e.g. ``stages.2.learning_rate=1e-5``; the value
            is read as YAML.

    Raises:
        InputError: No such file, no YAML, an unknown key (with the nearest known one) or a value
            that does not suit its key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", fix="check the path") from error
    parse_yaml(text, str(path))  # refuses repeated keys, aliases and tags, with the line
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no `key: value` lines", fix="see the example configuration")
    for override in overrides:
        _override(values, override)
    return parse_config(values, str(path))


def parse_config(values: dict[str, Any], source: str = "configuration") -> Config:
    """Check the values of a configuration. InputError as :func:`load_config`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _explain(error, source) from error


def to_yaml(config: Config) -> str:
    """The resolved configuration with every default spelt out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _override(values: dict[str, Any], override: str) -> None:
    """Set one dotted ``key=value`` in ``values``."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} is no key=value", fix="e.g. data.resolution=256")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"override {override!r}: the value is no YAML", fix="quote it") from error
    node: Any = values
    *parents, last = key.split(".")
    for part in parents:
        node = _child(node, part, override)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, override: str) -> Any:
    child = (
        node[_index(node, part, override)] if isinstance(node, list) else node.setdefault(part, {})
    )
    if not isinstance(child, (dict, list)):
        raise InputError(f"override {override!r}: {part!r} has no keys below it", fix="shorten it")
    return child


def _index(node: list[Any], part: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise InputError(
            f"override {override!r}: {part!r} is no position in a list of {len(node)}",
            fix="positions count from 0",
        )
    return int(part)


def _explain(error: ValidationError, source: str) -> InputError:
    """The first complaint of pydantic, with the nearest known key where one is unknown."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in _without_tags(detail["loc"]))
    if detail["type"] == "extra_forbidden":
        known = list(_known_keys(detail["loc"][:-1]))
        hint = nearest(str(detail["loc"][-1]), known) or f"known keys: {', '.join(known)}"
        return InputError(f"{source}: unknown key {where!r}", fix=hint.strip())
    return InputError(f"{source}: {where or 'the whole'}: {detail['msg']}")


def _without_tags(place: Sequence[int | str]) -> list[int | str]:
    """A location as a user writes it: pydantic adds the method after a stage's position."""
    return [
        part
        for position, part in enumerate(place)
        if not (position == 2 and place[0] == "stages" and part in STAGES)
    ]


def _known_keys(place: Sequence[int | str]) -> Iterable[str]:
    """Keys of the section at ``place`` of pydantic's error location."""
    section: type[BaseModel] = Config
    for position, part in enumerate(place):
        if isinstance(part, int):
            continue
        if position == 2 and place[0] == "stages" and part in STAGES:
            section = STAGES[part]
            continue
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return section.model_fields
