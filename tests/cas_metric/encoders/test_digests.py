"""The digest of a file: remembered for as long as nobody can have written to it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from cas_metric.encoders import memory
from cas_metric.encoders.memory import digest_file


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is remembered, written long enough ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "CHEAP_BYTES", 2)
    monkeypatch.setattr(memory, "_CLOCK_STEP_NS", 0)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    time.sleep(0.02)  # some steps of the file system's clock
    return file


def test_a_digest_is_remembered_and_not_taken_twice(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = digest_file(large)
    assert first == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("digested twice"))
        assert digest_file(large) == first
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: hashlib.sha256(b"read"))
        assert digest_file(large, verify=True) == hashlib.sha256(b"read").hexdigest()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_change_behind_the_time_stamps_is_seen(
    large: Path, replaced: bool, tmp_path: Path
) -> None:
    """Same path, size and modification time; another inode, or only another time of change."""
    digest_file(large)
    status = large.stat()
    if replaced:
        (tmp_path / "other").write_bytes(b"two")
        (tmp_path / "other").replace(large)
    else:
        large.write_bytes(b"two")
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest_file(large) == hashlib.sha256(b"two").hexdigest()


def test_what_was_written_a_moment_ago_is_not_believed(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one step of the clock two contents can have the same times."""
    monkeypatch.setattr(memory, "_CLOCK_STEP_NS", 10**12)
    digest_file(large)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: hashlib.sha256(b"read"))
    assert digest_file(large) == hashlib.sha256(b"read").hexdigest()


def test_small_files_are_read_each_time(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CHEAP_BYTES", 1000)
    digest_file(large)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: hashlib.sha256(b"read"))
    assert digest_file(large) == hashlib.sha256(b"read").hexdigest()


def test_a_damaged_memory_is_made_again(large: Path, tmp_path: Path) -> None:
    first = digest_file(large)
    (memory,) = (tmp_path / "cache" / "cas-metric" / "digests").iterdir()
    for content in ("damaged", "[]", '{"sha256": "short"}'):
        memory.write_text(content)
        assert digest_file(large) == first


@pytest.mark.parametrize("variables", [{"XDG_CACHE_HOME": "below"}, {"CAS_CACHE": "below"}, {}])
def test_a_cache_that_cannot_be_written_costs_only_time(
    variables: dict[str, str], large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "CAS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, below in variables.items():
        monkeypatch.setenv(name, str(large / below))

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert len(digest_file(large)) == 64
