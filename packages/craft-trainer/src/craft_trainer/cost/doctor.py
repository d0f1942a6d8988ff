"""What ``craft-trainer doctor`` examines before a run; nothing is trained, written or fetched."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from cas_metric.errors import CasError, ModelUnavailable
from cas_metric.scoring.probe import Probe
from cas_metric.statistics.tables import markdown_table
from cas_metric.verbs.result import Result
from craft_trainer.config.schema import Config, resolve
from craft_trainer.config.stage import TrainedStage
from craft_trainer.data.readable import looked_at, unreadable
from craft_trainer.guards.heldout import held_out_examples
from craft_trainer.runtime.ranks import require_tracker
from craft_trainer.training.preflight import (
    completing,
    encoders_of,
    require_encoder,
    require_optimizers,
    require_own_spaces,
    require_stages,
    saved_probes,
    unfit_held_out,
    unprepared,
)

#: Of a check, the better one first.
OK, WARN, FAIL, MISSING = "ok", "warn", "fail", "missing"
#: Checkpoints, journals and sheets of a LoRA take less than this for each stage, in bytes.
_ROOM_FOR_A_STAGE: Final = 2e9
#: Rows that a line names before it counts the rest.
_NAMED: Final = 5


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: What.
        status: ``ok``, ``warn`` (a run works, see the detail), ``fail`` (exit code 2) or
            ``missing`` (a model cannot be had here: exit code 4).
        detail: What was found.
        fix: What to do about it.
    """

    name: str
    status: str
    detail: str
    fix: str = ""


def doctor(config: Config | Mapping[str, Any] | str | Path, **overrides: Any) -> Result:
    """Whether a configuration can run on this machine; nothing is trained, written or fetched.

    Args:
        config: A configuration, its values, or the YAML file that holds them.
        overrides: As of :func:`craft_trainer.train`.

    Returns:
        Its ``summary`` has the ``checks``, each with ``status``, ``detail`` and ``fix``, and the
        ``exit_code``: 0 where a run can start, 2 where the configuration or the data must be
        corrected, 4 where only models are missing here.

    Raises:
        InputError: The configuration cannot be read.

    Examples:
        >>> import craft_trainer
        >>> craft_trainer.doctor(settings).summary["exit_code"]
        0
    """
    checks = examine(resolve(config, **overrides))
    rows = [[one.status, one.name, one.detail, one.fix] for one in checks]
    return Result(
        "doctor",
        {"exit_code": exit_code(checks), "checks": [check._asdict() for check in checks]},
        markdown_table(["", "check", "found", "what to do"], rows),
    )


def examine(config: Config) -> list[Check]:
    """Every check, in the order in which a run would fail."""
    checks: tuple[tuple[str, Callable[[Config], Iterator[Check]]], ...] = (
        ("packages", _packages),
        ("device", _device),
        ("output", _output),
        ("training data", _training),
        ("held-out data", _held_out),
        ("pairs", _pairs),
        ("tracker", _tracker),
        ("optimizers", _optimizers),
        ("start", _start),
        ("base model", _base),
        ("encoders", _encoders),
        ("probes", _probes),
        ("prompts", _tokens),
        ("balance", _balance),
    )
    found: list[Check] = []
    for name, check in checks:
        try:
            found += check(config)
        except CasError as error:
            status = MISSING if isinstance(error, ModelUnavailable) else FAIL
            # What several checks need is named by the first of them.
            if all((one.status, one.detail) != (status, error.problem) for one in found):
                found.append(Check(name, status, error.problem, error.fix))
    return found


def exit_code(checks: list[Check]) -> int:
    """0 where a run can start, 2 where the input is wrong, 4 where only models are missing."""
    states = {check.status for check in checks}
    return 2 if FAIL in states else 4 if MISSING in states else 0


def _packages(config: Config) -> Iterator[Check]:
    from packaging.requirements import Requirement

    numbers = [f"python {sys.version.split()[0]}"]
    for line in requires("craft-trainer") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            yield Check("packages", FAIL, f"{wanted.name} is not installed", f"pip install {line}")
            continue
        numbers.append(f"{wanted.name} {installed}")
        if not wanted.specifier.contains(installed, prereleases=True):
            yield Check("packages", FAIL, f"{wanted.name} {installed}", f"pip install '{line}'")
    yield Check("packages", OK, ", ".join(numbers))


