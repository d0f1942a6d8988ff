"""Files that are there as a whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cas_metric import files
from cas_metric.errors import CasError


def test_a_writer_that_was_killed_leaves_the_old_file_and_the_next_one_clears_up(
    tmp_path: Path,
) -> None:
    target = tmp_path / "rows.csv"
    target.write_text("old")
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom cas_metric import files\n"
        "replace = Path.replace\n"
        "Path.replace = lambda *a: os.kill(os.getpid(), 9)\n"
        "files.write_bytes(Path(sys.argv[1]), b'new')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    files.write_bytes(target, b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert target.read_bytes() == b"newer"


def test_what_another_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    ours = files._stage(tmp_path / "rows.csv", b"half")
    assert str(os.getpid()) in ours.name
    files.write_bytes(tmp_path / "rows.csv", b"whole")
    assert ours.exists()


def test_nothing_is_replaced_or_removed_before_all_lies_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "old"):
        (tmp_path / name).write_text("before")
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    contents = {tmp_path / "a": b"after", tmp_path / "b": b"after"}
    with pytest.raises(CasError, match="No space left"):
        files.write_together(contents, obsolete=[tmp_path / "old"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("a", "b", "old"), "before"
    )
    monkeypatch.undo()
    files.write_together(contents, obsolete=[tmp_path / "old"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a": "after",
        "b": "after",
    }
