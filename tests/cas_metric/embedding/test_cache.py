"""The store keeps what was committed, whatever happens to the processes that use it."""

import errno
import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas_metric.embedding import cache as cache_module
from cas_metric.embedding.cache import (
    STORE,
    EmbeddingCache,
    Entry,
    key,
    text_key,
)
from cas_metric.errors import CasError, InputError
from cas_metric.files import cache_directory

DIM = 16


def _key(number: int) -> bytes:
    return key(hashlib.sha256(str(number).encode()).digest(), "encoder", "image")


def _vector(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=DIM).astype(np.float32)


def _fill(directory: Path, numbers: range) -> None:
    with EmbeddingCache(directory) as cache:
        for number in numbers:
            cache.put_many([(_key(number), Entry(_vector(number)))])


def test_what_was_put_comes_back_bit_by_bit(tmp_path: Path) -> None:
    special = np.array([0.0, -0.0, np.nan, np.inf, 1e-45], dtype=np.float32)
    with EmbeddingCache(tmp_path) as cache:
        cache.put_many([(_key(0), Entry(special)), (_key(1), Entry(_vector(1), 70, True))])
    with EmbeddingCache(tmp_path) as cache:
        first, nothing, second = cache.get_many([_key(0), _key(5), _key(1)])
        assert cache.missing([_key(0), _key(5)]) == [False, True]
        assert len(cache) == 2
    assert first is not None
    assert first.vector.tobytes() == special.tobytes()
    assert nothing is None
    assert second is not None
    assert (second.tokens, second.truncated) == (70, True)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.text(), st.text(), st.sampled_from(["image", "text"])), unique=True))
def test_keys_differ_where_content_encoder_or_kind_do(parts: list[tuple]) -> None:
    keys = {key(hashlib.sha256(t.encode()).digest(), f, kind) for t, f, kind in parts}
    assert len(keys) == len(parts)


def test_a_text_and_an_image_of_the_same_bytes_are_different_things() -> None:
    assert text_key("a", "e") != key(hashlib.sha256(b"a").digest(), "e", "image")


def test_an_existing_entry_is_left_alone(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path) as cache:
        cache.put_many([(_key(0), Entry(_vector(1)))])
        cache.put_many([(_key(0), Entry(_vector(2)))])
        (entry,) = cache.get_many([_key(0)])
    np.testing.assert_array_equal(entry.vector, _vector(1))


def test_the_map_grows_also_under_another_open_process(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cache_module, "_FIRST_MAP", 1 << 16)
    grow = multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path, range(500)))
    grow.start()
    grow.join()
    assert grow.exitcode == 0
    with EmbeddingCache(tmp_path) as cache:
        grow = multiprocessing.get_context("spawn").Process(
            target=_fill, args=(tmp_path, range(500, 2000))
        )
        grow.start()
        grow.join()
        assert grow.exitcode == 0
        entries = cache.get_many([_key(number) for number in range(2000)])
    for number in (0, 499, 500, 1999):
        np.testing.assert_array_equal(entries[number].vector, _vector(number))


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ranges = [range(0, 300), range(200, 500)]
    writers = [context.Process(target=_fill, args=(tmp_path, numbers)) for numbers in ranges]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with EmbeddingCache(tmp_path) as cache:
        assert len(cache) == 500
        entries = cache.get_many([_key(number) for number in range(500)])
    for number, entry in enumerate(entries):
        np.testing.assert_array_equal(entry.vector, _vector(number))


