"""Remote images: the same as local ones, one failure is one image's, and no secret is told."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.support.containers import as_parquet, as_tar, as_zip, files_of, http_server

from cas_metric.embedding.decoding import hash_files
from cas_metric.errors import ImageError, InputError, MissingDependency, PreflightError
from cas_metric.images import load_image, sha256_file
from cas_metric.manifest import as_manifest, read_manifest
from cas_metric.stores import links, located, remote, urls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    place = tmp_path / "gen"
    place.mkdir()
    for name in ("1.png", "2 é.png", "3.png"):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(place / name)
    (place / "metadata.csv").write_text("file_name,label\n1.png,a\n2 é.png,b\n3.png,a\n")
    return place


@pytest.fixture
def bucket(folder: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for path in files_of(folder):
        system.pipe(f"/bucket/gen/{path.as_posix()}", (folder / path).read_bytes())
    yield "memory://bucket/gen"
    system.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRIES", (0.0, 0.0))


class Odd(SimpleHTTPRequestHandler):
    """A server that answers by the name of what is asked for."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        Odd.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.endswith("denied.png"):
            self.send_error(403)
        elif path.endswith("elsewhere.png"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif path.endswith("broken.png") or (
            path.endswith("once.png") and Odd.asked.count(self.path) == 1
        ):
            self.send_error(503)
        elif path.endswith("short.png"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"abc")
        elif path.endswith("silent.png"):
            time.sleep(3)
        else:
            self.path = "/gen/1.png" if path.endswith("once.png") else self.path
            super().do_GET()


def test_a_store_is_read_as_the_folder(folder: Path, bucket: str) -> None:
    plain, far = read_manifest(folder), read_manifest(bucket)
    assert far.rows.equals(plain.rows)
    assert far.name == "gen"
    assert str(far.root) == bucket
    for here, there in zip(plain.paths(), far.paths(), strict=True):
        assert sha256_file(there) == sha256_file(here)
        assert str(there) == f"{bucket}/{here.name}"
    assert read_manifest(Path("memory:/bucket/gen")).rows.equals(
        plain.rows
    )  # as a command line has it
    assert read_manifest(f"{bucket}/metadata.csv").rows.equals(plain.rows)
    states = hash_files(far.paths(), 2)
    assert [one.digest.hex() for one in states] == [sha256_file(one) for one in plain.paths()]
    fsspec.filesystem("memory").rm("/bucket/gen/3.png")
    assert not read_manifest(bucket).path(2).is_file()  # a folder is listed anew


@pytest.mark.parametrize("kind", ["gen", "gen/metadata.csv", "gen.tar", "gen.zip", "gen.parquet"])
def test_a_server_without_ranges_is_read_as_the_folder(folder: Path, kind: str) -> None:
    pack = {"gen.tar": as_tar, "gen.zip": as_zip, "gen.parquet": as_parquet}.get(kind)
    if pack:
        pack(folder, folder.parent / kind)
    with http_server(folder.parent) as url:
        far = read_manifest(f"{url}/{kind}")
        plain = read_manifest(folder)
        assert far.rows.equals(plain.rows)
        assert far.name == "gen"
        for here, there in zip(plain.paths(), far.paths(), strict=True):
            assert sha256_file(there) == sha256_file(here)


def test_a_table_of_urls(folder: Path) -> None:
    with http_server(folder.parent, Odd) as url:
        names = [
            "gen/1.png",
            "gen/none.png",
            "denied.png",
            "elsewhere.png",
            "broken.png",
            "once.png",
        ]
        names.append("short.png")
        host = url.replace("http://", "http://me:word@")
        frame = pd.DataFrame({"path": [f"{host}/{name}?X-Amz-Signature=5ec2e7" for name in names]})
        manifest = as_manifest(frame)
        shown = [f"{url}/{name}" for name in names]
        assert manifest.rows["image"].tolist() == shown
        assert manifest.rows["id"].tolist() == [name.removesuffix(".png") for name in shown]
        states = hash_files(manifest.paths(), 2)
    assert all("X-Amz-Signature=5ec2e7" in path for path in Odd.asked)
    assert states[0].digest == states[5].digest != b""  # a passing failure has passed
    reasons = [
        "no such file", "permission denied (HTTP 403)",
        "the server sends on to an address that is not http", "the server answers HTTP 503",
    ]  # fmt: skip
    for state, name, reason in zip(states[1:5], shown[1:5], reasons, strict=True):
        assert state.error == f"{name}: {reason}"
    assert states[6].error.startswith(f"{shown[6]}: ")
    assert states[6].digest == b""


def test_a_server_that_says_nothing_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "TIMEOUT", 0.2)
    monkeypatch.setattr(remote, "RETRIES", ())
    urls.file_system.cache_clear()
    fsspec.filesystem("http").clear_instance_cache()
    with (
        http_server(folder.parent, Odd) as url,
        pytest.raises(ImageError, match=r"no answer within 0\.2 s"),
    ):
        load_image(as_manifest(pd.DataFrame({"image": [f"{url}/silent.png"]})).path(0))
    urls.file_system.cache_clear()