def _device(config: Config) -> Iterator[Check]:
    import torch

    if not torch.cuda.is_available():
        detail = f"cpu, {torch.get_num_threads()} threads: full-size models take days"
        yield Check("device", WARN, detail, "train on a machine with a GPU")
        return
    from craft_trainer.cost.memory import memory_of, parts_of

    properties = torch.cuda.get_device_properties(0)
    room = properties.total_memory / 1e9
    yield Check("device", OK, f"{properties.name}, {room:.0f} GB")
    parts = parts_of(config)
    for stage in config.stages:
        if isinstance(stage, TrainedStage):
            needed = memory_of(config, stage, 1, parts).total
            if needed > 0.9 * room:
                detail = f"{stage.method} takes about {needed:.0f} GB"
                yield Check("device", WARN, detail, "lower batch_size, or checkpoint gradients")


def _output(config: Config) -> Iterator[Check]:
    folder = config.output.absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield Check("output", FAIL, f"{folder} cannot be written to", "choose another `output`")
        return
    free, wanted = shutil.disk_usage(folder).free, _ROOM_FOR_A_STAGE * len(config.stages)
    detail = f"{folder} is writable, {free / 1e9:.1f} GB free"
    short = free < wanted
    fix = f"free {wanted / 1e9:.0f} GB: checkpoints need room" if short else ""
    yield Check("output", WARN if short else OK, detail, fix)


def _training(config: Config) -> Iterator[Check]:
    from craft_trainer.data.dataset import read_examples

    examples = read_examples(config.data.train, config.data.domain)
    labels = set(examples.labels)
    broken = [*unreadable(examples)]
    problems = [*broken, *unprepared(examples, config, _probes_here(config))]
    for stage in config.stages:
        stage.require_examples(config, examples)
    detail = f"{len(examples)} images of {len(labels)} classes in {config.data.train}"
    detail += f", {looked_at(examples)}"
    if problems:
        fixes = ["replace such images"] if broken else []
        fix = "; ".join(filter(None, (*fixes, completing(config, problems))))
        yield Check("training data", FAIL, f"{detail}; {_listed(problems)}", fix)
    else:
        yield Check("training data", OK, detail)


def _held_out(config: Config) -> Iterator[Check]:
    from craft_trainer.data.dataset import read_examples

    manifest = config.validation.manifest
    if config.validation.encoder is None:
        yield Check(
            "held-out data",
            WARN,
            "no held-out evaluation: nothing guards the run against reward hacking",
            "set validation.encoder, validation.manifest and validation.every",
        )
    if manifest is None:
        return
    train = read_examples(config.data.train, config.data.domain)
    examples = held_out_examples(config, train)
    problems = [*unreadable(examples), *unfit_held_out(config, train, _probes_here(config))]
    problems += [
        f"{path.name} is a training image"
        for path in examples.paths
        if path.resolve() in {one.resolve() for one in train.paths}
    ]
    detail = f"{len(examples)} images of {manifest} are looked at, {looked_at(examples)}"
    if problems:
        fix = "hold out other images of the same classes, with prompts"
        yield Check("held-out data", FAIL, f"{detail}; {_listed(problems)}", fix)
    else:
        yield Check("held-out data", OK, detail)


def _tracker(config: Config) -> Iterator[Check]:
    require_tracker(config.tracker)
    yield Check("tracker", OK, config.tracker)


def _optimizers(config: Config) -> Iterator[Check]:
    require_optimizers(config, offline=True)
    named = dict.fromkeys(
        one.optimizer or "adamw" for one in config.stages if isinstance(one, TrainedStage)
    )
    yield Check("optimizers", OK, ", ".join(named) or "none")
    for number, stage in enumerate(config.stages, start=1):
        if not isinstance(stage, TrainedStage) or stage.steps is None:
            continue
        if stage.warmup_steps > stage.steps:
            share = stage.steps / stage.warmup_steps
            detail = f"the learning rate comes to {share:.0%}: {stage.steps} steps all warm up"
            yield Check(f"rate of stage {number}", WARN, detail, "lower warmup_steps")


def _pairs(config: Config) -> Iterator[Check]:
    from craft_trainer.data.dataset import read_examples

    for number, stage in enumerate(config.stages, start=1):
        if not stage.sources():
            continue
        name = f"pairs of stage {number}"
        examples = read_examples(config.data.train, config.data.domain)
        try:
            chosen, rejected = stage.examples(examples)
            where = ", ".join(str(path) for path in stage.sources())
            detail = f"{len(chosen)} in {where}, {looked_at(chosen)}"
            problems = [one for side in (chosen, rejected) if side for one in unreadable(side)]
            if problems:
                fix = "draw such images again, or remove their pairs"
                yield Check(name, FAIL, f"{detail}; {_listed(problems)}", fix)
            else:
                yield Check(name, OK, detail)
        except CasError as error:
            # They may be drawn of an earlier stage of this very run.
            yield Check(name, WARN if number > 1 else FAIL, error.problem, error.fix)


def _start(config: Config) -> Iterator[Check]:
    from craft_trainer.artifact.identity import require_base

    if config.start is not None:
        require_base(config.start, config.model_copy(update={"offline": True}))
        yield Check("start", OK, str(config.start))


