"""``cas domains`` as a user meets it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cas_metric.cli.domains import app
from cas_metric.domains import load_domain
from cas_metric.errors import InputError

runner = CliRunner()

FILLED = {
    "title: …": "title: Woven fabric",
    "modality: …": "modality: photograph of fabric",
    "source: …": "source: our quality manual",
    "license: …": "license: internal",
}


def fill_in(text: str) -> str:
    """The template with its gaps filled, as the tutorial tells a user to."""
    for gap, value in FILLED.items():
        text = text.replace(gap, value + " #", 1)
    for name in ("Intact", "Torn"):
        text = text.replace("name: …", f"name: {name}", 1)
    return text.replace(": …", ": even weave")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("CAS_DOMAINS", str(tmp_path / "packs"))


def test_list_names_every_shipped_pack():
    result = runner.invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    packs = {pack["name"]: pack for pack in json.loads(result.stdout)}
    assert packs["breakhis"]["classes"] == 8
    assert packs["breakhis"]["origin"] == "shipped"


def test_a_broken_pack_does_not_break_the_list(tmp_path):
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "torn.yaml").write_text("name: torn\n", encoding="utf-8")
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    assert "chexpert" in result.stdout
    assert "torn.yaml is no valid domain pack" in result.stderr


def test_show_gives_the_text_that_is_scored():
    result = runner.invoke(app, ["show", "origa", "--label", "glaucoma", "--json"])
    (shown,) = json.loads(result.stdout)["classes"]
    assert shown["checklist_text"] == load_domain("origa").checklist_text("Glaucoma")
    assert [pair[0] for pair in shown["checklist"]][:2] == ["Optic Disc", "Rim"]


def test_show_yaml_is_the_file(tmp_path):
    result = runner.invoke(app, ["show", "chexpert", "--yaml"])
    copy = tmp_path / "chexpert.yaml"
    copy.write_text(result.stdout, encoding="utf-8")
    assert load_domain(copy) == load_domain("chexpert")


def test_new_then_validate_then_fill_in(tmp_path):
    made = runner.invoke(app, ["new", "textile", "--out", str(tmp_path)])
    assert made.exit_code == 0
    path = tmp_path / "textile.yaml"
    assert made.stdout.strip() == str(path)

    unfinished = runner.invoke(app, ["validate", str(path)])
    assert unfinished.exit_code == 2
    assert "fill it in" in unfinished.stderr

    path.write_text(fill_in(path.read_text(encoding="utf-8")), encoding="utf-8")
    finished = runner.invoke(app, ["validate", str(path)])
    assert finished.exit_code == 0
    assert "valid, 2 classes" in finished.stdout
    assert load_domain(path).checklist_items("torn")[0] == "Location: even weave"


def test_user_packs_are_found_by_name(tmp_path):
    assert runner.invoke(app, ["new", "textile", "--user"]).exit_code == 0
    path = tmp_path / "packs" / "textile.yaml"
    path.write_text(fill_in(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert runner.invoke(app, ["show", "textile"]).exit_code == 0


def test_new_never_overwrites(tmp_path):
    arguments = ["new", "textile", "--out", str(tmp_path)]
    runner.invoke(app, arguments)
    result = runner.invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert "exists already" in str(result.exception)


def test_a_file_name_names_the_pack_before_its_ending(tmp_path):
    assert runner.invoke(app, ["new", "textile.yaml", "--out", str(tmp_path)]).exit_code == 0
    assert "\nname: textile\n" in (tmp_path / "textile.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "Textile", "../x", "-x", "a b"])
def test_new_refuses_names_that_no_command_could_use(tmp_path, name):
    result = runner.invoke(app, ["new", "--out", str(tmp_path), "--", name])
    assert isinstance(result.exception, InputError)
    assert list(tmp_path.iterdir()) == []


def test_validate_reports_each_file_as_json(tmp_path):
    result = runner.invoke(app, ["validate", "chexpert", str(tmp_path / "no.yaml"), "--json"])
    assert result.exit_code == 2
    good, bad = json.loads(result.stdout)
    assert good["valid"]
    assert not bad["valid"]
    assert "does not exist" in bad["problem"]
