"""The seal: an alias is a matter of content, not of a folder's name or a commit's."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.tiny_models import build_siglip

from cas_metric import protocol
from cas_metric.encoders import family, identify, list_encoders, load_encoder, open_encoder
from cas_metric.encoders.family import Family

COMMIT = "9fdffc58afc957d1a03a25b10dba0329ab15c2a3"


def sealed(encoder: object) -> bool:
    conditions = protocol.Conditions(evaluator=identify(encoder).description)
    return protocol.version_of(conditions) == protocol.VERSION


@pytest.fixture
def genuine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model that this test publishes as the evaluator, digests and all."""
    directory = build_siglip(tmp_path / "published", seed=5)
    digests = tuple(
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(directory.iterdir())
    )

    def pinned(one: Family) -> Family:
        if one.name != "siglip":
            return one
        encoders = tuple(
            dataclasses.replace(info, sha256=digests) if info.alias == "siglip" else info
            for info in one.encoders
        )
        return dataclasses.replace(one, encoders=encoders)

    changed = tuple(map(pinned, family.own_families()))
    monkeypatch.setattr(family, "own_families", lambda: changed)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return directory


def in_the_cache(directory: Path, root: Path) -> None:
    """Lay a directory into the hub's cache as if it had been downloaded at the pinned commit."""
    snapshots = root / "hub" / "models--google--siglip-so400m-patch14-384" / "snapshots"
    shutil.copytree(directory, snapshots / COMMIT)


@pytest.mark.parametrize("load", [load_encoder, open_encoder])
def test_genuine_files_are_the_evaluator_wherever_they_lie(
    load, genuine: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(genuine, tmp_path / "copied by hand")
    (copied / "README.md").write_text("a note of mine")
    assert identify(load(copied, device="cpu")).status == "verified"
    assert sealed(load(copied, device="cpu"))
    in_the_cache(genuine, tmp_path)
    assert sealed(load("siglip", device="cpu", offline=True))


def test_a_random_model_in_a_folder_of_that_name_is_not(tmp_path: Path) -> None:
    for name in ("siglip", "siglip-so400m-patch14-384"):
        encoder = load_encoder(build_siglip(tmp_path / name), device="cpu")
        assert identify(encoder).status == "custom"
        assert not sealed(encoder)


def test_a_fake_snapshot_under_the_pinned_commit_is_not(genuine: Path, tmp_path: Path) -> None:
    in_the_cache(build_siglip(tmp_path / "fake", seed=6), tmp_path)
    encoder = load_encoder("siglip", device="cpu", offline=True)
    found = identify(encoder)
    assert encoder.revision == COMMIT
    assert found.status == "custom"
    assert "not the published files: model.safetensors" in found.reason
    assert not sealed(encoder)


@pytest.mark.parametrize("file", ["tokenizer.json", "preprocessor_config.json", "config.json"])
def test_one_changed_or_missing_file_is_enough(file: str, genuine: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(genuine, tmp_path / "siglip")
    (copied / file).write_text((copied / file).read_text() + "\n")
    assert not sealed(load_encoder(copied, device="cpu"))
    if file == "tokenizer.json":
        other = shutil.copytree(genuine, tmp_path / "more")
        (other / "added_tokens.json").write_text("{}")  # loading would read it
        assert not sealed(load_encoder(other, device="cpu"))


def test_a_revision_without_known_content_says_so() -> None:
    pinned = SimpleNamespace(
        name="google/medsiglip-448", revision="9cea28a1a1195f665105faa6e8544c112fd960a4", files={}
    )
    found = identify(pinned)
    assert (found.alias, found.status) == ("medsiglip", "unverified")
    assert found.description == "medsiglip (revision pinned, content unverified)"


def test_the_evaluator_is_pinned_file_by_file() -> None:
    (info,) = (info for info in list_encoders() if info.alias == protocol.EVALUATOR)
    digests = dict(info.sha256)
    assert {"model.safetensors", "config.json", "preprocessor_config.json"} <= digests.keys()
    assert {"spiece.model", "tokenizer.json", "tokenizer_config.json"} <= digests.keys()
    assert all(len(value) == 64 and int(value, 16) for value in digests.values())


def test_an_ordinary_encoder_goes_by_its_name() -> None:
    assert identify(load_encoder("phantom-siglip", device="cpu")).description == "phantom-siglip"
