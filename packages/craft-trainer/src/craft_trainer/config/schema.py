"""The configuration of a run: one YAML file, plus ``key=value`` on the command line.

Defaults are the paper's (§4.1.3, §3.3, Appendix A) where it states a value.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from cas_metric.domains.reading import nearest, parse_yaml
from cas_metric.errors import InputError
from cas_metric.files import read_text
from craft_trainer.config.sections import Critic, Data, Lora, Sampling, Tracking
from craft_trainer.config.stage import (
    Place,
    Section,
    Seed,
    Spec,
    Stage,
    method_names,
    stage_class,
)
from craft_trainer.config.validation import Guards, Validation

_FIX: Final = "`craft-trainer new FILE` writes every key with its meaning and default"
_NUMBER: Final = "a number is expected, in decimal digits"
_TEXT: Final = "text is expected; what holds `: ` or begins with a bracket needs quotes to be one"
#: What pydantic says of Python's types, in the words of a YAML file.
_MESSAGES: Final = {
    "missing": "is missing",
    "tuple_type": "a list is expected, each entry in a line that begins with `- `",
    "too_short": "one entry at least is expected",
    "model_type": "keys are expected below it, not a single value",
    "string_type": _TEXT,
    "path_type": _TEXT,
    "int_type": _NUMBER,
    "int_parsing": "a whole number is expected, in decimal digits",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_parsing": "true or false is expected",
}


class Config(Section):
    """A run: a base model, data, and the stages that adapt it one after the other.

    Attributes:
        output: Folder of the run; each stage has its own folder in it.
        base: Hub id or local directory of a Stable Diffusion 1.x, 2.x, XL, 3, Flux or Sana
            pipeline, or ``phantom-sd``.
        revision: Commit of a hub id.
        offline: Whether nothing is fetched: all models must be here.
        gradient_checkpointing: Whether denoiser and decoder run their blocks again in the backward
            pass: one more forward for far less memory.
        compile: Whether the denoiser goes through ``torch.compile``; names and files are the same.
        dtype: Of the frozen denoiser and text encoders. Trained parameters and the VAE are float32.
        seed: Decides initial weights, order and noise.
        tracker: Where curves go: any tracker that accelerate knows, or ``none``.
        tracking: What the tracker is told of the run.
        keep_checkpoints: Latest checkpoints of a stage that are kept.
        start: Artefact of an earlier run that the first stage starts from, so that several runs
            can share one textual inversion.
        data: The training images.
        lora: The adapter that stages train, except of textual inversion.
        sampling: How images are drawn.
        critic: The encoder that gives the rewards.
        validation: What is looked at in the course of a stage.
        guards: Detectors of reward hacking; they work on the looks of ``validation.encoder``.
        artifact: Whether a stage hands on its last weights, or those with the best held-out CAS.
        stages: Each starts from what the one before it learned.

    Examples:
        >>> config = resolve(settings, base="phantom-sd", seed=3)
        >>> config.seed, [stage.method for stage in config.stages]
        (3, ['lora'])
        >>> config.stages[0].steps, config.data.resolution
        (2, 64)
    """

    output: Place
    base: Spec
    revision: str | None = None
    offline: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    compile: bool = False
    seed: Seed = 42
    tracker: str = "tensorboard"
    tracking: Tracking = Tracking()
    keep_checkpoints: PositiveInt = 2
    start: Place | None = None
    data: Data
    lora: Lora = Lora()
    sampling: Sampling = Sampling()
    critic: Critic = Critic()
    validation: Validation = Validation()
    guards: Guards = Guards()
    artifact: Literal["last", "best"] = "last"
    stages: Annotated[tuple[SerializeAsAny[Stage], ...], Field(min_length=1)]

    @field_validator("stages", mode="before")
    @classmethod
    def _of_their_methods(cls, stages: Any) -> Any:
        """Each as the section of its method; the class of the field knows none."""
        if not isinstance(stages, (list, tuple)):
            return stages
        return tuple(
            stage_class(str(one["method"])).model_validate(one)
            if isinstance(one, Mapping) and "method" in one
            else one
            for one in stages
        )

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Config:
        for position, stage in enumerate(self.stages):
            if stage.learns == "nothing" and (len(self.stages) > 1 or self.start):
                raise ValueError(f"{stage.method} trains nothing and stands alone, without `start`")
            if stage.learns == "tokens" and (position > 0 or self.start):
                raise ValueError(f"{stage.method} must be the first stage, without `start`")
            if stage.rewarded() and self.critic.encoder == self.validation.encoder:
                raise ValueError(
                    f"the critic {self.critic.encoder} cannot be its own held-out evaluator: "
                    "name another checkpoint in validation.encoder"
                )
            stage.check(self)
        if self.artifact == "best" and self.validation.encoder is None:
            raise ValueError("artifact: best needs validation.encoder, which says what is best")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: YAML file. Relative paths in it are relative to the working directory.
        overrides: ``key=value`` with dotted keys, e.g. ``stages.2.learning_rate=1e-5``; the value
            is read as YAML, in which a value is what its key takes: ``seed: 010`` is ten, and
            ``reaction: off`` a word.

    Raises:
        InputError: No such file, no YAML, an unknown key (with the nearest known one) or a value
            that does not suit its key.

    Examples:
        >>> file = tmp / "config.yaml"
        >>> _ = file.write_text(yaml.safe_dump(settings))
        >>> load_config(file, ["stages.0.steps=7", "lora.rank=4"]).stages[0].steps
        7
    """
    values = _read(Path(path))
    for key, value in map(_parsed, overrides):
        _set(values, key, value)
    return parse_config(values, str(path))