def _base(config: Config) -> Iterator[Check]:
    from craft_trainer.bases.weights import base_digests, base_directory

    directory = base_directory(config.base, config.revision, offline=True)
    size = sum((directory / name).stat().st_size for name in base_digests(directory)) / 1e9
    yield Check("base model", OK, f"{config.base}: {size:.2f} GB of safetensors in {directory}")
    require_stages(config, offline=True)


def _encoders(config: Config) -> Iterator[Check]:
    from cas_metric.encoders.memory import digest_file
    from cas_metric.encoders.weights import weight_files

    digests: dict[str, list[str]] = {}
    for role, spec in encoders_of(config).items():
        if spec is None:
            continue
        try:
            directory = require_encoder(spec, config, offline=True)
            if directory is not None:
                digests[role] = [digest_file(path) for path in weight_files(directory)]
            yield Check(role, OK, f"{spec}: {directory or 'a file of open_clip'}")
        except CasError as error:
            status = MISSING if isinstance(error, ModelUnavailable) else FAIL
            yield Check(role, status, error.problem, error.fix)
    judge = digests.pop("evaluator", None)
    for role, own in digests.items():
        if own == judge and role.startswith("critic"):
            yield Check(
                "evaluator",
                FAIL,
                f"{config.validation.encoder} has the very weights of the {role}",
                "name another checkpoint in validation.encoder",
            )


def _probes_here(config: Config) -> Mapping[str, Probe]:
    """The saved probes; none where one cannot be read, which the check of probes says."""
    try:
        return saved_probes(config)
    except CasError:
        return {}


def _probes(config: Config) -> Iterator[Check]:
    for name, probe in saved_probes(config).items():
        yield Check(name, OK, f"of {', '.join(probe.classes)}")
    require_own_spaces(config, offline=True)


def _tokens(config: Config) -> Iterator[Check]:
    """Training prompts that the base model's text encoder would cut."""
    from transformers import AutoTokenizer

    from craft_trainer.bases.base import family_of
    from craft_trainer.bases.loading import spelt_tokens
    from craft_trainer.bases.weights import base_digests, base_directory, pipeline_name
    from craft_trainer.data.dataset import read_examples

    directory = base_directory(config.base, config.revision, offline=True)
    base_digests(directory)  # whose tokenizer may be lacking
    family = family_of(pipeline_name(directory))
    folders = (directory / name for name in {"tokenizer", family.reader[0]})
    tokenizer, limit = family.reading_tokenizer(
        {one.name: AutoTokenizer.from_pretrained(one) for one in folders if one.is_dir()}
    )
    examples = read_examples(config.data.train, config.data.domain)
    spelt = spelt_tokens(config, family, examples.labels)
    tokenizer.add_tokens([word for words in spelt.values() for word in words])
    for number, stage in enumerate(config.stages, start=1):
        long = []
        for path, label, prompt in zip(
            examples.paths, examples.labels, examples.prompts, strict=True
        ):
            token = " ".join(spelt.get(label, ()))
            text = stage.prompt.format(prompt=prompt, label=label, token=token)
            count = len(tokenizer(text, truncation=False, verbose=False).input_ids)
            if count > limit:
                long.append(f"{path.name} ({count})")
        name = f"prompts of stage {number}"
        if long:
            detail = f"{len(long)} of {len(examples)} exceed {limit} tokens: {_listed(long)}"
            yield Check(name, WARN, detail, "shorten them: what is beyond the limit is not seen")
        else:
            yield Check(name, OK, f"{len(examples)} within {limit} tokens")


def _balance(config: Config) -> Iterator[Check]:
    """Whether, so far, a stage's reward pulled harder than its diffusion loss."""
    from craft_trainer.methods.craft import RATIO
    from craft_trainer.runtime.journal import Journal

    for number, stage in enumerate(config.stages, start=1):
        folder = config.output / f"{number}-{stage.method}"
        path = folder / "metrics.jsonl"
        found = [row[RATIO] for row in Journal(path).rows() if RATIO in row]
        if not found:
            continue
        middle = median(found)
        detail = (
            f"by {path} the gradient of lambda_cam r_cam is {middle:.2g} times that of lambda_diff "
            "times the diffusion loss (median)"
        )
        name = f"balance of stage {number}"
        if middle < 1:
            fix = "raise lambda_cam or lower lambda_diff"
            if config.sampling.timestep_spacing != "trailing":
                fix = f"set sampling.timestep_spacing: trailing, {fix}"
            yield Check(name, WARN, f"{detail}: the reward hardly counts", fix)
        else:
            yield Check(name, OK, detail)


def _listed(items: list[str]) -> str:
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")
