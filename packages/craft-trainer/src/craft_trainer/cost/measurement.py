"""Time and memory of one step, measured by taking it on a few images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator

from cas_metric.embedding.cache import EmbeddingCache
from craft_trainer.config.schema import Config
from craft_trainer.config.stage import TrainedStage
from craft_trainer.config.validation import Validation
from craft_trainer.data.dataset import Examples
from craft_trainer.guards.heldout import spread, take
from craft_trainer.runtime import silent
from craft_trainer.training.trainer import StageRun


class Measured(NamedTuple):
    """One optimizer step.

    Attributes:
        method: Of the stage.
        device: Where it ran.
        seconds: Of a step, the mean over a period of the stage; the one before it warms up.
        peak: Gigabytes (10⁹ bytes) of GPU memory at the peak, the weights included; None on a CPU.
    """

    method: str
    device: str
    seconds: float
    peak: float | None


def measure(config: Config, number: int, examples: Examples) -> Measured:
    """Take a step and then a period of stage ``number`` (from 1) from untrained adapters.

    A period is one step, but where some steps cost less than others: see
    :attr:`~craft_trainer.config.stage.TrainedStage.period`.

    As many images are encoded as a step needs, and each class at least once. Learned tokens that an
    earlier stage would bring are left out of the prompts: they cost nothing.

    Raises:
        CasError: A model or an image cannot be had here.
    """
    chosen = config.stages[number - 1]
    assert isinstance(chosen, TrainedStage), "a stage that trains nothing takes no step"
    stage = chosen.model_copy(update={"prompt": _without_token(chosen)})
    if not stage.sources():  # pairs name their own images
        wanted = max(stage.batch_size * stage.accumulate, 2 * len(set(examples.labels)))
        examples = take(examples, spread(examples.labels, wanted))
    with tempfile.TemporaryDirectory(prefix="craft-estimate-") as folder:
        alone = config.model_copy(
            update={"output": Path(folder), "tracker": "none", "validation": Validation()}
        )
        accelerator = Accelerator()
        run = StageRun(alone, stage, Path(folder), None, examples, accelerator, {})
        run.last_good = "the start"
        with EmbeddingCache() as cache:
            run.setup(cache, silent)
        cuda = accelerator.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        run._step(0)
        started = _now(cuda)
        for step in range(1, 1 + stage.period):
            run._step(step)
        seconds = (_now(cuda) - started) / stage.period
        peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
    return Measured(chosen.method, str(accelerator.device), seconds, peak)


def _now(cuda: bool) -> float:
    """Seconds, once the accelerator has done what it was given."""
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _without_token(stage: TrainedStage) -> str:
    if stage.learns == "tokens":
        return stage.prompt
    return stage.prompt.replace("{token}", "{label}")
