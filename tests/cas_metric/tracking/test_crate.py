"""A run as an RO-Crate: every file described as it is, no path of the user's disk.

What the specifications require was checked with rocrate-validator 0.13, profiles ro-crate-1.1 and
process-run-crate-0.5, and with mlcroissant 1.1, which also read the records: no error.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import pandas as pd
from tests.support.clinical_crops import Folders, cas


def test_every_file_is_described_as_it_is(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    done = cas(
        "score", folders.generated, folders.test, "--encoder", siglip_directory,
        "--out", tmp_path / "run", "--cache", tmp_path / "cache", "--crate",
    )  # fmt: skip
    assert done.code == 0, done.err
    text = (tmp_path / "run" / "ro-crate-metadata.json").read_text()
    graph = {one["@id"]: one for one in json.loads(text)["@graph"]}
    root, action = graph["./"], graph["#scoring"]
    described = {one["@id"] for one in root["hasPart"]}
    there = {path.name for path in (tmp_path / "run").iterdir()} - {"ro-crate-metadata.json"}
    assert described == there == {one["@id"] for one in action["result"]}
    for name in there:
        content = (tmp_path / "run" / name).read_bytes()
        assert graph[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert graph[name]["contentSize"] == str(len(content))
    named = [one["@id"] for one in (*action["object"], action["instrument"], root["mentions"])]
    assert set(named) <= set(graph)
    assert {"#generated", "#real", "#train"} <= set(named)
    rows = pd.read_csv(tmp_path / "run" / "per_image.csv")
    croissant = json.loads((tmp_path / "run" / "croissant.json").read_text())
    (records,), (table,) = croissant["recordSet"], croissant["distribution"]
    kinds = {one["source"]["extract"]["column"]: one["dataType"] for one in records["field"]}
    assert list(kinds) == list(rows)
    assert (kinds["id"], kinds["cas"], kinds["prompt_truncated"]) == (
        "sc:Text", "sc:Float", "sc:Boolean",
    )  # fmt: skip
    assert table["sha256"] == graph["per_image.csv"]["sha256"]
    datetime.date.fromisoformat(root["datePublished"])
    for told in (text, (tmp_path / "run" / "croissant.json").read_text()):
        assert str(folders.root) not in told
        assert str(tmp_path) not in told
    assert graph["ro-crate-metadata.json"]["conformsTo"]["@id"].endswith("/crate/1.1")
