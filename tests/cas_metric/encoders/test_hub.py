"""The hub: reached, out of reach, gated, silent, interrupted. The hub here is a local server."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cas_metric.cli.main import main
from cas_metric.encoders import load_encoder
from cas_metric.encoders.hub import find_cached, missing_files, missing_from
from cas_metric.encoders.registry import list_encoders
from cas_metric.errors import ModelUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-siglip"


class Hub(BaseHTTPRequestHandler):
    """The three answers of the hub that a download needs: information, listing, files."""

    directory: Path
    gated = False
    requests: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        path = self.path.split("?")[0]
        if self.gated:
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            self._answer(200, json.dumps(self._listing()).encode())
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            names = [{"rfilename": entry["path"]} for entry in self._listing()]
            info = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": names}
            revision = path.partition("/revision/")[2]
            if revision in ("", "main", COMMIT):
                self._answer(200, json.dumps(info).encode())
            else:
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/{REPOSITORY}/resolve/"):
            content = (self.directory / path.rpartition("/")[2]).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._answer(200, content, headers)
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _listing(self) -> list[dict]:
        return [
            {
                "type": "file",
                "path": path.name,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for path in sorted(self.directory.iterdir())
        ]

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hub(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[Hub]]:
    """A hub with one repository, asked by this process in place of the real one."""
    directory = tmp_path / "repository"
    directory.mkdir()
    for path in models["siglip"].iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    (directory / "pytorch_model.bin").write_bytes(b"a pickle that nobody asked for")
    handler = type("Served", (Hub,), {"directory": directory, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    yield handler
    server.shutdown()
    server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_repository_is_fetched_once_and_without_its_pickle(
    hub: type[Hub], models: dict[str, Path]
) -> None:
    encoder = load_encoder(REPOSITORY, device="cpu")
    assert (encoder.name, encoder.revision) == (REPOSITORY, COMMIT)
    assert encoder.fingerprint == load_encoder(models["siglip"], device="cpu").fingerprint
    assert not any("pytorch_model.bin" in request for request in hub.requests)
    hub.requests.clear()
    assert load_encoder(REPOSITORY, device="cpu", offline=True).revision == COMMIT
    assert load_encoder(REPOSITORY, device="cpu", revision=COMMIT).revision == COMMIT
    assert hub.requests == []


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(
    hub: type[Hub], tmp_path: Path
) -> None:
    (hub.directory / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"lacks model\.safetensors; only safetensors"):
        load_encoder(REPOSITORY)
    assert not any("resolve" in request for request in hub.requests)
    assert files_below(tmp_path / "cache") == []


def test_a_gated_repository_says_where_to_accept_its_licence(
    hub: type[Hub], tmp_path: Path
) -> None:
    hub.gated = True
    with pytest.raises(ModelUnavailable, match="gated") as caught:
        load_encoder("medsiglip")
    for part in ("https://huggingface.co/google/medsiglip-448", "hf auth login", "--local-dir"):
        assert part in str(caught.value)
    assert files_below(tmp_path / "cache") == []


def test_a_revision_or_repository_that_does_not_exist_is_named(hub: type[Hub]) -> None:
    with pytest.raises(ModelUnavailable, match=r"no revision v9\n.*--revision main"):
        load_encoder(REPOSITORY, revision="v9")
    with pytest.raises(ModelUnavailable, match="no repository someone/else"):
        load_encoder("someone/else")


@pytest.mark.parametrize("by_variable", [False, True])
def test_offline_asks_nobody(
    by_variable: bool, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", by_variable)
    with pytest.raises(ModelUnavailable, match="the network is not to be used"):
        load_encoder(REPOSITORY, offline=not by_variable)
    assert hub.requests == []


def test_a_silent_hub_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cas_metric.encoders.hub.TIMEOUT", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)  # the system accepts connections, and nobody answers them
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path / "cache")
        with pytest.raises(ModelUnavailable, match="the hub did not answer"):
            load_encoder("dinov2")
    assert files_below(tmp_path / "cache") == []


def test_an_unreachable_hub_ends_the_command_with_4_and_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        use_hub(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path)
    monkeypatch.setattr(sys, "argv", ["cas", "encoders", "check", "siglip"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert ended.value.code == 4
    assert out == ""
    for part in (
        "google/siglip-so400m-patch14-384",
        "tried: the cache",
        "missing:",
        "hf download google/siglip-so400m-patch14-384 --revision 9fdffc58",
        "--local-dir",
        "HF_HUB_OFFLINE",
        "phantom-siglip",
    ):
        assert part in err
    assert files_below(tmp_path) == []


def test_an_interrupted_download_is_not_taken_for_a_model(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--tiny-siglip" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for path in sorted(models["siglip"].iterdir()):
        assert find_cached(REPOSITORY, COMMIT) is None
        assert missing_from(snapshot)
        (snapshot / path.name).write_bytes(path.read_bytes())
    found = find_cached(REPOSITORY, COMMIT)
    assert found is not None
    assert (found.directory, found.commit) == (snapshot, COMMIT)
    assert find_cached(REPOSITORY, "main") is None
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(COMMIT)
    assert find_cached(REPOSITORY, "main") == found


def test_what_a_listing_lacks() -> None:
    whole = ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert missing_files(whole) == []
    assert missing_files(whole[:2]) == ["model.safetensors"]
    assert missing_files(["pytorch_model.bin"]) == [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    ]
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    sharded = [*whole[:2], "model.safetensors.index.json"]
    assert missing_files([*sharded, *shards]) == []
    assert missing_files([*sharded, *shards[:2]]) == ["some shards of model.safetensors"]
    assert missing_files(["open_clip_config.json", "config.json"]) == [
        "open_clip_model.safetensors"
    ]
    assert missing_files(["open_clip_config.json", "open_clip_model.safetensors"]) == []
    both = [*whole, "open_clip_config.json"]
    assert missing_files(both) == []
    assert missing_files(both, openclip=True) == ["open_clip_model.safetensors"]


def test_no_alias_is_cached_in_an_empty_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    for info in list_encoders():
        assert info.embedded or find_cached(info.hub_id, info.revision) is None
