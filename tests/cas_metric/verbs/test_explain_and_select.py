"""``cas explain`` and ``cas select`` on a run of phantoms, from the command line on."""

import contextlib
import json
import shutil
import zipfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import cas_metric
from cas_metric.cli import explain, select
from cas_metric.domains import load_domain
from cas_metric.errors import CasError, InputError
from cas_metric.explanation.overlay import seen_part
from cas_metric.images import load_image
from cas_metric.manifest.sources import as_manifest
from cas_metric.mllm.sources import read_images
from cas_metric.page.pair import Pairs
from cas_metric.phantoms.dataset import write_generated_set, write_phantom_dataset
from cas_metric.runs.run import Run
from cas_metric.selection.files import bring, require_linkable
from cas_metric.stores import located


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    real = write_phantom_dataset(
        "chexpert", root / "real", train=40, test=40, seed=91, balanced=True
    )["test"]
    made = write_generated_set("chexpert", real, root / "made", kind="wrong")
    # One image is there twice, and one cannot be read.
    images = sorted((made / "images").iterdir())
    shutil.copyfile(images[1], images[2])
    images[0].write_bytes(b"no image")
    cas_metric.score(made, real, cache=root / "cache", out=root / "run")
    return root


def invoke(app, *arguments):
    found = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert found.exit_code in (0, 3), found.output
    return found


def test_explanations_enter_the_report_until_the_rows_change(world):
    before = (world / "run/report.html").read_text()
    told = json.loads(
        invoke(
            explain.app, world / "run", "--count", 2, "--cache", world / "cache", "--json"
        ).stdout
    )
    assert len(told["images"]) == 2
    worst = pd.read_parquet(world / "run/per_image.parquet").nsmallest(2, "cas")
    assert [one["id"] for one in told["images"]] == list(worst["id"])
    for one in told["images"]:
        for attribute in one["attributes"]:
            with Image.open(world / "run" / attribute["map"]) as drawn:
                assert drawn.size == (64, 64)
    table = pd.read_csv(world / "run/explanation.csv")
    assert set(table["attribute"]) == {"Location", "Lesion Type", "Shape/Size", "Color", "Texture"}
    assert (table.sort_values(["id", "place"]).groupby("id")["beyond"].diff().dropna() >= 0).all()
    after = (world / "run/report.html").read_text()
    assert "lowest against real images" in after
    assert "lowest against real images" not in before
    assert "seen as" in before
    text = (world / "run/explanation.json").read_text().replace(told["rows"], "0" * 64)
    (world / "run/explanation.json").write_text(text)
    assert "lowest against real" not in cas_metric.Run.load(world / "run").to_html()


def test_images_of_one_case_and_several_seeds_have_attributes_of_their_own(world, tmp_path):
    usual = sorted((world / "made/images").iterdir())[1:4]
    table = pd.read_csv(world / "made/metadata.csv").set_index("file_name")
    one = table.loc[[f"images/{usual[0].name}"] * 2].assign(seed=[1, 2])
    one["image"] = [str(path) for path in (usual[0], usual[2])]
    run = cas_metric.score(one.reset_index(drop=True), world / "real/test", cache=world / "cache")
    told = cas_metric.explain(run, maps=False, cache=world / "cache").summary["images"]
    assert sorted(image["seed"] for image in told) == [1, 2]
    assert told[0]["attributes"][0]["deviation"] != told[1]["attributes"][0]["deviation"]


def test_what_cannot_be_explained_is_refused(world):
    options = {"cache": world / "cache", "maps": False}
    with pytest.raises(InputError, match="no image 'nobody'"):
        cas_metric.explain(world / "run", images=["nobody"], **options)
    with pytest.raises(InputError, match="not the encoder that the run was scored by"):
        cas_metric.explain(world / "run", encoder="phantom-metaclip", **options)


@pytest.mark.parametrize(("height", "width"), [(320, 320), (320, 480), (480, 320)])
def test_maps_lie_on_the_part_of_the_picture_that_the_model_sees(height, width):
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    picture = noise.resize((width, height), Image.Resampling.BICUBIC)
    scale = 80 / min(height, width)
    small = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (small.width - 56) // 2, (small.height - 56) // 2
    expected = np.asarray(small.crop((left, top, left + 56, top + 56)), dtype=float)
    crop = SimpleNamespace(geometry="crop", size=56, shortest_side=80)
    seen = Image.fromarray(seen_part(np.asarray(picture), crop)).resize((56, 56))
    assert np.abs(np.asarray(seen, dtype=float) - expected).mean() < 4
    whole = SimpleNamespace(geometry="squash", size=56, shortest_side=56)
    assert seen_part(np.asarray(picture), whole).shape == (height, width, 3)


