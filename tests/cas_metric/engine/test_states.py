"""Parts of images elsewhere: scored again when their container or file has changed."""

from __future__ import annotations

import os
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from tests.support.clinical_crops import Folders
from tests.support.containers import as_parquet, as_tar, as_zip, files_of, http_server

from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder
from cas_metric.engine.parts import here, part_out
from cas_metric.engine.ray_data import require_named
from cas_metric.engine.states import States
from cas_metric.errors import InputError
from cas_metric.manifest import as_manifest, read_manifest
from cas_metric.scoring.inputs import prepare


def _later(path: Path) -> None:
    os.utime(path, ns=(path.stat().st_mtime_ns + 10**9,) * 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gen").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "gen" / name).write_bytes(b"12345")
    (tmp_path / "gen" / "metadata.csv").write_text("file_name,label\n1.png,a\n2.png,a\n")
    return tmp_path / "gen"


@pytest.mark.parametrize("pack", [as_tar, as_zip, as_parquet])
def test_the_state_of_a_content_is_that_of_its_container(folder: Path, pack) -> None:
    place = pack(folder, folder.parent / f"set.{pack.__name__[3:]}")
    paths = read_manifest(place).paths()
    first = States().of(paths)
    assert "-" not in first
    assert States().of(paths) == first
    _later(place)
    assert not set(States().of(paths)) & set(first)


def test_the_state_of_a_remote_content(folder: Path) -> None:
    system = fsspec.filesystem("memory")
    for path in files_of(folder):
        system.pipe(f"/states/gen/{path.as_posix()}", (folder / path).read_bytes())
    first = States().of(read_manifest("memory://states/gen").paths())
    assert States().of(read_manifest("memory://states/gen").paths()) == first
    system.rm("/states/gen/1.png")
    system.pipe("/states/gen/1.png", b"54321")
    now = States().of(read_manifest("memory://states/gen").paths())
    assert (now[0] != first[0], now[1] == first[1]) == (True, True)
    system.rm("/states", recursive=True)


@pytest.mark.parametrize("source", ["folder", "tar", "table"])
def test_the_state_behind_a_server(folder: Path, source: str) -> None:
    place = as_tar(folder, folder.parent / "set.tar")
    with http_server(folder.parent) as url:
        frame = pd.DataFrame({"image": [f"{url}/gen/1.png?sig=1", f"{url}/gen/2.png?sig=1"]})
        given = {"folder": f"{url}/gen", "tar": f"{url}/set.tar", "table": frame}[source]
        paths, asked = as_manifest(given).paths(), States()
        first = asked.of(paths)
        assert "-" not in first
        assert States().of(paths) == first
        _later(place if source == "tar" else folder / "1.png")
        assert asked.of(paths) == first  # once a run
        assert States().of(paths)[0] != first[0]


def test_a_file_of_which_nothing_is_told_is_another_one_in_every_run(folder: Path) -> None:
    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Last-Modified":
                super().send_header(keyword, value)

    with http_server(folder.parent, Silent) as url:
        paths = as_manifest(pd.DataFrame({"image": [f"{url}/gen/1.png"]})).paths()
        run = States()
        assert run.of(paths) == run.of(paths) != States().of(paths)
    assert States().of(paths) == ["-"]


def test_parts_of_an_archive_that_changed_are_scored_again(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    place = as_tar(folders.generated, tmp_path / "gen.tar")

    def parted():
        inputs = prepare(
            read_manifest(place),
            read_manifest(folders.test),
            domain=load_domain(folders.domain),
            train=read_manifest(folders.train),
        )
        return part_out(inputs, lambda: siglip, cache, tmp_path, cache=str(cache.directory), size=6)

    first = parted()
    first.run(here)
    assert not parted().missing()
    _later(place)
    assert [part.number for part in parted().missing()] == [0, 1]
    with http_server(tmp_path) as url:
        names = sorted(folders.generated.rglob("*.png"))[:2]
        for name in names:
            (tmp_path / name.name).write_bytes(name.read_bytes())
        frame = pd.DataFrame({"image": [f"{url}/{name.name}?sig=1" for name in names]})
        table = first.parts[0].table.iloc[:2].assign(path=as_manifest(frame).paths())
        with pytest.raises(InputError, match="name alone") as caught:
            require_named(table["path"])
        assert "--engine" in caught.value.fix
        assert "sig" not in str(caught.value)
        require_named(first.parts[0].table["path"])
