"""``cas datasets split``: real folders as they lie, divided by a column of their own table."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from tests.support.real_data import real_data
from typer.testing import CliRunner

from cas_metric.cli.datasets import app
from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.manifest import preflight, read_manifest

SKIN = """name: skin
title: Dermoscopic photographs
modality: dermoscopic photograph
classes:
  - name: Melanoma
    checklist: {Color: several colours}
  - name: Nevus
    checklist: {Color: one even brown}
  - name: Seborrheic Keratosis
    synonyms: [keratosis]
    checklist: {Texture: waxy}
"""

CHEST = """name: chest
title: Paediatric chest films
modality: chest radiograph
classes:
  - name: Normal
    checklist: {Lungs: clear}
  - name: Pneumonia
    checklist: {Lungs: patches of opacity}
"""


def run(*words: object) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["split", *map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_isic_as_it_lies(tmp_path: Path) -> None:
    source = real_data("isic2017")
    before = hashlib.sha256((source / "metadata.csv").read_bytes()).hexdigest()
    domain = tmp_path / "skin.yaml"
    domain.write_text(SKIN)
    found = run(source, "--by", "split", "--domain", domain, "--out", tmp_path / "out")
    assert {name: view["images"] for name, view in found.items()} == {
        "train": 2000,
        "validation": 150,
    }
    train, validation = (read_manifest(tmp_path / "out" / name) for name in found)
    table = pd.read_csv(source / "metadata.csv", dtype=str, keep_default_na=False)
    for name, manifest in (("train", train), ("validation", validation)):
        expected = table[table["split"] == name].reset_index(drop=True)
        assert manifest.rows["id"].tolist() == expected["id"].tolist()
        assert manifest.rows["label"].tolist() == expected["label"].tolist()
        pd.testing.assert_frame_equal(
            manifest.extra.astype(str), expected[["split", "age", "sex"]].astype(str)
        )
        assert manifest.paths()[0].is_relative_to(source)
    total = Counter(train.rows["label"]) + Counter(validation.rows["label"])
    assert total == {"Melanoma": 404, "Nevus": 1450, "Seborrheic Keratosis": 296}
    assert validation.config is not None
    assert validation.config.train == tmp_path / "out" / "train"
    assert validation.config.split == "validation"
    assert validation.config.domain is not None
    assert preflight(validation, validation, load_domain(validation.config.domain)) == []
    assert train.config is not None
    assert train.config.train is None
    assert sorted(p.name for p in (tmp_path / "out" / "train").iterdir()) == [
        "cas.yaml",
        "metadata.csv",
    ]
    assert hashlib.sha256((source / "metadata.csv").read_bytes()).hexdigest() == before


def test_chest_films_as_they_lie(tmp_path: Path) -> None:
    (tmp_path / "chest.yaml").write_text(CHEST)
    manifest = read_manifest(real_data("kermany_cxr"))
    assert Counter(manifest.rows["label"]) == {"Normal": 234, "Pneumonia": 390}
    assert preflight(manifest, manifest, load_domain(tmp_path / "chest.yaml")) == []
    assert manifest.notes == ()
    assert not len(manifest.extra.columns)


def table(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "metadata.csv"
    path.write_text(text)
    return folder


def test_values_become_folders(tmp_path: Path) -> None:
    text = "image,label,fold,age\na.png,x,fold 1,1\nb.png,y,Training,2\nc.png,x,fold 1,3\n"
    source = table(tmp_path / "data", text)
    (source / "cas.yaml").write_text("domain: origa\nwindow: [0, 9]\nprovenance: {by: me}\n")
    found = run(source, "--by", "fold", "--out", tmp_path / "out")
    assert list(found) == ["Training", "fold 1"]
    config = read_manifest(tmp_path / "out" / "fold 1").config
    assert config is not None
    assert (config.domain, config.window, config.split) == ("origa", (0, 9), "fold 1")
    assert config.train == tmp_path / "out" / "Training"
    assert config.provenance == {"by": "fold", "of": str(source)}
    again = run(source, "--by", "fold", "--out", tmp_path / "out", "--train", "fold 1")
    assert again == found
    config = read_manifest(tmp_path / "out" / "fold 1").config
    assert config is not None
    assert config.train is None


def test_usual_columns_divide_too(tmp_path: Path) -> None:
    source = table(tmp_path / "data", "image,patient,label\na.png,p1,x\nb.png,p2,x\n")
    assert list(run(source, "--by", "patient", "--out", tmp_path / "out")) == ["p1", "p2"]


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        (["a", "b"], ["--by", "fold"], "no column 'fold'"),
        (["a", ""], [], "1 rows have no 'split'"),
        (["a", "../b"], [], "'../b' in 'split' cannot name a folder"),
        (["a", ".hidden"], [], "cannot name a folder"),
        (["a", "b."], [], "cannot name a folder"),
        (["test", "Test"], [], "differ in case only"),
        (["a", "b"], ["--train", "train"], "no row has 'train'"),
        (["a", "b"], ["--domain", "nowhere"], "no domain called 'nowhere'"),
    ],
)
def test_what_cannot_be_divided(
    tmp_path: Path, values: list[str], options: list[str], told: str
) -> None:
    rows = "".join(f"{k}.png,{value}\n" for k, value in enumerate(values))
    source = table(tmp_path / "data", f"image,split\n{rows}")
    words = ["split", str(source), "--by", "split", *options, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InputError)
    assert told in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_link_into_a_store_needs_the_option_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "a.png").write_bytes(b"x")
    source = table(tmp_path / "data", f"image,split\n{store}/a.png,test\n")
    words = ["split", str(source), "--by", "split", "--out", str(tmp_path / "out")]
    assert "--allow-root" in str(CliRunner().invoke(app, words).exception)
    run(source, "--by", "split", "--out", tmp_path / "out", "--allow-root", store)
    with pytest.raises(InputError, match="absolute"):
        read_manifest(tmp_path / "out" / "test")
    assert read_manifest(tmp_path / "out" / "test", allowed_roots=[store]).path(0).is_file()