def test_no_secret_in_what_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    with http_server(folder.parent, Odd) as url:
        far = url.replace("http://", "http://me:word@")
        said = []
        for source in (f"{far}/none/gen.tar?sig=5ec2e7", f"{far}/none?sig=5ec2e7"):
            with pytest.raises(InputError) as caught:
                read_manifest(source)
            said.append(str(caught.value))
        path = located(f"{far}/gen/none.png?sig=5ec2e7")
        with pytest.raises(ImageError) as failed:
            load_image(path)
        said += [str(failed.value), str(path), repr(path), caplog.text, *capfd.readouterr()]
    for text in said:
        assert not {"word", "5ec2e7"} & set(re.findall(r"\w+", text)), text


def test_a_server_that_is_not_there_is_no_missing_file() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    told = FileNotFoundError("https://h/gen.tar")  # as fsspec raises it
    assert urls.cause_of(told) == "no such file"
    told.__cause__ = aiohttp.ClientConnectionError("Connection refused")
    assert urls.cause_of(told) == "Connection refused"
    told.__cause__ = aiohttp.ClientResponseError(None, (), status=404)  # type: ignore[arg-type]
    assert urls.cause_of(told) == "no such file"
    told.__cause__ = aiohttp.ClientResponseError(None, (), status=403)  # type: ignore[arg-type]
    assert urls.cause_of(told) == "permission denied (HTTP 403)"


def test_scrubbing() -> None:
    for text, clean in {
        "https://me:w@h/a.png?sig=1#x": "https://h/a.png",
        "https:/me:w@h/a.png?sig=1": "https:/h/a.png",
        "see s3://b/a.png, and (https://h/b?c=d).": "see s3://b/a.png, and (https://h/b).",
        "C:/a?b me@host a:b": "C:/a?b me@host a:b",
    }.items():
        assert urls.scrubbed(text) == clean
    names = links.shown_names(["https://h/a?n=1", "https://h/a?n=2", "https://h/b?n=1"])
    assert names[2] == "https://h/b"
    assert len(set(names)) == 3
    assert all(name.startswith("https://h/a#") for name in names[:2])


@pytest.mark.parametrize(
    "urls",
    [
        ["https://h/render?token=1", "https://h/render?token=2"],
        ["https://h/a?sig=1&n=1", "https://h/a?sig=2&n=1"],
        ["http://u:p@h/a@1/x.png", "http://u:p@h/b@1/x.png"],
    ],
)
def test_two_urls_of_a_table_never_share_a_name(urls: list[str]) -> None:
    assert len(set(links.shown_names(urls))) == 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///etc/passwd", "not read from file://"),
        ("ftp://h/a.png", "not read from ftp://"),
        ("zip://a.png::https://h/a.zip", "not read from zip://"),
        ("https://h/a.png::file:///etc", "chained URLs"),
        ("http://169.254.169.254/latest/meta-data", "own network"),
    ],
)
def test_what_a_table_may_not_name(url: str, told: str) -> None:
    with pytest.raises(PreflightError, match=told):
        as_manifest(pd.DataFrame({"image": [url]}))


def test_offline_refuses_what_is_remote(bucket: str) -> None:
    for source in ("https://h/gen", "s3://b/gen.tar", pd.DataFrame({"image": ["https://h/a.png"]})):
        with pytest.raises(InputError, match="is on the network, and --offline uses none"):
            as_manifest(source, offline=True)
    assert len(as_manifest(bucket, offline=True)) == 3


def test_a_package_that_is_lacking_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(urls.PROTOCOLS, "lakefs", ("lakefs", "lake"))  # type: ignore[misc]
    with pytest.raises(MissingDependency) as caught:
        urls.file_system("lakefs")
    assert caught.value.fix == "pip install 'cas-metric[lake]'"


def test_a_configuration_on_a_store(folder: Path, bucket: str) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/gen/cas.yaml", b"domain: chexpert\ntrain: ../train\n")
    config = read_manifest(bucket).config
    assert config is not None
    assert str(config.train) == "memory://bucket/train"
