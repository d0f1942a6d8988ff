"""Metadata services are not asked, however their address is spelt and whatever leads to it."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from tests.support.containers import http_server

from cas_metric.embedding.decoding import hash_files
from cas_metric.errors import PreflightError
from cas_metric.manifest import as_manifest
from cas_metric.stores import hosts, located, remote, urls

SAID = "an address of the machine's own network"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "RETRIES", (0.0, 0.0))


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518"),
        *("169.254.169.254.", "169.254.170.2", "100.100.100.200", "192.0.0.192"),
        *("metadata", "METADATA."),
        *("[fe80::1]", "[fe80::1%25eth0]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"),
        *("[fd00:ec2::254]", "metadata.google.internal."),
    ],
)  # fmt: skip
def test_a_table_names_no_metadata_service(host: str) -> None:
    with pytest.raises(PreflightError, match="own network"):
        as_manifest(pd.DataFrame({"image": [f"http://{host}/latest/meta-data"]}))


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "localhost", "100.100.100.201", "[::1]"])
def test_other_hosts_of_a_network_are_read(host: str) -> None:
    assert not hosts.is_own(host)
    assert not urls.problem(f"http://{host}:8080/a.png")


class Elsewhere(BaseHTTPRequestHandler):
    """Sends on to what follows the first slash."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://{unquote(self.path[1:])}")
        self.end_headers()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that are a metadata service's, as a resolver under foreign control has it."""
    plain, asked = socket.getaddrinfo, []

    def resolve(host: str, port: int, *rest: object, **more: object) -> list[object]:
        if host == "images.example":
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]
        return plain(host, port, *rest, **more)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_that_leads_there_is_refused_when_it_is_connected(refusing: list[str]) -> None:
    (state,) = hash_files([located("http://images.example/a.png")], 1)
    assert refusing == ["images.example"]
    assert state.error == f"http://images.example/a.png: {SAID}"


@pytest.mark.parametrize(
    "target", ["169.254.169.254/a.png", "[fe80::1]/a.png", "images.example/a.png", "metadata/a"]
)
def test_a_redirect_that_leads_there_is_not_followed(
    tmp_path: Path, refusing: list[str], target: str
) -> None:
    handler = type("Quiet", (Elsewhere,), {"__init__": lambda self, *a, directory, **k: (
        Elsewhere.__init__(self, *a, **k))})  # fmt: skip
    with http_server(tmp_path, handler) as url:  # type: ignore[arg-type]
        (state,) = hash_files([located(f"{url}/{target}")], 1)
    assert state.error.endswith(SAID)


def test_a_proxy_is_not_asked_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http_server(tmp_path) as url:
        monkeypatch.setenv("http_proxy", url)
        (state,) = hash_files([located("http://169.254.169.254/a.png")], 1)
    assert state.error == f"http://169.254.169.254/a.png: {SAID}"
