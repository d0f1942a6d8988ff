"""A tracker gets names, the configuration, curves and sheets."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import GeneralTracker, TensorBoardTracker
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from cas_metric.errors import CasError
from craft_trainer.runtime import ranks, tracking
from craft_trainer.training import trainer

LORA = {"method": "lora", "steps": 2}


def test_tensorboard_has_curves_configuration_and_sheets(settings: Any) -> None:
    config = settings(LORA, tracker="tensorboard", validation={"every": 2, "images": 2})
    trainer.train_stages(config, cache="none")
    events = EventAccumulator(str(config.output / "1-lora"), size_guidance={"images": 0})
    events.Reload()
    assert "loss/diffusion" in events.Tags()["scalars"]
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "method: lora" in text
    (image,) = events.Images("samples/step")
    assert (image.width, image.height) == (32, 16)


def test_each_stage_has_its_own_curves_alone(settings: Any) -> None:
    config = settings(LORA, {**LORA, "steps": 1}, tracker="tensorboard")
    trainer.train_stages(config, cache="none")
    for name, steps in (("1-lora", [1, 2]), ("2-lora", [1])):
        assert len(list((config.output / name).glob("events*"))) == 1
        events = EventAccumulator(str(config.output / name))
        events.Reload()
        assert [one.step for one in events.Scalars("loss/diffusion")] == steps


def test_another_tracker_gets_project_run_configuration_and_images(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Tracker(GeneralTracker):
        name, requires_logging_directory, tracker = "wandb", False, None

        def __init__(self, run_name: str, **options: Any) -> None:
            super().__init__()
            told.append((run_name, options["name"]))

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            told.append(values)

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            pass

        def log_images(self, values: dict[str, Any], step: int, **options: Any) -> None:
            told.append((values, step, options))

    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", {"wandb": Tracker})
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda *_: ["wandb"])
    monkeypatch.setattr(ranks, "get_available_trackers", lambda: list(LoggerType))
    own = {"project": "films", "run": "first"}
    config = settings(LORA, tracking=own, tracker="wandb", validation={"every": 1, "images": 2})
    trainer.train_stages(config, cache="none")
    (names, values, *sheets) = told
    assert names == ("films", "first/1-lora")
    assert (values["stages.0.method"], values["sampling.steps"]) == ("lora", 3)
    assert [step for _, step, _ in sheets] == [1, 2]
    pixels = sheets[0][0]["samples/step"]
    assert (pixels.shape, pixels.dtype, sheets[0][2]) == ((1, 16, 32, 3), np.uint8, {})


def test_a_tracker_on_a_full_disk_is_named_and_the_run_goes_on(
    settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard's thread wrote a traceback, and standard output was blamed."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(*_: Any) -> None:
        raise full

    config = settings({**LORA, "steps": 4, "checkpoint_every": 1}, tracker="tensorboard")
    with monkeypatch.context() as patched:
        patched.setattr(RecordWriter, "write", write)
        with pytest.raises(CasError, match="tensorboard cannot write: No space left"):
            trainer.train_stages(config, cache="none")
        assert threading.excepthook.__module__ != tracking.__name__
    assert "Traceback" not in capsys.readouterr().err
    assert trainer.train_stages(config, cache="none").is_dir()


def test_what_ends_a_stage_is_told_before_its_tracker(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no room for the rest either")

    def step(*_: Any) -> None:
        raise CasError("a reward is NaN")

    monkeypatch.setattr(trainer.StageRun, "_step", step)
    monkeypatch.setattr(TensorBoardTracker, "finish", close)
    with pytest.raises(CasError, match="a reward is NaN"):
        trainer.train_stages(settings(LORA, tracker="tensorboard"), cache="none")
