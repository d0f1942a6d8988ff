"""What folders and tables are called where no name is given."""

from __future__ import annotations

import pytest

from cas_metric.verbs.inputs import named_path, path_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("gen", "gen"),
        ("gen/", "gen"),
        ("gen/inner/..", "gen"),
        ("sd2.1", "sd2.1"),
        ("sd2.1/metadata.csv", "sd2.1"),
        ("gen/table.v2.csv", "table.v2"),
        ("gen/METADATA.tsv", "gen"),
    ],
)
def test_names(tmp_path, monkeypatch, path, name):
    for folder in ("gen/inner", "sd2.1"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert path_name(tmp_path / path) == name
    assert named_path(path)[0] == name


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "gen" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "gen" / "inner")
    assert [named_path(path)[0] for path in (".", "..")] == ["inner", "gen"]
    assert named_path("x=..")[0] == "x"