def test_selected_images_are_a_manifest_that_verbs_read(world, tmp_path):
    out = tmp_path / "chosen"
    arguments = [world / "run", "--out", out, "--keep", "top:0.5", "--files", "copy"]
    invoke(select.app, *arguments, "--cache", world / "cache")
    table = pd.read_csv(out / "selection.csv", keep_default_na=False)
    assert len(table) == 40
    assert (table["kept"] == (table["reason"] == "")).all()
    reasons = table.set_index("id")["reason"]
    assert reasons.str.contains("could not be scored").sum() == 1
    assert reasons.str.startswith("the same file as").sum() == 1
    kept = as_manifest(out)
    assert list(kept.rows["id"]) == list(table[table["kept"]]["id"])
    assert all(path.is_file() and out in path.parents for path in kept.paths())
    told = json.loads((out / "selection.json").read_text())
    assert told["diversity"]["after"] > 1
    again = cas_metric.select(world / "run", keep=["top:0.5"], diversity=False)
    assert list(again.tables["selection"]["kept"]) == list(table["kept"])


def test_without_files_the_manifest_names_them_where_they_are(world, tmp_path):
    found = cas_metric.select(world / "run", keep=["top:0.5"], diversity=False)
    kept = as_manifest(found.save(tmp_path / "names"))
    assert kept.paths()[0].parent == world / "made/images"


@pytest.fixture(scope="module")
def own(world):
    """A run whose domain is a file of the user's, called by a path that holds only from here."""
    text = files("cas_metric.domains").joinpath("packs/phantom-chexpert.yaml").read_text("utf-8")
    pack = world / "packs/mine.yaml"
    pack.parent.mkdir()
    pack.write_text(text.replace("name: phantom-chexpert", "name: mine"), encoding="utf-8")
    with contextlib.chdir(pack.parent):
        cas_metric.score(
            world / "made",
            world / "real/test",
            domain="mine.yaml",
            cache=world / "cache",
            out=world / "own",
        )
    return world / "own"


def test_a_domain_of_ones_own_is_found_again(own, world, tmp_path):
    told = cas_metric.explain(own, count=1, maps=False, cache=world / "cache")
    assert told.summary["domain"] == "mine"
    assert not any("checklists" in one for one in told.warnings)
    assert read_images([str(own)]).domain.name == "mine"
    assert Pairs.of(own).domain.name == "mine"
    chosen = cas_metric.select(own, keep=["top:0.5"], diversity=False).save(tmp_path / "chosen")
    run = cas_metric.score(chosen, world / "real/test", cache=world / "cache")
    assert run.summary["domain"] == "phantom-chexpert"  # that of the real images comes first
    assert load_domain(as_manifest(chosen).config.domain).name == "mine"


def test_linked_files_are_read_like_copies(own, tmp_path):
    found = cas_metric.select(own, keep=["top:0.5"], files="link", diversity=False)
    kept = as_manifest(found.save(tmp_path / "linked"))
    assert [path.stat().st_nlink for path in kept.paths()] == [2] * len(kept)


def test_a_file_that_is_no_image_is_not_copied(world, tmp_path):
    """A run from elsewhere may name any file of this machine in its rows."""
    run = Run.load(world / "run")
    secret = tmp_path / "secret.txt"
    secret.write_text("mine")
    forged = replace(run, rows=run.rows.assign(image=str(secret)))
    for how in ("copy", "link"):
        found = cas_metric.select(forged, keep=["top:1"], files=how, diversity=False)
        with pytest.raises(CasError, match="no readable image"):
            found.save(tmp_path / how)
        assert not list((tmp_path / how).rglob("0*"))


def test_images_of_an_archive_are_copied_under_their_whole_ending(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 1)).astype(np.float32)
    scan = nibabel.Nifti1Image(pixels, np.eye(4))
    scan.header["cal_max"] = 255
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    with zipfile.ZipFile(tmp_path / "gen.zip", "w") as archive:
        archive.write(tmp_path / "scan.nii.gz", "Edema/scan.NII.gz")
    paths = [located(tmp_path / "gen.zip") / "Edema/scan.NII.gz", tmp_path / "scan.nii.gz"]
    assert bring(paths, tmp_path / "images", "copy") == [
        "images/000000.nii.gz",
        "images/000001.nii.gz",
    ]
    first, second = (load_image(tmp_path / f"images/00000{k}.nii.gz").pixels for k in (0, 1))
    assert np.array_equal(first, second)
    with pytest.raises(InputError, match=r"scan.NII.gz is no file of its own") as refused:
        require_linkable(paths)
    assert "--files copy" in refused.value.fix


def test_the_window_of_the_images_goes_with_them(world, tmp_path):
    """Depths without a range of their own are read through the window that they were scored by."""
    deep = tmp_path / "deep"
    table = pd.read_csv(world / "made/metadata.csv").iloc[4:8]
    (deep / "images").mkdir(parents=True)
    for name in table["file_name"]:
        with Image.open(world / "made" / name) as picture:
            values = np.asarray(picture.convert("L"), dtype=np.float32) * 4 - 100
        Image.fromarray(values).save((deep / name).with_suffix(".tif"))
    table["file_name"] = [str(Path(name).with_suffix(".tif")) for name in table["file_name"]]
    table.to_csv(deep / "metadata.csv", index=False)
    (deep / "cas.yaml").write_text("window: [-100, 920]\n")
    run = cas_metric.score(deep, world / "real/test", cache=world / "cache")
    chosen = cas_metric.select(run, keep=["top:1"], files="copy", diversity=False)
    again = cas_metric.score(
        chosen.save(tmp_path / "chosen"), world / "real/test", cache=world / "cache"
    )
    assert (again.rows["status"] == "ok").all()
    assert list(again.rows["cas"]) == list(run.rows["cas"])


