"""What is open already: the newest signature counts, and what a query chooses is told apart."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from PIL import Image
from tests.support.containers import as_tar, http_server

from cas_metric.errors import InputError
from cas_metric.files import place
from cas_metric.manifest import as_manifest, read_manifest
from cas_metric.stores import located


class Asked(SimpleHTTPRequestHandler):
    """Keeps what it was asked for, and answers by the name alone."""

    paths: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        Asked.paths.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Asked.paths.clear()
    with http_server(tmp_path, Asked) as url:
        yield url


def _links(*urls: str) -> list[str]:
    return as_manifest(pd.DataFrame({"image": list(urls)})).rows["image"].tolist()


def test_the_newest_signature_of_a_table_counts(server: str) -> None:
    url = f"{server}/a.png"
    for sign in ("old", "new"):
        assert _links(f"{url}?X-Amz-Signature={sign}") == [url]
    place(url).read_bytes()
    assert Asked.paths == ["/a.png?X-Amz-Signature=new"]
    _links(f"{url}?X-Amz-Signature=old")  # opened again, it is the newest
    place(url).read_bytes()
    assert Asked.paths[-1] == "/a.png?X-Amz-Signature=old"


def test_a_url_with_a_signature_of_its_own_is_taken_as_it_is(server: str) -> None:
    _links(f"{server}/a.png?sig=old")
    located(f"{server}/a.png?sig=new").read_bytes()
    assert Asked.paths == ["/a.png?sig=new"]


def test_two_tables_whose_urls_differ_in_the_query_alone_are_two(server: str) -> None:
    first, second = (_links(f"{server}/a.png?id={n}&sig={n}")[0] for n in (1, 2))
    assert first == f"{server}/a.png"
    assert second.startswith(f"{first}#")
    assert _links(f"{server}/a.png?id=1&sig=9") == [first]
    assert _links(f"{server}/a.png?id=2&sig=9") == [second]
    for name, asked in ((first, "1"), (second, "2")):
        place(name).read_bytes()
        assert Asked.paths[-1] == f"/a.png?id={asked}&sig=9"


def test_what_a_name_leads_to_in_another_process(tmp_path: Path, server: str) -> None:
    (tmp_path / "gen").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "gen" / "1.png")
    as_tar(tmp_path / "gen", tmp_path / "gen.tar")
    signed = as_manifest(pd.DataFrame({"image": [f"{server}/a.png?sig=1"]})).path(0)
    plain = as_manifest(pd.DataFrame({"image": [f"{server}/b.png"]})).path(0)
    assert (signed.is_named, plain.is_named) == (False, True)
    assert read_manifest(tmp_path / "gen.tar").path(0).is_named
    assert located(f"{server}/gen.tar").is_named
    assert not located(f"{server}/gen.tar?sig=1").is_named
    assert pickle.loads(pickle.dumps(signed)).read_bytes()


def test_offline_refuses_addresses_too(tmp_path: Path, server: str) -> None:
    (tmp_path / "gen").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "gen" / "1.png")
    as_tar(tmp_path / "gen", tmp_path / "gen.tar")
    link = as_manifest(pd.DataFrame({"image": [f"{server}/a.png?sig=1"]})).path(0)
    for address in (located(f"{server}/gen"), located(f"{server}/gen.tar"), link):
        with pytest.raises(InputError, match="is on the network, and --offline uses none"):
            place(address, offline=True)
    for address in (located(tmp_path / "gen.tar"), located("memory://bucket/gen")):
        assert place(address, offline=True) is address