def test_a_killed_writer_leaves_what_it_committed_and_no_lock(tmp_path: Path) -> None:
    script = f"""
import os
from tests.cas_metric.embedding.test_cache import _key, _vector
from cas_metric.embedding.cache import EmbeddingCache, Entry
cache = EmbeddingCache({str(tmp_path)!r})
cache.put_many([(_key(0), Entry(_vector(0)))])
with cache._env.begin(write=True) as transaction:
    transaction.put(_key(1), b"half")
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path.cwd(), check=False)
    assert killed.returncode == -signal.SIGKILL
    with EmbeddingCache(tmp_path) as cache:
        assert cache.missing([_key(0), _key(1)]) == [False, True]
        cache.put_many([(_key(1), Entry(_vector(1)))])


@pytest.mark.parametrize("damage", ["header", "garbage", "cut", "entry"])
def test_a_damaged_store_says_what_to_delete(tmp_path: Path, damage: str) -> None:
    _fill(tmp_path, range(400))
    data = tmp_path / STORE / "data.mdb"
    content = bytearray(data.read_bytes())
    if damage == "header":
        content[:8192] = bytes(8192)
    elif damage == "garbage":
        content = bytearray(os.urandom(50_000))
    elif damage == "cut":
        content = content[: len(content) // 2]
    else:
        at = content.rindex(_vector(7).tobytes())
        content[at + 5] ^= 1
    data.write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught, EmbeddingCache(tmp_path) as cache:
        cache.get_many([_key(number) for number in range(400)])
    assert f"delete the directory {tmp_path / STORE}" in caught.value.fix


def _fill_with_little_space(directory: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        _fill(directory, range(5000))
    except CasError as error:
        os._exit(7 if "--cache" in error.fix else 8)
    os._exit(9)


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_stored(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(
        target=_fill_with_little_space, args=(tmp_path,)
    )
    writer.start()
    writer.join()
    assert writer.exitcode == 7
    with EmbeddingCache(tmp_path) as cache:
        assert len(cache) > 100
        np.testing.assert_array_equal(cache.get_many([_key(0)])[0].vector, _vector(0))


def test_no_space_left_is_named(tmp_path: Path, monkeypatch) -> None:
    with EmbeddingCache(tmp_path) as cache:

        def full(**_: object) -> None:
            raise lmdb.DiskError("no space")

        monkeypatch.setattr(cache, "_begin", full)
        with pytest.raises(CasError, match="no space left") as caught:
            cache.put_many([(_key(0), Entry(_vector(0)))])
    assert "is kept" in caught.value.fix


def test_a_page_that_was_written_in_part_is_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    with EmbeddingCache(tmp_path) as cache:

        def full(**_: object) -> None:
            raise lmdb.Error("mdb_txn_commit: Input/output error")

        monkeypatch.setattr(cache, "_begin", full)
        with pytest.raises(InputError, match="cannot be used: mdb_txn_commit"):
            cache.put_many([(_key(0), Entry(_vector(0)))])
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(CasError, match="no space left"):
            cache.put_many([(_key(0), Entry(_vector(0)))])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room")
def test_locks_on_a_full_disk_do_not_kill_the_process(tmp_path: Path, monkeypatch) -> None:
    """LMDB maps its lock file: a hole that cannot be filled ends in SIGBUS."""
    with EmbeddingCache(tmp_path / "room") as cache:
        locks = (cache.path / "lock.mdb").stat()
        assert locks.st_blocks * 512 >= 64 << 10

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CasError, match="no space left"):
        EmbeddingCache(tmp_path / "full")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room")
def test_a_file_system_that_reserves_no_room_is_used_all_the_same(tmp_path, monkeypatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with EmbeddingCache(tmp_path) as cache:
        cache.put_many([(_key(0), Entry(_vector(0)))])
        assert cache.get_many([_key(0)])[0] is not None


def test_a_directory_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        EmbeddingCache(tmp_path / "file")


def test_none_is_temporary() -> None:
    with EmbeddingCache("none") as cache:
        cache.put_many([(_key(0), Entry(_vector(0)))])
        directory = cache.directory
        assert directory.is_dir()
    assert not directory.exists()


def test_default_directory(monkeypatch) -> None:
    monkeypatch.delenv("CAS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/cas-metric")
    monkeypatch.setenv("CAS_CACHE", "/mine")
    assert cache_directory() == Path("/mine")
