"""Folders as they lie: manifests of several methods, linked classes, and what is not read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.images import Window
from cas_metric.manifest import pair, preflight, read_manifest
from cas_metric.scoring.inputs import select

PICTURE = Image.fromarray(np.zeros((16, 16, 3), np.uint8))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path, format="PNG")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# -- manifests below a folder ---------------------------------------------------------------------


@pytest.fixture
def methods(tmp_path):
    """Two methods of two seeds, each folder with its metadata and the same ids."""
    for method in ("blur", "craft"):
        for seed in (3, 11):
            folder = tmp_path / "gen" / method / f"seed-{seed}"
            for name in ("a", "b"):
                picture(folder / "images" / f"{name}.png")
            write(
                folder / "metadata.csv",
                "file_name,id,label\nimages/a.png,1,Edema\nimages/b.png,01,Edema\n",
            )
    return tmp_path / "gen"


def test_method_and_seed_come_from_the_folders(methods):
    manifest = read_manifest(methods)
    found = manifest.rows[["method", "seed", "id", "image"]].values.tolist()
    assert found == [
        [method, seed, key, f"{method}/seed-{seed}/images/{name}.png"]
        for method in ("blur", "craft")
        for seed in (11, 3)
        for key, name in (("1", "a"), ("01", "b"))
    ]
    assert all(path.is_file() for path in manifest.paths())
    assert "4 manifests below it are read as one" in manifest.notes[0]
    real = read_manifest(write(methods.parent / "r.csv", "id,image,label\n1,x,Edema\n01,y,Edema\n"))
    assert pair(manifest, real)["reference_image"].tolist() == ["x", "y"] * 4


def test_the_same_rows_as_one_table_of_all(methods):
    expected = read_manifest(methods).rows
    tables = []
    for path in sorted(methods.glob("*/*/metadata.csv")):
        part = path.parent.relative_to(methods)
        table = pd.read_csv(path, dtype=str)
        table["file_name"] = f"{part}/" + table["file_name"]
        tables.append(table.assign(method=part.parts[0], seed=part.parts[1][5:]))
    pd.concat(tables).to_csv(methods / "metadata.csv", index=False)
    pd.testing.assert_frame_equal(read_manifest(methods).rows, expected)


@pytest.mark.parametrize(
    ("part", "method", "seed"),
    [
        ("craft", "craft", None),
        ("seed-3", "", 3),
        ("seed_3", "", 3),
        ("Seed 3", "", 3),
        ("seed3", "", 3),
        ("craft-seed-3", "craft", 3),
        ("craft_v2_seed3", "craft_v2", 3),
        ("craft/seed=0", "craft", 0),
        ("seed-0/craft", "craft", 0),
        ("reseed3", "reseed3", None),
        ("craft seeds", "craft seeds", None),
    ],
)
def test_names_of_folders(tmp_path, part, method, seed):
    picture(tmp_path / part / "a.png")
    write(tmp_path / part / "metadata.jsonl", '{"image": "a.png"}\n')
    row = read_manifest(tmp_path).rows.iloc[0]
    assert (row["method"], None if pd.isna(row["seed"]) else row["seed"]) == (method, seed)
    assert (row["id"], row["image"]) == ("a", f"{part}/a.png")


def test_what_the_rows_say_comes_first(tmp_path):
    write(tmp_path / "x" / "seed-1" / "metadata.csv", "image,method,seed\na.png,own,\nb.png,,7\n")
    rows = read_manifest(tmp_path).rows
    assert rows[["method", "seed"]].values.tolist() == [["own", 1], ["x", 7]]


def test_columns_that_only_some_have(tmp_path):
    write(tmp_path / "x" / "metadata.csv", "image,label,age\na.png,L,70\n")
    write(tmp_path / "y" / "metadata.tsv", "file_name\tprompt\nb.png\tp, q\n")
    manifest = read_manifest(tmp_path)
    assert manifest.rows["label"].tolist() == ["L", ""]
    assert manifest.rows["prompt"].tolist() == ["", "p, q"]
    assert manifest.extra["age"].tolist() == ["70", ""]


def test_a_collection_keeps_its_paths_inside(tmp_path):
    secret = picture(tmp_path / "secret.png")
    gen = tmp_path / "gen"
    write(gen / "x" / "metadata.csv", f"image\n{secret}\n../../secret.png\n")
    with pytest.raises(InputError, match=r"x/metadata\.csv, line 2.*absolute") as caught:
        read_manifest(gen)
    assert "line 3" in str(caught.value)
    allowed = read_manifest(gen, allowed_roots=[tmp_path])
    assert [path.resolve() for path in allowed.paths()] == [secret, secret]


def test_splits_are_no_methods(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / split / "a.png")
    with pytest.raises(InputError, match="holds the splits test, train") as caught:
        read_manifest(tmp_path)  # as labels they would be wrong too
    assert str(tmp_path / "test") in caught.value.fix
    for split in ("train", "test"):
        write(tmp_path / split / "metadata.csv", "image\na.png\n")
    with pytest.raises(InputError, match="several sets of images") as caught:
        read_manifest(tmp_path)
    assert str(tmp_path / "test") in caught.value.fix


def test_folders_of_which_neither_is_clearly_the_method(tmp_path):
    write(tmp_path / "craft" / "chest" / "metadata.csv", "image\na.png\n")
    with pytest.raises(InputError, match="not clear what craft/chest names"):
        read_manifest(tmp_path)


def test_images_beside_the_manifests_are_told(tmp_path):
    write(tmp_path / "x" / "metadata.csv", "image\na.png\n")
    picture(tmp_path / "y" / "a.png")
    (note,) = [n for n in read_manifest(tmp_path).notes if "not listed" in n]
    assert "1 images are not listed in the metadata" in note
    assert "y/a.png" in note


def test_what_the_cas_yaml_of_all_agree_on(tmp_path):
    for name in ("x", "y"):
        write(tmp_path / name / "metadata.csv", "image\na.png\n")
        text = "domain: chexpert\ntrain: ../../train\nwindow: [0, 9]\nprovenance: {seed: 1}\n"
        write(tmp_path / name / "cas.yaml", text)
    config = read_manifest(tmp_path).config
    assert config is not None
    assert config.domain == "chexpert"
    assert config.train == tmp_path.parent / "train"
    assert read_manifest(tmp_path).window == Window(0, 9)
    write(tmp_path / "y" / "cas.yaml", "domain: origa\nwindow: [0, 9]\n")
    manifest = read_manifest(tmp_path)
    assert manifest.config is not None
    assert manifest.config.domain is None
    assert any("differ in domain" in note for note in manifest.notes)
    write(tmp_path / "y" / "cas.yaml", "window: [0, 8]\n")
    with pytest.raises(InputError, match="window holds for that folder alone"):
        read_manifest(tmp_path)
    write(tmp_path / "y" / "cas.yaml", "root: images\n")
    with pytest.raises(InputError, match=r"y/cas\.yaml"):
        read_manifest(tmp_path)


def test_seeds_of_images_without_metadata(tmp_path):
    for method in ("x", "y"):
        for seed in (0, 1):
            picture(tmp_path / method / f"seed-{seed}" / "Edema" / "a.png")
    manifest = read_manifest(tmp_path)
    columns = ["method", "seed", "label", "id"]
    assert manifest.rows[columns].values.tolist() == [
        [method, seed, "Edema", "Edema/a"] for method in ("x", "y") for seed in (0, 1)
    ]
    assert manifest.notes == (f"{tmp_path}: the folders name method and seed",)


def test_method_folders_without_metadata_are_explained(tmp_path):
    for method in ("blur", "craft"):
        picture(tmp_path / method / "a.png")
    manifest = read_manifest(tmp_path)
    told = preflight(manifest, manifest, load_domain("chexpert"))
    assert "METHOD/seed-0/" in told[0]


def test_a_folder_written_with_dots_gives_its_own_name(tmp_path):
    picture(tmp_path / "gen" / "a.png")
    (tmp_path / "gen" / "inner").mkdir()
    for path in (tmp_path / "gen", tmp_path / "gen" / "inner" / ".."):
        assert select(read_manifest(path), None, None).rows["method"].tolist() == ["gen"]


# -- images alone ---------------------------------------------------------------------------------


def test_linked_classes_are_counted_like_others(tmp_path):
    for label in ("A", "B", "C"):
        for number in range(5):
            picture(tmp_path / "store" / label / f"{number}.png")
    folder = tmp_path / "data"
    for label in ("A", "B"):
        shutil.copytree(tmp_path / "store" / label, folder / label)
    (folder / "C").symlink_to(tmp_path / "store" / "C")
    manifest = read_manifest(folder)
    assert manifest.rows["label"].value_counts().to_dict() == {"A": 5, "B": 5, "C": 5}
    refused = preflight(manifest, manifest, None)
    assert sum("C/0.png" in line and "leads out" in line for line in refused) == 2
    allowed = read_manifest(folder, allowed_roots=[tmp_path / "store"])
    assert preflight(allowed, allowed, None) == []


def test_links_that_go_round_end(tmp_path):
    picture(tmp_path / "data" / "A" / "a.png")
    (tmp_path / "data" / "A" / "again").symlink_to(tmp_path / "data" / "A")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data")
    assert read_manifest(tmp_path / "data").rows["image"].tolist() == ["A/a.png"]


def test_a_link_to_nothing_is_no_missing_row(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    manifest = read_manifest(tmp_path)
    assert len(manifest) == 2
    assert any("no such file" in line for line in preflight(manifest, manifest, None))


def test_what_is_not_read_is_listed(tmp_path):
    for name in ("A/a.png", "A/b.PNG", "A/c.jfif", "B/d.Jpg"):
        picture(tmp_path / name)
    for name in ("A/e.heic", "A/f.HEIC", "B/g.avif", "notes.txt", "B/IM0001"):
        write(tmp_path / name, "x")
    for name in (".DS_Store", "A/._a.png", "__MACOSX/A/a.png", "Thumbs.db"):
        write(tmp_path / name, "x")
    manifest = read_manifest(tmp_path)
    assert manifest.rows["image"].tolist() == ["A/a.png", "A/b.PNG", "A/c.jfif", "B/d.Jpg"]
    (note,) = manifest.notes
    assert note == (
        f"{tmp_path}: files that are not read: 2 of .heic (first: A/e.heic), 1 of no ending (first:"
        " B/IM0001), 1 of .avif (first: B/g.avif), 1 of .txt (first: notes.txt)"
    )
    shutil.rmtree(tmp_path / "A")
    (tmp_path / "B" / "d.Jpg").unlink()
    with pytest.raises(InputError, match=r"no images; files that are not read.*\.avif"):
        read_manifest(tmp_path)


def test_unreadable_pictures_beside_the_metadata_are_listed(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "b.heic", "x")
    write(tmp_path / "specs.jsonl", "{}")
    write(tmp_path / "metadata.csv", "image\na.png\n")
    assert read_manifest(tmp_path).notes == (
        f"{tmp_path}: files that are not read: 1 of .heic (first: b.heic)",
    )


# -- names and forms of the metadata --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.CSV", "file_name,label\na.png,x\n"),
        ("METADATA.csv", "file_name,label\na.png,x\n"),
        ("metadata.tsv", "file_name\tlabel\na.png\tx\n"),
        ("metadata.json", '[{"file_name": "a.png", "label": "x"}]'),
        ("metadata.JSONL", '{"file_name": "a.png", "label": "x"}\n'),
        ("labels.csv", "image,label\na.png,x\n"),
        ("Labels.TSV", "image\tlabel\na.png\tx\n"),
    ],
)
def test_metadata_by_other_names(tmp_path, name, text):
    picture(tmp_path / "a.png")
    write(tmp_path / name, text)
    manifest = read_manifest(tmp_path)
    assert manifest.rows[["image", "label"]].values.tolist() == [["a.png", "x"]]
    told = any("is read as the metadata" in note for note in manifest.notes)
    assert told == name.lower().startswith("labels")


def test_a_table_of_something_else_is_left_and_told(tmp_path):
    picture(tmp_path / "A" / "a.png")
    write(tmp_path / "labels.csv", "label,train,test\nA,1,0\n")
    manifest = read_manifest(tmp_path)
    assert manifest.rows["label"].tolist() == ["A"]
    assert "1 of .csv (first: labels.csv)" in manifest.notes[0]


def test_two_tables_in_any_case_are_refused(tmp_path):
    write(tmp_path / "metadata.csv", "image\na.png\n")
    write(tmp_path / "metadata.TSV", "image\na.png\n")
    with pytest.raises(InputError, match=r"both metadata\.TSV and metadata\.csv"):
        read_manifest(tmp_path)


# -- any tree -------------------------------------------------------------------------------------

PARTS = ("A", "B c", "seed-1", "craft-seed-2", "train", "Ä", ".hidden", "images")
FILES = ("a.png", "b.JPG", "c.heic", "d.txt", "metadata.csv", "labels.csv", "cas.yaml", "e.dcm")
TABLES = (
    "file_name,label\na.png,x\n",
    "image, id ,seed\nimages/a.png, 1,3\n../b.JPG,2,\n",
    "label,count\nx,3\n",
    "image\n",
    "file_name\tlabel\na.png\tx\n",
)


def grow(folder: Path, rng: np.random.Generator) -> None:
    """A random tree of folders, links, pictures and tables."""
    folders = [folder]
    for _ in range(rng.integers(1, 7)):
        parent = folders[rng.integers(len(folders))]
        child = parent / str(rng.choice(PARTS))
        if rng.random() < 0.1 and not child.exists():
            child.symlink_to(folders[rng.integers(len(folders))], target_is_directory=True)
        elif not child.exists():
            child.mkdir()
        if child.is_dir() and not child.is_symlink():
            folders.append(child)
    for _ in range(rng.integers(1, 10)):
        file = folders[rng.integers(len(folders))] / str(rng.choice(FILES))
        if file.suffix == ".csv":
            file.write_text(TABLES[rng.integers(len(TABLES))])
        else:
            file.write_text("domain: origa\n" if file.suffix == ".yaml" else "x")


@pytest.mark.parametrize("seed", range(300))
def test_any_tree_is_refused_with_words_or_read_whole(tmp_path, seed):
    grow(tmp_path, np.random.default_rng(seed))
    try:
        manifest = read_manifest(tmp_path)
    except InputError as error:
        told = str(error)
        assert {str(tmp_path) in told, "fix: " in told} == {True}  # both are right
        return
    listed = manifest.rows["image"].tolist()
    assert len(listed) == len(manifest) > 0
    visible = [
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(tmp_path).parts)
    ]
    pictures = {name for name in visible if name.lower().endswith((".png", ".jpg", ".dcm"))}
    told = " ".join(manifest.notes)
    assert pictures <= set(listed) or "are not listed" in told or "are not read" in told
    assert not any(name.endswith(".heic") for name in visible) or ".heic" in told
    for path in manifest.paths():
        assert path.resolve().is_relative_to(tmp_path.resolve())
