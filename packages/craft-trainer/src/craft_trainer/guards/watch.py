"""What goes along with a stage: its curves, its held-out evaluation, its guards, its best weights.

The trainer tells it of every step; it answers whether to go on. All that it decides follows from
two journals, ``metrics.jsonl`` and ``heldout.jsonl``, which a resumed run rewinds to its
checkpoint: a run that was killed ends as the one that was not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder
from cas_metric.errors import CasError
from cas_metric.files import to_json, write_bytes
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.schema import Config
from craft_trainer.data.dataset import Examples, conditioning_texts
from craft_trainer.guards.reward_hacking import Finding, Look, best_of, examine
from craft_trainer.inference import sample_images, write_sheet
from craft_trainer.runtime import Progress, checkpoints
from craft_trainer.runtime.journal import Journal

if TYPE_CHECKING:
    from craft_trainer.guards.heldout import HeldOut

METRICS_FILE: Final = "metrics.jsonl"
HELD_OUT_FILE: Final = "heldout.jsonl"
GUARDS_FILE: Final = "guards.json"
BEST: Final = "best"
SAMPLES: Final = "samples"
_LOG = logging.getLogger(__name__)


class StoppedByGuard(CasError):
    """A guard ended a stage early; its best weights were saved as its artefact. Exit code 3."""

    exit_code = 3


def remind_of_stop(folder: Path) -> None:
    """Say of a finished stage that a guard ended it, where one did."""
    path = folder / GUARDS_FILE
    if not path.is_file():
        return
    summary = json.loads(path.read_text(encoding="utf-8"))
    if summary["stopped"] is not None:
        reason = next(one for one in summary["findings"] if one["guard"] == summary["stopped"])
        _LOG.warning(
            "%s was ended by the guard %s after step %d: %s; its artefact holds the best weights",
            folder,
            summary["stopped"],
            reason["step"],
            reason["message"],
        )


class Watch:
    """One stage's observer, on the main process.

    Args:
        config: Of the run.
        folder: Of the stage.
        model: The model that is trained.
        reward: What the curves call that which the stage drives up; empty where nothing is.
    """

    def __init__(
        self, config: Config, folder: Path, model: DiffusionModel, reward: str = ""
    ) -> None:
        self.config = config
        self.folder = folder
        self.model = model
        self.reward = reward
        self.metrics = Journal(folder / METRICS_FILE)
        self.journal = Journal(folder / HELD_OUT_FILE)
        self.looks: list[Look] = []
        self.findings: list[Finding] = []
        self.held_out: HeldOut | None = None
        self.loss: Callable[[], float] | None = None
        self._rewards: list[float] = []

    def prepare(
        self,
        train: Examples,
        template: str,
        critics: Sequence[Encoder],
        cache: EmbeddingCache,
        device: torch.device,
        progress: Progress,
    ) -> None:
        """Load the held-out evaluator, where the configuration names one.

        Args:
            train: Training images.
            template: Of the conditioning texts of the stage.
            critics: The encoders that give the rewards.
            cache: Store of embeddings.
            device: Where the evaluator goes.
            progress: Told what is being done.
        """
        if self.config.validation.encoder is None:
            return
        from craft_trainer.guards.heldout import prepare

        _, side, _ = self.model.latent_shape(self.config.data.resolution)
        self.held_out = prepare(
            self.config, train, critics, cache, latent_cells=side, device=device, progress=progress
        )
        self.texts = conditioning_texts(self.held_out.examples, template, self.model.tokens)

    def start(self, step: int) -> None:
        """Continue the journals from ``step``, whose checkpoint the run continues from.

        Without one, -1: nothing is kept of an attempt that died, whose settings may be others.
        """
        rows = self.metrics.rewind(step)
        self.looks = [Look.from_json(row) for row in self.journal.rewind(step)]
        self.findings = []
        (self.folder / GUARDS_FILE).unlink(missing_ok=True)
        for sheet in (self.folder / SAMPLES).glob("*-*.png"):
            number = sheet.stem.rpartition("-")[2]
            if number.isdecimal() and int(number) > step:
                sheet.unlink()
        for count in range(1, len(self.looks) + 1):
            self._examine(count)
        for path in checkpoints.checkpoints(self.folder / BEST):
            if checkpoints.step_of(path) > step:
                path.unlink()
        since = self.looks[-1].step if self.looks else 0
        self._rewards = [
            row[self.reward] for row in rows if self.reward in row and row["step"] > since
        ]

    @property
    def stopped(self) -> Finding | None:
        """The finding that ends the stage, where there is one."""
        return next((one for one in self.findings if one.reaction == "stop"), None)

    def record(self, step: int, logs: Mapping[str, float]) -> None:
        """Write down what a step logged."""
        self.metrics.append({"step": step, **logs})
        if self.reward in logs:
            self._rewards.append(logs[self.reward])

    def look(self, step: int, save_best: Callable[[Path], None]) -> tuple[dict[str, float], Path]:
        """Evaluate the model as it is after ``step`` steps, and let the guards see it.

        Args:
            step: Optimizer steps taken.
            save_best: Saves the weights into a folder; called where they are the best so far.

        Returns:
            What to log: ``heldout/cas``, its primitives, and ``heldout/…`` of the statistics; and
            the sheet of images that was written.
        """
        assert self.held_out is not None
        reward = sum(self._rewards) / len(self._rewards) if self._rewards else None
        look, images = self.held_out.look(self.model, self.texts, step, reward)
        self._rewards = []
        self.looks.append(look)
        if look is self.best:
            save_best(self.folder / BEST)
        # Written last: a look that the journal knows has its weights on disk.
        self.journal.append(look.to_json())
        path = self.folder / SAMPLES / f"heldout-{step:07d}.png"
        write_sheet(images[: self.config.validation.images], path)
        self._examine(len(self.looks))
        means = {name: sum(values) / len(values) for name, values in look.scores.items()}
        logs = {f"heldout/{name}": value for name, value in {**means, **look.statistics}.items()}
        return logs, path

    def draw_sheet(self, prompts: Sequence[str], step: int) -> Path:
        """The first prompts at fixed seeds, always the same, so that sheets can be compared."""
        config = self.config
        shown = list(prompts[: config.validation.images])
        seeds = [config.validation.seed + index for index in range(len(shown))]
        images = sample_images(self.model, shown, seeds, config.sampling, config.data.resolution)
        path = self.folder / SAMPLES / f"step-{step:07d}.png"
        write_sheet(images, path)
        return path

    def _examine(self, count: int) -> None:
        """Let the guards see the first ``count`` looks; each finding is reported once."""
        assert self.held_out is not None
        found = examine(self.looks[:count], self.held_out.real, self.config.guards)
        known = {one.guard for one in self.findings}
        for one in found:
            if one.guard not in known:
                _LOG.warning("step %d, guard %s: %s", one.step, one.guard, one.message)
        self.findings += [one for one in found if one.guard not in known]
        write_bytes(self.folder / GUARDS_FILE, to_json(self.summary()).encode())

    def summary(self) -> dict[str, Any]:
        """The guards, what they found, and where the best weights are."""
        stopped = self.stopped
        return {
            "guards": self.config.guards.model_dump(mode="json"),
            "evaluator": self.config.validation.encoder,
            "looks": [look.step for look in self.looks],
            "heldout_cas": [look.cas for look in self.looks],
            "findings": [one._asdict() for one in self.findings],
            "best_step": self.best.step if self.looks else None,
            "stopped": None if stopped is None else stopped.guard,
        }

    def stop_error(self, artifact: Path) -> StoppedByGuard | None:
        """What a user reads when a guard has ended the stage; None where none has."""
        found = self.stopped
        if found is None:
            return None
        return StoppedByGuard(
            f"stopped after step {found.step} by the guard {found.guard}: {found.message}; "
            f"{artifact} holds the best weights, of step {self.best.step}",
            fix="lower learning_rate or the weight of a reward, or set "
            f"guards.{found.guard}.reaction=warn, and choose another `output`; the same command "
            "goes on with the next stage from the best weights",
        )

    @property
    def best(self) -> Look:
        """The look with the highest held-out CAS."""
        return self.looks[best_of(self.looks)]

    @property
    def best_file(self) -> Path:
        """Checkpoint of the best weights."""
        return self.folder / BEST / checkpoints.name_of(self.best.step)

    def forget_older_best(self) -> None:
        """Remove what is no longer the best, once a checkpoint is written.

        Before that, a run may continue from an earlier checkpoint, and needs the best weights of
        its time.
        """
        if not self.looks:
            return
        for path in checkpoints.checkpoints(self.folder / BEST):
            if path != self.best_file:
                path.unlink(missing_ok=True)
