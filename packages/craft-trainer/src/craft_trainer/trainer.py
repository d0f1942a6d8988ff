"""The one loop: every method, any number of processes, exactly resumable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from cas_metric.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.errors import CasError, InputError
from cas_metric.files import to_json, write_bytes
from craft_trainer import checkpoints, data, models
from craft_trainer.cam import ClinicalAlignmentModule
from craft_trainer.card import write_card
from craft_trainer.config import AnyStage, Config, CraftStage, TextualInversionStage, to_yaml
from craft_trainer.generate import sample_images, write_sheet
from craft_trainer.methods import Craft, Denoising, Method
from craft_trainer.methods.denoising import forward_process
from craft_trainer.monitoring import require_finite
from craft_trainer.provenance import base_hash
from craft_trainer.sampling import Guidance, sampling_scheduler
from craft_trainer.targets import prepare_targets
from craft_trainer.watch import SAMPLES, StoppedByGuard, Watch

ARTIFACT: Final = "artifact"
IDENTITY_FILE: Final = "stage.json"
CONFIG_FILE: Final = "config.yaml"
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}

#: Told what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody is told of."""


def train(config: Config, *, progress: Progress = silent, cache: str | Path | None = None) -> Path:
    """Run the stages of ``config`` one after the other; finished ones are not run again.

    Args:
        config: See :class:`~craft_trainer.config.Config`.
        progress: Told after every step.
        cache: Folder of the embedding store; ``"none"`` for a temporary one.

    Returns:
        Folder of the last stage's artefact.

    Raises:
        CasError: See the message; what was saved before stays intact.
    """
    tracker = config.tracker if config.tracker != "none" else None
    accelerator = Accelerator(log_with=tracker, project_dir=str(config.output))
    if accelerator.num_processes > 1:
        raise InputError(
            f"training runs in one process, not in {accelerator.num_processes}",
            fix="start craft-trainer without a launcher",
        )
    examples = data.read_examples(config.data.train, config.data.domain)
    previous = config.start
    for number, stage in enumerate(config.stages, start=1):
        folder = config.output / f"{number}-{stage.method}"
        identity = identity_of(config, number)
        if (folder / ARTIFACT).is_dir():
            _require_same_stage(folder / ARTIFACT, identity)
        else:
            with EmbeddingCache(cache) as store:
                run = StageRun(config, stage, folder, previous, examples, accelerator, identity)
                run.setup(store, progress)
                run.train(progress)
                run.save()
            if run.stopped is not None:
                raise run.stopped
        previous = folder / ARTIFACT
    assert previous is not None
    return previous


