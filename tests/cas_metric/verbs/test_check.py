"""``cas_metric.verbs.check`` and the command line before it."""

import json

import pytest
from typer.testing import CliRunner

from cas_metric.cli import check as cli
from cas_metric.errors import InputError
from cas_metric.verbs.check import check


def test_a_document_in_memory_is_checked():
    rows = [{"label": "r", "formula": "percent", "inputs": ["3", "8"], "stated": "37.5"}]
    found = check({"title": "t", "tables": [{"kind": "derived", "name": "n", "rows": rows}]})
    assert found.summary["counts"]["holds"] == 1
    assert found.tables["findings"]["table"].tolist() == ["n"]
    with pytest.raises(InputError, match="no verdict is called good"):
        check("paper", show=["good"])


def test_the_schema_needs_no_table():
    result = CliRunner().invoke(cli.app, ["--schema"])
    assert result.exit_code == 0
    assert "tables" in json.loads(result.stdout)["properties"]
    missing = CliRunner().invoke(cli.app, [])
    assert missing.exit_code == 2
    assert "TABLE" in missing.output


def test_the_command_line_prints_what_the_verb_finds(tmp_path):
    result = CliRunner().invoke(cli.app, ["paper", "--show", "mismatch", "--out", str(tmp_path)])
    assert result.exit_code == 0
    written = json.loads((tmp_path / "check.json").read_text())
    assert written.pop("origin") == {"verb": "check", "paper": "True"}
    assert written == check("paper", show=["mismatch"]).summary
    assert len(written["findings"]) == written["counts"]["mismatch"]


def test_a_table_of_which_nothing_follows_says_so():
    row = {"method": "a", "vdc": "0.1"}
    table = {"kind": "scores", "name": "n", "dataset": "d", "rows": [row]}
    found = check({"title": "t", "tables": [table]})
    assert "Nothing in it can be recomputed" in found.text
    assert "Nothing" not in check("paper").text
