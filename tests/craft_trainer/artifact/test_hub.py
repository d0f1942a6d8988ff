"""An artefact goes to the hub as it is; what would fail after a run fails before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalTokenNotFoundError
from typer.testing import CliRunner

from cas_metric.errors import InputError
from craft_trainer.artifact.hub import push_to_hub, require_login
from craft_trainer.cli.main import app
from craft_trainer.config.schema import to_yaml


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    class Api:
        def whoami(self) -> None:
            calls.append("whoami")

        def create_repo(self, name: str, **options: Any) -> str:
            calls.append((name, options))
            return f"https://hub/{name}"

        def upload_folder(self, **options: Any) -> None:
            options.pop("commit_message")
            calls.append((options, {file.name for file in options["folder_path"].iterdir()}))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return calls


def test_a_trained_artefact_is_pushed(settings: Any, tmp_path: Path, hub: list[Any]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(settings({"method": "lora", "steps": 1})))
    words = ["train", str(file), "--cache", "none", "--push-to-hub", "me/films"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "Pushed: https://hub/me/films" in done.stdout
    assert hub[:2] == ["whoami", ("me/films", {"private": True, "exist_ok": True})]
    sent, files = hub[2]
    assert sent["repo_id"] == "me/films"
    assert {"README.md", "config.yaml", "pytorch_lora_weights.safetensors"} <= files


def test_what_cannot_be_pushed_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Api:
        def whoami(self) -> None:
            raise LocalTokenNotFoundError("Token is required, but no token found.\nmore")

        create_repo = whoami

    with pytest.raises(InputError, match="'films' is no repository"):
        require_login("films")
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(InputError, match="me/films cannot be pushed to: Token is required") as told:
        require_login("me/films")
    assert "hf auth login" in told.value.fix
    monkeypatch.setattr(Api, "create_repo", lambda *_, **__: Api().whoami(), raising=False)
    with pytest.raises(InputError, match="cannot be pushed to"):
        push_to_hub(tmp_path, "me/films")