def _read(path: Path) -> dict[str, Any]:
    # Text throughout, which the schema turns into what a key takes: PyYAML would make 8 of `010`,
    # 90 of `1:30`, text of `1e-4` and a truth value of `off`.
    values = parse_yaml(read_text(path), str(path)).values
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no `key: value` lines", fix=_FIX)
    return values


def parse_config(values: Mapping[str, Any], source: str = "configuration") -> Config:
    """Check the values of a configuration. InputError as :func:`load_config`.

    Examples:
        >>> run = parse_config(
        ...     {
        ...         "output": "runs/first",
        ...         "base": "phantom-sd",
        ...         "data": {"train": "data/train", "resolution": 64},
        ...         "stages": [{"method": "lora", "steps": 10}],
        ...     }
        ... )
        >>> run.stages[0].title, run.sampling.steps
        ('LoRA', 20)
    """
    try:
        return Config.model_validate({**values, **_stages(values, source)})
    except ValidationError as error:
        raise _explain(error, source, Config) from error


def _stages(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Each stage as its method's section, so that a mistake is told with its place."""
    stages = values.get("stages")
    if not isinstance(stages, (list, tuple)):
        return {}
    parsed: list[Any] = []
    for position, one in enumerate(stages):
        if not isinstance(one, Mapping):
            parsed.append(one)
            continue
        try:
            section = stage_class(str(one.get("method", "")))
        except InputError as error:
            where = f"{source}: stages.{position}.method: "
            raise InputError(where + error.problem, fix=error.fix) from error
        try:
            parsed.append(section.model_validate(one))
        except ValidationError as error:
            raise _explain(error, source, section, ("stages", position)) from error
    return {"stages": parsed}


def resolve(config: Config | Mapping[str, Any] | str | Path, **overrides: Any) -> Config:
    """A configuration from what a caller has.

    Args:
        config: A configuration, its values, or the YAML file that holds them.
        overrides: Values in place of its own; a dotted key reaches within:
            ``**{"stages.2.learning_rate": 1e-5}``.

    Raises:
        InputError: As of :func:`load_config`.

    Examples:
        >>> values = {"output": "runs/a", "base": "phantom-sd", "data": {"train": "data/train"}}
        >>> values["stages"] = [{"method": "lora", "steps": 10}]
        >>> resolve(values, seed=1, **{"stages.0.steps": 3}).stages[0].steps
        3
    """
    if isinstance(config, (str, Path)):
        values, source = _read(Path(config)), str(config)
    elif isinstance(config, Config):
        if not overrides:
            return config
        values, source = config.model_dump(mode="json"), "configuration"
    else:
        values, source = copy.deepcopy(dict(config)), "configuration"
    for key, value in overrides.items():
        _set(values, key, str(value) if isinstance(value, Path) else value)
    return parse_config(values, source)


def require_effect(overrides: Iterable[str], sections: Sequence[str], what: str) -> None:
    """Refuse dotted keys that change nothing of what is done, whatever value they are given.

    Args:
        overrides: Keys, with their values or without; unknown ones are left to :func:`resolve`.
        sections: Keys that count, with all below them.
        what: Is done.

    Raises:
        InputError: One lies elsewhere; those that count are named.

    Examples:
        >>> require_effect({"sampling.steps": 50}, ("data", "sampling"), "generated images")
    """
    counts = tuple(f"{one}." for one in sections)
    known = [key for key in overrides if key.partition(".")[0] in Config.model_fields]
    idle = [key for key in known if not f"{key}.".startswith(counts)]
    if idle:
        raise InputError(
            f"{', '.join(idle)}: without effect on {what}",
            fix=f"leave it out; what counts, with all below it: {', '.join(sections)}",
        )


def to_yaml(config: Config) -> str:
    """The resolved configuration with every default spelt out.

    Examples:
        >>> "seed:" in to_yaml(resolve(settings))  # also what the values left open
        True
    """
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Dotted ``key=value`` pairs as a mapping; each value is read as in :func:`load_config`.

    Raises:
        InputError: One is no such pair, or its key is none of a configuration.

    Examples:
        >>> parse_overrides(["data.resolution=256", "stages.0.prompt='{label}'"])
        {'data.resolution': '256', 'stages.0.prompt': '{label}'}
    """
    found = dict(map(_parsed, overrides))
    for key in found:
        head = key.partition(".")[0]
        if head not in Config.model_fields:
            near = difflib.get_close_matches(key, Config.model_fields, n=1)
            hint = f"did you mean {near[0]!r}? an" if near else "an"
            hint = f"{further}; an" if (further := _further_in(head)) else hint
            raise InputError(
                f"override {key!r}: a configuration has no such key",
                fix=f"{hint} option is written --{key.replace('_', '-')} VALUE",
            )
    return found


def _parsed(override: str) -> tuple[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} is no key=value", fix="e.g. data.resolution=256")
    return key, parse_yaml(text, f"override {override!r}").values


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under a dotted key."""
    node: Any = values
    *parents, last = key.split(".")
    for part in parents:
        node = _child(node, part, key)
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        child = node[_index(node, part, override)]
    else:  # a section that is empty, or off by default, has no values yet
        child = node[part] = {} if node.get(part) is None else node[part]
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


def _explain(
    error: ValidationError, source: str, section: type[BaseModel], place: Sequence[int | str] = ()
) -> InputError:
    """The first complaint of pydantic, with the nearest known key where one is unknown.

    That comes first: a misspelt key is also one that is missing. ``place`` is where the section
    stands in the configuration.
    """
    detail = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in (*place, *detail["loc"]))
    if detail["type"] == "extra_forbidden":
        key, known = str(detail["loc"][-1]), list(_known_keys(section, detail["loc"][:-1]))
        hint = nearest(key, known) or f"known keys: {', '.join(known)}"
        if key in Config.model_fields and key not in known:
            hint = f"{key!r} stands at the left margin, for all stages"
        elif section is Config and len(detail["loc"]) == 1:
            hint = _further_in(key) or hint
        return InputError(f"{source}: unknown key {where!r}", fix=hint.strip())
    message = _MESSAGES.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    return InputError(": ".join(part for part in (source, where, message) if part), fix=_FIX)


def _known_keys(section: type[BaseModel], place: Sequence[int | str]) -> Iterable[str]:
    """Keys of what stands at ``place`` of pydantic's error location within a section."""
    for part in place:
        if not isinstance(part, int) and part in section.model_fields:
            section = _section_of(section.model_fields[part].annotation) or section
    return section.model_fields


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key takes, also where it may be left out; None of a plain value."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _further_in(key: str) -> str:
    """Where a key stands that is none of the left margin; empty where nowhere."""
    within = []
    if any(key in stage_class(name).model_fields for name in method_names()):
        within.append(f"a stage (stages.N.{key})")
    for name, field in Config.model_fields.items():
        section = _section_of(field.annotation)
        if section is not None and key in section.model_fields:
            within.append(f"`{name}` ({name}.{key})")
    return f"{key!r} stands within {' or '.join(within)}" if within else ""