def test_near_copies_of_training_images_are_refused(world):
    own = {"keep": ["top:1"], "train": world / "made", "diversity": False}
    with pytest.raises(InputError, match=r"left: \d+ of 40 images: near-copy of training"):
        cas_metric.select(world / "run", **own)


def test_labels_give_the_threshold(world, tmp_path):
    rows = pd.read_parquet(world / "run/per_image.parquet")
    usable = rows[rows["status"] != "failed"].head(30)
    labels = pd.DataFrame({"id": usable["id"], "good": np.arange(30) % 2})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    found = cas_metric.select(
        world / "run", keep=["risk:0.3"], labels=tmp_path / "labels.csv", diversity=False
    )
    table = found.tables["selection"].merge(labels, on="id")
    bad = ((table["level"] >= found.summary["threshold"]) & (table["good"] == 0)).sum()
    assert bad <= 0.3 * 31 - 1
    with pytest.raises(InputError, match="a risk needs labelled images"):
        cas_metric.select(world / "run", keep=["risk:0.3"])
    for column in labels:  # of a table in memory, which no reader has looked at
        with pytest.raises(InputError, match="lack id or good"):
            cas_metric.select(world / "run", keep=["risk:0.3"], labels=labels[[column]])


def test_classes_too_small_for_alpha_are_named(world):
    run = Run.load(world / "run")
    few = dict.fromkeys(run.floor["label"])
    found = cas_metric.select(run, diversity=False)
    assert "lower than all" not in str(found.summary["reasons"])
    told = next(one for one in found.warnings if "needs 19 real images" in one)
    assert all(name in told for name in few)
    assert "none can be refused" in told
    size = int(run.floor["label"].value_counts().min())
    able = cas_metric.select(run, keep=[f"alpha:{1 / (size + 1) + 0.01}"], diversity=False)
    assert not [one for one in able.warnings if "real images of a class" in one]


def test_nothing_left_is_an_error_that_says_why(world):
    with pytest.raises(InputError, match=r"nothing is left: 38 of 40 images: lower than all"):
        cas_metric.select(world / "run", keep=["alpha:0.95"], diversity=False)


def test_files_of_an_earlier_selection_go_and_those_of_a_person_stay(world, tmp_path):
    words = (world / "run", "--files", "copy", "--no-diversity")
    for keep in ("top:0.9", "top:0.3"):
        invoke(select.app, *words, "--keep", keep, "--out", tmp_path / "kept")
        listed = set(pd.read_csv(tmp_path / "kept/metadata.csv")["file_name"])
        there = {f"images/{one.name}" for one in (tmp_path / "kept/images").iterdir()}
        assert there == listed
    (tmp_path / "mine/images").mkdir(parents=True)
    (tmp_path / "mine/images/000000.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds images, which no earlier result"):
        invoke(select.app, *words, "--keep", "top:0.9", "--out", tmp_path / "mine")
    assert (tmp_path / "mine/images/000000.png").read_bytes() == b"mine"


def test_other_checklists_than_those_of_the_run_are_told(world):
    options = {"cache": world / "cache", "maps": False, "count": 1}
    assert not any(
        "checklists" in one for one in cas_metric.explain(world / "run", **options).warnings
    )
    pack = load_domain("phantom-chexpert")
    first, *others = pack.classes
    wording = {**first.checklist, next(iter(first.checklist)): "something else altogether"}
    other = pack.model_copy(
        update={"classes": [first.model_copy(update={"checklist": wording}), *others]}
    )
    (told,) = [
        one
        for one in cas_metric.explain(world / "run", domain=other, **options).warnings
        if "checklists" in one
    ]
    assert f"that the run was scored by: {first.name};" in told


def test_a_run_without_seeds_has_attributes_and_maps(world, tmp_path):
    shutil.copytree(world / "run", tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run/per_image.parquet")
    rows["seed"] = pd.array([pd.NA] * len(rows), dtype="Int64")
    rows.to_parquet(tmp_path / "run/per_image.parquet", index=False)
    found = cas_metric.explain(tmp_path / "run", count=2, cache=world / "cache")
    assert [len(one["attributes"]) for one in found.summary["images"]] == [2, 2]
    found.save(tmp_path / "told")
    for one in found.summary["images"]:
        assert pd.isna(one["seed"])
        assert all((tmp_path / "told" / a["map"]).is_file() for a in one["attributes"])
