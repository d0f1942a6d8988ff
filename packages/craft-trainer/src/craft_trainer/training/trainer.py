"""The one loop: every method, any number of processes, exactly resumable."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.errors import CasError
from craft_trainer.artifact.folder import ARTIFACT, load_base, write_artifact, write_untrained
from craft_trainer.artifact.identity import identity_of, require_base, require_same_stage
from craft_trainer.bases.loading import load_artifact, save_artifact
from craft_trainer.bases.lora import attach_lora
from craft_trainer.config.schema import Config
from craft_trainer.config.stage import TrainedStage
from craft_trainer.data import dataset as data
from craft_trainer.guards.watch import StoppedByGuard, Watch, remind_of_stop
from craft_trainer.methods.base import Setup
from craft_trainer.runtime import Progress, checkpoints, silent
from craft_trainer.runtime.failures import fits_memory, require_finite, require_finite_weights
from craft_trainer.runtime.interruption import Interrupted, Signals
from craft_trainer.runtime.lock import alone_in
from craft_trainer.runtime.ranks import join, largest, on_main
from craft_trainer.runtime.telling import tell_notes
from craft_trainer.runtime.tracking import track, track_sheet, tracking
from craft_trainer.training import averaging
from craft_trainer.training.heldout_loss import HeldOutLoss
from craft_trainer.training.inputs import Inputs
from craft_trainer.training.objective import Objective
from craft_trainer.training.optimizers import make_optimizer, schedule_of
from craft_trainer.training.preflight import require_ready


def train_stages(
    config: Config, *, progress: Progress = silent, cache: str | Path | None = None
) -> Path:
    """Run the stages of ``config`` one after the other; finished ones are not run again.

    Args:
        config: See :class:`~craft_trainer.config.schema.Config`.
        progress: Told after every step.
        cache: Folder of the embedding store; ``"none"`` for a temporary one.

    Returns:
        Folder of the last stage's artefact.

    Raises:
        CasError: See the message; what was saved before stays intact.
    """
    accelerator = join(config)
    examples = data.read_examples(config.data.train, config.data.domain)
    tell_notes(examples.manifest.notes)
    if (previous := config.start) is not None:
        require_base(previous, config)
    on_main(accelerator, partial(require_ready, config, examples))
    with ExitStack() as held:
        on_main(accelerator, lambda: held.enter_context(alone_in(config.output, "`output`")))
        for number, stage in enumerate(config.stages, start=1):
            folder = config.output / f"{number}-{stage.method}"
            identity = identity_of(config, number)
            if (folder / ARTIFACT).is_dir():
                require_same_stage(folder / ARTIFACT, identity)
                on_main(accelerator, partial(remind_of_stop, folder))
            elif isinstance(stage, TrainedStage):
                run = StageRun(config, stage, folder, previous, examples, accelerator, identity)
                try:
                    run.whole(progress, cache)
                finally:
                    del run  # or its model would live beside the next one's
                    accelerator.free_memory()
            else:
                on_main(accelerator, partial(write_untrained, folder, config, examples, identity))
            previous = folder / ARTIFACT
    assert previous is not None
    return previous


class StageRun:
    """One stage: set up, train, save. The methods are in the order in which they run."""

    def __init__(
        self,
        config: Config,
        stage: TrainedStage,
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
        self.interrupted: Interrupted | None = None
        self.finished = False
        self.saved_at = time.monotonic()

    def whole(self, progress: Progress = silent, cache: str | Path | None = None) -> None:
        """Set up, train and save.

        Raises:
            StoppedByGuard: After the best weights were saved.
            Interrupted: A signal came; the last step is saved.
        """
        with EmbeddingCache(cache) as store:
            self.setup(store, progress)
            self.train(progress)
            if self.finished:
                self.save()
        if self.stopped is not None:
            raise self.stopped
        if self.interrupted is not None:
            raise self.interrupted

    def setup(self, cache: EmbeddingCache, progress: Progress) -> None:
        """Model, what is trained of it, cached inputs, method and optimizer."""
        self.model = load_base(self.config, self.accelerator.device)
        self.stage.require(self.config, type(self.model))
        used = [name for name in self.examples.classes if name in set(self.examples.labels)]
        if self.stage.learns == "lora":
            attach_lora(self.model, self.config.lora, seed=self.config.seed)
        else:
            self.stage.attach(self.model, used)
        if self.previous is not None:
            load_artifact(self.model, self.previous)
        self.inputs = Inputs(
            self.config, self.stage, self.examples, self.model, cache, self.accelerator, progress
        )
        self.texts = self.inputs.texts
        latent = self.model.latent_shape(self.config.data.resolution)
        once = partial(on_main, self.accelerator)
        world = self.accelerator.num_processes
        self.method = self.stage.build(
            Setup(self.config, self.model, latent, self.examples, cache, once, world)
        )
        if self.stage.learns != "tokens":
            self.model.put_texts_away()
        self.parameters = list(self.model.trainable.values())
        self.objective = self.accelerator.prepare(Objective(self.method, self.parameters))
        self.optimizer = make_optimizer(self.stage, self.parameters)
        self.rate = schedule_of(self.stage, self.total_steps)
        self.average = averaging.Average(self.model, self.stage.ema)
        self.watch = Watch(self.config, self.folder, self.model, self.method.reward)
        once(partial(self._prepare_watch, cache, progress))

    def _prepare_watch(self, cache: EmbeddingCache, progress: Progress) -> None:
        device, template = self.accelerator.device, self.stage.prompt
        critics = self.method.critics
        self.watch.prepare(self.examples, template, critics, cache, device, progress)
        encodings = self.inputs.encodings
        self.watch.loss = HeldOutLoss.of(self.config, self.stage, self.examples, encodings)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the stage."""
        if self.stage.steps is not None:
            return self.stage.steps
        assert self.stage.epochs is not None
        world = self.accelerator.num_processes
        together = self.stage.batch_size * self.stage.accumulate * world
        return int(-(-self.stage.epochs * self.inputs.count // together))

    def train(self, progress: Progress = silent) -> None:
        """Take the steps that are left, from the latest checkpoint where there is one."""
        start = self._resume()
        with tracking(self.accelerator, self.config, self.folder.name):
            self._begin_watch(start)
            self.finished = self.stopped is not None or start == self.total_steps
            with Signals() as signals:
                for step in range(start, 0 if self.finished else self.total_steps):
                    with fits_memory(f"step {step + 1}", self._less_memory()):
                        logs = self._step(step)
                    track(self.accelerator, self.config, logs, step + 1)
                    progress(f"{self.folder.name} steps", step + 1, self.total_steps)
                    self._watch(step + 1, logs)
                    self.finished = step + 1 == self.total_steps or self.stopped is not None
                    if self._ends(step + 1, signals):
                        break

    def _ends(self, step: int, signals: Signals) -> bool:
        """Write a checkpoint where one is due; whether no further step is to be taken."""
        minutes = self.stage.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self.saved_at > 60 * minutes
        number, due = largest(self.accelerator, signals.received or 0, int(late))
        if number or due or self.finished or step % self.stage.checkpoint_every == 0:
            self._checkpoint(step)
            self.saved_at = time.monotonic()
        if number:
            self.interrupted = Interrupted(number, step, self.last_good)
        return self.finished or number > 0

    def _begin_watch(self, step: int) -> None:
        """Continue the curves from ``step``, and look at the model before the first one."""
        if self.accelerator.is_main_process:
            self.watch.start(step or -1)  # only a checkpoint knows whose journals these are
            if self.watch.held_out is not None and not self.watch.looks:
                self._look(step)
        self._agree_on_stopping()

    def _watch(self, step: int, logs: Mapping[str, float]) -> None:
        """Record a step and, where it is time, look at what the model makes of fixed prompts."""
        every = self.config.validation.every
        due = every > 0 and (step == self.total_steps or step % every == 0)
        if self.accelerator.is_main_process:
            if due and self.watch.loss is not None:
                with self.average.shown():
                    found = {"heldout/diffusion": self.watch.loss()}
                track(self.accelerator, self.config, found, step)
                logs = {**logs, **found}
            self.watch.record(step, logs)
            if due and self.watch.held_out is not None:
                self._look(step)
            elif due:
                with self.average.shown():
                    sheet = self.watch.draw_sheet(self.texts, step)
                track_sheet(self.accelerator, self.config, sheet, step)
        if due:
            self._agree_on_stopping()

    def _look(self, step: int) -> None:
        def save_best(folder: Path) -> None:
            # The weights are the average here, and nothing is resumed from them.
            self._save_state(folder, step, keep=step + 1, state={})

        fix = "lower validation.batch_size, in a run with another `output`"
        with fits_memory(f"the held-out evaluation after step {step}", fix), self.average.shown():
            logs, sheet = self.watch.look(step, save_best)
        track(self.accelerator, self.config, logs, step)
        track_sheet(self.accelerator, self.config, sheet, step)

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
        steps = checkpoints.restore(
            found[-1],
            self.model.trainable,
            self.optimizer,
            self.identity,
            processes=self.accelerator.num_processes,
        )
        state = checkpoints.state_of(found[-1])
        self.average.restore(state, steps)
        own = {name: one for name, one in state.items() if not name.startswith(averaging.PREFIX)}
        self.method.restore(own)
        return steps

    def _step(self, step: int) -> dict[str, float]:
        """One optimizer step. Nothing is changed when a value is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        passes = self._positions(step)
        for positions in passes:
            self._seed(positions)
            with self._averaging(last=positions is passes[-1]):
                loss = self.objective(self.inputs.batch(positions), step)
                (loss.total / self.stage.accumulate).backward()
            for name, value in loss.logs.items():
                share = value.detach().float() / self.stage.accumulate
                sums[name] = sums.get(name, torch.zeros_like(share)) + share
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.stage.max_grad_norm)
        logs = self._averaged({**sums, "gradient/norm": norm})
        require_finite(logs, step + 1, self.last_good)
        logs["learning_rate"] = self._set_learning_rate(step)
        self.optimizer.step()
        self.average.update()
        self.method.after_step(step)
        return logs

    def _seed(self, positions: tuple[int, ...]) -> None:
        """Let the dropout of an adapter, too, be a function of the seed and the step."""
        if self.config.lora.dropout > 0:
            torch.manual_seed(data.seed_of(self.config.seed, positions[0], crc32(b"dropout")))

    def _less_memory(self) -> str:
        """What to do where a step does not fit."""
        halve = "halve batch_size and double accumulate, in a run with another `output`"
        if self.config.gradient_checkpointing:
            return f"{halve}; what was saved stays: {self.last_good}"
        return (
            "set gradient_checkpointing: true and run the same command again, it continues from "
            f"{self.last_good}; or {halve}"
        )

    def _averaging(self, *, last: bool) -> AbstractContextManager[Any]:
        """Average gradients over the processes in the last forward pass of a step alone."""
        return nullcontext() if last else self.accelerator.no_sync(self.objective)

    def _positions(self, step: int) -> list[tuple[int, ...]]:
        return data.positions_of(
            step,
            batch_size=self.stage.batch_size,
            accumulate=self.stage.accumulate,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )

    def _averaged(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        stacked = torch.stack([value.detach().float() for value in values.values()])
        stacked = self.accelerator.reduce(stacked, reduction="mean")
        return dict(zip(values, stacked.tolist(), strict=True))

    def _set_learning_rate(self, step: int) -> float:
        """A function of the step, so nothing has to be resumed."""
        rate = self.stage.learning_rate * self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _checkpoint(self, step: int) -> None:
        require_finite_weights(self.model.trainable, step, self.last_good)

        def save() -> str:
            keep = self.config.keep_checkpoints
            with self._continues():
                state = {**self.method.state(), **self.average.state()}
                path = self._save_state(self.folder / "checkpoints", step, keep, state)
            self.watch.forget_older_best()
            return str(path)

        self.last_good = on_main(self.accelerator, save)

    @contextmanager
    def _continues(self) -> Iterator[None]:
        """What cannot be written loses no step that was saved: name it."""
        try:
            yield
        except CasError as error:
            fix = f"free space and run again: it continues from {self.last_good}"
            raise CasError(error.problem, fix=fix) from error

    def _save_state(self, folder: Path, step: int, keep: int, state: Mapping[str, Tensor]) -> Path:
        return checkpoints.save_checkpoint(
            folder,
            step,
            self.model.trainable,
            self.optimizer,
            self.identity,
            keep,
            processes=self.accelerator.num_processes,
            state=state,
        )

    def save(self) -> None:
        """Write the artefact, as a whole or not at all: the last weights, or the best."""

        def save() -> None:
            weights = self.average.shown()
            if self.watch.looks and (self.config.artifact == "best" or self.stopped is not None):
                best, weights = self.watch.best_file, nullcontext()  # an average already
                checkpoints.restore(best, self.model.trainable, self.optimizer, self.identity)
            with self._continues(), weights:
                write_artifact(self.folder, self.config, self.identity, self._write_trained)

        on_main(self.accelerator, save)

    def _write_trained(self, directory: Path) -> None:
        from craft_trainer.artifact.model_card import write_card

        save_artifact(self.model, directory)
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
