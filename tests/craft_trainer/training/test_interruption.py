"""A signal ends a run after its step, with a checkpoint; nothing that was done is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from craft_trainer.runtime.interruption import Interrupted, Signals
from craft_trainer.training import trainer

STAGE = {"method": "lora", "steps": 5, "checkpoint_every": 100}
WEIGHTS = "pytorch_lora_weights.safetensors"


def signalling(number: int, at: int) -> Any:
    def progress(what: str, done: int, total: int) -> None:
        if what.endswith("steps") and done == at:
            os.kill(os.getpid(), number)

    return progress


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(
    settings: Any, tmp_path: Path, name: str
) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    config = settings(STAGE, {**STAGE, "steps": 1})
    with pytest.raises(Interrupted, match=f"ended by {name} after step 3") as caught:
        trainer.train_stages(config, progress=signalling(number, 3), cache="none")
    assert caught.value.exit_code == 128 + number
    saved = config.output / "1-lora" / "checkpoints" / "step-0000003.safetensors"
    assert saved.is_file()
    assert str(saved) in caught.value.fix
    assert signal.getsignal(number) is before
    resumed = trainer.train_stages(config, cache="none")
    whole = settings(STAGE, {**STAGE, "steps": 1}, output=str(tmp_path / "whole"))
    expected = trainer.train_stages(whole, cache="none")
    assert (resumed / WEIGHTS).read_bytes() == (expected / WEIGHTS).read_bytes()


def test_a_signal_in_the_last_step_finishes_the_stage_first(settings: Any) -> None:
    config = settings(STAGE, {**STAGE, "steps": 1})
    with pytest.raises(Interrupted, match="after step 5"):
        trainer.train_stages(config, progress=signalling(signal.SIGTERM, 5), cache="none")
    assert (config.output / "1-lora" / "artifact" / WEIGHTS).is_file()
    assert not (config.output / "2-lora").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_supervisor_may_ask_twice(settings: Any, name: str) -> None:
    number = getattr(signal, name)

    def twice(what: str, done: int, total: int) -> None:
        for _ in range(2):
            signalling(number, 2)(what, done, total)

    config = settings(STAGE)
    before = signal.signal(number, signal.SIG_IGN)  # or a second one would end the tests
    try:
        with Signals() as signals:
            for other in (number, signal.SIGTERM, signal.SIGUSR1):
                os.kill(os.getpid(), other)
                assert signal.getsignal(number) == signals._note
            assert signals.received == number
        with pytest.raises(Interrupted, match=f"ended by {name} after step 2"):
            trainer.train_stages(config, progress=twice, cache="none")
    finally:
        signal.signal(number, before)


def test_a_second_interrupt_does_what_it_always_does() -> None:
    # Not of every process: one that a shell started in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _interrupt_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_twice() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_minutes_make_checkpoints_too(settings: Any) -> None:
    config = settings({**STAGE, "checkpoint_minutes": 1e-9}, keep_checkpoints=9)
    trainer.train_stages(config, cache="none")
    assert len(list((config.output / "1-lora" / "checkpoints").iterdir())) == 5