class StageRun:
    """One stage: set up, train, save. The methods are in the order in which they run."""

    def __init__(
        self,
        config: Config,
        stage: AnyStage,
        folder: Path,
        previous: Path | None,
        examples: data.Examples,
        accelerator: Accelerator,
        identity: Mapping[str, Any],
    ) -> None:
        self.config = config
        self.stage = stage
        self.folder = folder
        self.previous = previous
        self.examples = examples
        self.accelerator = accelerator
        self.identity = identity
        self.stopped: StoppedByGuard | None = None

    def setup(self, cache: EmbeddingCache, progress: Progress) -> None:
        """Model, what is trained of it, cached inputs, method and optimizer."""
        self.model = load_base(self.config, self.accelerator.device)
        self._attach()
        self.texts = data.conditioning_texts(self.examples, self.stage.prompt, self.model.tokens)
        resolution = self.config.data.resolution
        self.model.latent_shape(resolution)
        self.moments = data.encode_latents(
            self.examples,
            self.model,
            resolution,
            lambda done, total: progress("encoding images", done, total),
        )
        self.conditions: dict[str, Tensor] | None = None
        if not isinstance(self.stage, TextualInversionStage):
            self.conditions = data.encode_texts(self.texts, self.model)
        self.method = self._method(cache)
        self.parameters = list(self.model.trainable.values())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.stage.learning_rate, weight_decay=self.stage.weight_decay
        )
        self.watch = Watch(self.config, self.folder, self.model)
        if self.accelerator.is_main_process:
            critic = self.method.cam.critic if isinstance(self.method, Craft) else None
            device = self.accelerator.device
            self.watch.prepare(self.examples, self.stage.prompt, critic, cache, device, progress)

    def _attach(self) -> None:
        """Put what earlier stages learned into the model, and make this stage's part trainable."""
        if isinstance(self.stage, TextualInversionStage):
            used = [name for name in self.examples.classes if name in set(self.examples.labels)]
            module = models.attach_tokens(self.model, models.initial_vectors(self.model, used))
            module.learned.requires_grad_(True)
            self.model.trainable["learned_tokens"] = module.learned
            return
        lora = self.config.lora
        models.attach_lora(self.model, rank=lora.rank, alpha=lora.alpha, seed=self.config.seed)
        if self.previous is not None:
            models.load_artifact(self.model, self.previous)

    def _method(self, cache: EmbeddingCache) -> Method:
        forward = forward_process(self.model)
        if not isinstance(self.stage, CraftStage):
            return Denoising(self.model, forward)
        device, sampling = self.accelerator.device, self.config.sampling
        critic = load_encoder(
            self.config.critic.encoder,
            device=str(device),
            offline=self.config.offline,
            text_policy=self.config.critic.text_policy,
        )
        weights = self.stage.rewards.weights()
        targets, probe = prepare_targets(
            self.examples, critic, cache, weights, self.config.critic.probe
        )
        with torch.no_grad():
            unconditional = self.model.encode_prompts([""])
        return Craft(
            model=self.model,
            forward=forward,
            sampler=sampling_scheduler(
                dict(self.model.pipeline.scheduler.config),
                sampling.steps,
                sampling.timestep_spacing,
                device,
            ),
            cam=ClinicalAlignmentModule(critic, probe, weights),
            targets=targets,
            guidance=Guidance(sampling.guidance, unconditional, self.stage.unconditional_gradient),
            stage=self.stage,
        )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the stage."""
        if self.stage.steps is not None:
            return self.stage.steps
        assert self.stage.epochs is not None
        world = self.accelerator.num_processes
        together = self.stage.batch_size * self.stage.accumulate * world
        return -(-self.stage.epochs * len(self.examples) // together)

    def train(self, progress: Progress = silent) -> None:
        """Take the steps that are left, from the latest checkpoint where there is one."""
        start = self._resume()
        self.accelerator.init_trackers(self.folder.name)
        try:
            self._begin_watch(start)
            for step in range(start, self.total_steps):
                if self.stopped is not None:
                    break
                logs = self._step(step)
                self.accelerator.log(logs, step=step + 1)
                progress(f"{self.folder.name} steps", step + 1, self.total_steps)
                self._watch(step + 1, logs)
                last = step + 1 == self.total_steps or self.stopped is not None
                if last or (step + 1) % self.stage.checkpoint_every == 0:
                    self._checkpoint(step + 1)
        finally:
            self.accelerator.end_training()

    def _begin_watch(self, step: int) -> None:
        """Continue the curves from ``step``, and look at the model before the first one."""
        if self.accelerator.is_main_process:
            self.watch.start(step)
            if self.watch.held_out is not None and not self.watch.looks:
                self._look(step)
        self._agree_on_stopping()

    def _watch(self, step: int, logs: Mapping[str, float]) -> None:
        """Record a step and, where it is time, look at what the model makes of fixed prompts."""
        every = self.config.validation.every
        due = every > 0 and (step == self.total_steps or step % every == 0)
        if self.accelerator.is_main_process:
            self.watch.record(step, logs)
            if due and self.watch.held_out is not None:
                self._look(step)
            elif due:
                self._draw_sheet(step)
        if due:
            self._agree_on_stopping()

    def _look(self, step: int) -> None:
        def save_best(folder: Path) -> None:
            checkpoints.save_checkpoint(
                folder, step, self.model.trainable, self.optimizer, self.identity, keep=step + 1
            )

        self.accelerator.log(self.watch.look(step, save_best), step=step)

    def _agree_on_stopping(self) -> None:
        """Every process learns whether a guard of the main one ends the stage."""
        answer = [self.watch.stop_error(self.folder / ARTIFACT)]
        self.stopped = broadcast_object_list(answer)[0]

    def _resume(self) -> int:
        self.last_good = "the start"
        found = checkpoints.checkpoints(self.folder / "checkpoints")
        if not found:
            return 0
        self.last_good = str(found[-1])
        return checkpoints.restore(found[-1], self.model.trainable, self.optimizer, self.identity)

    def _step(self, step: int) -> dict[str, float]:
        """One optimizer step. Nothing is changed when a value is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        try:
            for positions in self._positions(step):
                loss = self.method.loss(self._batch(positions), step)
                (loss.total / self.stage.accumulate).backward()
                for name, value in loss.logs.items():
                    share = value.detach().float() / self.stage.accumulate
                    sums[name] = sums.get(name, torch.zeros_like(share)) + share
        except torch.OutOfMemoryError as error:
            raise CasError(
                f"step {step + 1} does not fit into memory",
                fix="halve batch_size and double accumulate, or set gradient_checkpointing: true; "
                f"the same command then continues from {self.last_good}",
            ) from error
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.stage.max_grad_norm)
        logs = self._averaged({**sums, "gradient/norm": norm})
        require_finite(logs, step + 1, self.last_good)
        logs["learning_rate"] = self._set_learning_rate(step)
        self.optimizer.step()
        return logs

    def _positions(self, step: int) -> list[tuple[int, ...]]:
        return data.positions_of(
            step,
            batch_size=self.stage.batch_size,
            accumulate=self.stage.accumulate,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )

    def _batch(self, positions: tuple[int, ...]) -> data.Batch:
        seed = self.config.seed
        rows = tuple(data.row_at(position, len(self.examples), seed) for position in positions)
        prompts = tuple(self.texts[row] for row in rows)
        conditions = None
        if self.conditions is not None:
            conditions = torch.stack([self.conditions[prompt] for prompt in prompts])
        return data.Batch(rows, positions, seed, self.moments[list(rows)], prompts, conditions)

    def _averaged(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        stacked = torch.stack([value.detach().float() for value in values.values()])
        stacked = self.accelerator.reduce(stacked, reduction="mean")
        return dict(zip(values, stacked.tolist(), strict=True))

    def _set_learning_rate(self, step: int) -> float:
        """Linear warm-up, then constant: a function of the step, so nothing has to be resumed."""
        rate = self.stage.learning_rate * min(1.0, (step + 1) / max(1, self.stage.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _checkpoint(self, step: int) -> None:
        if self.accelerator.is_main_process:
            path = checkpoints.save_checkpoint(
                self.folder / "checkpoints",
                step,
                self.model.trainable,
                self.optimizer,
                self.identity,
                self.config.keep_checkpoints,
            )
            self.last_good = str(path)
            self.watch.forget_older_best()
        self.accelerator.wait_for_everyone()

    def _draw_sheet(self, step: int) -> None:
        """The first prompts at fixed seeds, always the same, so that sheets can be compared."""
        validation = self.config.validation
        prompts = self.texts[: validation.images]
        seeds = [validation.seed + index for index in range(len(prompts))]
        images = sample_images(
            self.model, prompts, seeds, self.config.sampling, self.config.data.resolution
        )
        write_sheet(images, self.folder / SAMPLES / f"step-{step:07d}.png")

    def save(self) -> None:
        """Write the artefact, as a whole or not at all: the last weights, or the best."""
        if self.accelerator.is_main_process:
            if self.watch.looks and (self.config.artifact == "best" or self.stopped is not None):
                best = self.watch.best_file
                checkpoints.restore(best, self.model.trainable, self.optimizer, self.identity)
            temporary = self.folder / f".{ARTIFACT}"
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                models.save_artifact(self.model, temporary)
                write_bytes(temporary / CONFIG_FILE, to_yaml(self.config).encode())
                write_bytes(temporary / IDENTITY_FILE, to_json(self.identity).encode())
                self._write_card(temporary)
                temporary.rename(self.folder / ARTIFACT)
            except OSError as error:
                shutil.rmtree(temporary, ignore_errors=True)
                raise CasError(
                    f"{self.folder / ARTIFACT} cannot be written: {error}",
                    fix=f"free space and run again: it continues from {self.last_good}",
                ) from error
        self.accelerator.wait_for_everyone()

    def _write_card(self, directory: Path) -> None:
        counts = [self.model.count_tokens(text) for text in sorted(set(self.texts))]
        write_card(
            directory,
            config=self.config,
            number=len(self.identity["stages"]),
            train=self.examples,
            identity=self.identity,
            watch=self.watch,
            trainable=sum(parameter.numel() for parameter in self.parameters),
            steps=self.total_steps if self.stopped is None else self.watch.looks[-1].step,
            truncated=sum(count > self.model.token_limit for count in counts),
        )


def load_base(config: Config, device: torch.device) -> models.DiffusionModel:
    """The base model that a configuration names, frozen."""
    return models.load_model(
        config.base,
        revision=config.revision,
        device=device,
        dtype=_DTYPES[config.dtype],
        offline=config.offline,
        gradient_checkpointing=config.gradient_checkpointing,
    )


def load_trained(artifact: Path, config: Config, device: torch.device) -> models.DiffusionModel:
    """Base model with an artefact in it, as the trainer itself has it.

    Raises:
        InputError: The base model is not the one that the artefact was trained on.
    """
    made_on = _stored_identity(artifact).get("base_sha256")
    found = base_hash(config.base, config.revision, offline=config.offline)
    if made_on not in (None, found):
        raise InputError(
            f"{artifact} was trained on another base model: sha256 {made_on[:12]}, and "
            f"{config.base} is {found[:12]}",
            fix="name the base model that it was trained on, e.g. base=DIRECTORY",
        )
    model = load_base(config, device)
    if (artifact / models.LORA_FILE).is_file():
        lora = config.lora
        models.attach_lora(model, rank=lora.rank, alpha=lora.alpha, seed=config.seed)
    models.load_artifact(model, artifact)
    return model


def identity_of(config: Config, number: int) -> dict[str, Any]:
    """The settings that decide the result of stage ``number`` (from 1), as JSON values."""
    values = config.model_dump(mode="json")
    names = ["base", "revision", "dtype", "seed", "data", "lora", "sampling", "critic"]
    if config.validation.encoder is not None:  # it may end a stage, or choose its weights
        names += ["validation", "guards", "artifact"]
    stages = {}
    for position in range(number):
        stage = dict(values["stages"][position])
        # Neither changes a single step.
        del stage["checkpoint_every"]
        stage.pop("reward_gradients_every", None)
        stages[str(position)] = stage
    own = {**{name: values[name] for name in names}, "stages": stages}
    own["base_sha256"] = base_hash(config.base, config.revision, offline=config.offline)
    # What an artefact was made by says what it is, wherever it lies.
    return own if config.start is None else {**own, "start": _stored_identity(config.start)}


def stage_of(artifact: Path, config: Config) -> AnyStage:
    """The stage that wrote an artefact, by the settings beside it.

    Raises:
        InputError: The folder is no artefact of a run.
    """
    stages = _stored_identity(artifact).get("stages", {})
    if not 1 <= len(stages) <= len(config.stages):
        raise InputError(f"{artifact} does not match its {CONFIG_FILE}", fix="train it again")
    return config.stages[len(stages) - 1]


def _require_same_stage(artifact: Path, identity: Mapping[str, Any]) -> None:
    checkpoints.require_same(_stored_identity(artifact), identity, artifact)


def _stored_identity(artifact: Path) -> dict[str, Any]:
    path = artifact / IDENTITY_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}",
            fix="name the folder `artifact` of a finished stage, or remove it and train again",
        ) from error
