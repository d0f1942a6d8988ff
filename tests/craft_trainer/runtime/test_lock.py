"""A folder that is continued belongs to one process at a time, and to nobody once that is dead."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cas_metric.errors import InputError
from craft_trainer.runtime import lock
from craft_trainer.runtime.lock import alone_in
from craft_trainer.training import trainer

_HOLD = """
import sys, time
from pathlib import Path
from craft_trainer.runtime.lock import alone_in

with alone_in(Path(sys.argv[1]), "--out"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_held_until_its_process_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            told = f"writing into {folder}\n  fix: .* with --out"
            with pytest.raises(InputError, match=told), alone_in(folder, "--out"):
                pytest.fail("two processes hold it")
        finally:
            other.send_signal(signal.SIGKILL)
    for _ in range(2):  # whoever held it last may hold it again
        with alone_in(folder, "--out"):
            pass


def test_a_second_training_in_one_output_is_refused(settings: Any, tmp_path: Path) -> None:
    config = settings({"method": "zero_shot"})
    with alone_in(config.output, "--out"):
        with pytest.raises(InputError, match=r"(?s)is writing into .*run.*`output`"):
            trainer.train_stages(config, cache="none")
        assert not list(config.output.glob("1-*"))
    assert trainer.train_stages(config, cache="none").is_dir()
    assert trainer.train_stages(config, cache="none").is_dir()  # a finished one


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(file: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", refused)
    with alone_in(tmp_path, "--out"):
        assert "start no second process" in caplog.text
