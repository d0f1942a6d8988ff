"""`cas memorization` and `cas leakage` find what was planted and say no more than that."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from tests.cas_metric.report.page import parse
from tests.support.tiny_models import build_dinov2
from typer.testing import CliRunner

from cas_metric.cli import leakage as leakage_cli
from cas_metric.cli import memorization as memorization_cli
from cas_metric.copies.verdict import overlap_warnings
from cas_metric.errors import InputError
from cas_metric.phantoms import make_phantom

CLASSES = ("No Finding", "Cardiomegaly")


def draw(seed: int) -> Image.Image:
    return Image.fromarray(make_phantom("phantom-chexpert", CLASSES[seed % 2], seed, 64).image)


def write(folder, images, **columns):
    folder.mkdir()
    names = [f"{k}.png" for k in range(len(images))]
    for name, image in zip(names, images, strict=True):
        image.save(folder / name)
    label = [CLASSES[k % 2] for k in range(len(images))]
    table = pd.DataFrame({"file_name": names, "label": label, **columns})
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    train = [draw(k) for k in range(16)]
    generated = [draw(100 + k) for k in range(12)]
    generated[2] = train[5]
    generated[7] = train[8].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    patients = [f"p{k}" for k in range(16)]
    write(root / "train", train, patient=patients)
    (root / "train" / "cas.yaml").write_text("domain: phantom-chexpert\n")
    test = [draw(200 + k) for k in range(10)]
    test[3] = train[3]
    test[4] = ImageEnhance.Brightness(train[6]).enhance(1.01)
    write(root / "test", test, patient=[f"p{k + 14}" for k in range(10)])
    write(root / "gen", generated, method=["one"] * 6 + ["two"] * 6)
    (root / "gen" / "11.png").write_bytes(b"broken")
    build_dinov2(root / "dino")
    return root


@pytest.fixture(scope="module")
def run(world):
    arguments = [
        str(world / "gen"), str(world / "train"), "--test", str(world / "test"),
        "--encoder", str(world / "dino"), "--cache", "none", "--variants", "mirror",
        "--ssim-size", "64", "--device", "cpu", "--verify", "--json", "--out", str(world / "out"),
    ]  # fmt: skip
    return CliRunner().invoke(memorization_cli.app, arguments)


def test_broken_images_are_reported_by_the_exit_code(run):
    assert run.exit_code == 3, run.output
    failures = json.loads(run.stdout)["failures"]
    assert [failure["image"].rsplit("/", 1)[1] for failure in failures] == ["11.png"]


def test_summary_counts_the_planted_copies(run):
    summary = json.loads(run.stdout)
    one, two = summary["methods"]
    assert (one["n"], one["ssim_above"], one["either"], one["max_ssim"]) == (
        6, 1, 1, pytest.approx(1.0),
    )  # fmt: skip
    assert (two["n"], two["n_failed"], two["ssim_above"]) == (5, 1, 0)
    assert two["phash_variant_near"] >= 1
    assert f"{two['phash_variant_near']} do mirrored, turned or inverted" in summary["verdict"]
    assert two["usual"]["pHash of a variant"]["hits"] == two["phash_variant_near"]
    assert {"p_nearer_to_train", "matched_difference"} <= set(one["neighbours"])
    assert summary["embedded_world"]
    # One test image is a training image, and two are of training patients.
    assert summary["real_test_to_train"]["n"] == 7
    assert one["neighbours"]["nearer_than_real"] >= 1
    assert "1 exceed SSIM 0.95" in summary["verdict"]


def test_a_test_image_that_was_trained_on_is_named(run):
    assert "1 of 10 test images is a training image, byte for byte: it is not unseen" in run.stderr


def test_one_set_twice_is_named():
    assert overlap_warnings(["a", "a"], ["a", "b"]) == [
        "every generated image is a training image, byte for byte: one set twice?"
    ]
    assert overlap_warnings(["a", "c"], ["a", "b"], ["c"]) == []


def test_rows_name_the_nearest_images(run, world):
    rows = pd.read_csv(world / "out" / "per_image.csv")
    assert rows.loc[2, ["ssim_image", "phash_image", "train_image"]].tolist() == ["5.png"] * 3
    assert rows.loc[2, "train_distance"] == pytest.approx(0, abs=1e-6)
    assert "SSIM, pHash, features" in rows.loc[2, "flags"]
    assert rows.loc[7, "phash_variant"] == 0
    assert rows.loc[7, "phash_variant_name"] == "mirrored"
    assert rows.loc[7, "phash_variant_near"] == 1
    assert rows.loc[7, "copy"]
    assert rows["status"].tolist() == ["ok"] * 11 + ["failed"]
    pd.testing.assert_frame_equal(
        rows[["ssim", "phash"]],
        pd.read_parquet(world / "out" / "per_image.parquet")[["ssim", "phash"]].astype(float),
        check_dtype=False,
    )


def test_pairs_are_in_order_of_suspicion(run, world):
    pairs = pd.read_csv(world / "out" / "pairs.csv")
    first = pairs.iloc[0]
    assert first["generated"].endswith("gen/2.png")
    assert first["training"].endswith("train/5.png")
    mirrored = pairs[pairs["generated"].str.endswith("gen/7.png")]
    assert mirrored["training"].str.endswith("train/8.png").any()
    page = parse((world / "out" / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("li", "card")[0].all("img")) == 3  # both, and one laid over the other
    assert "not medical data" in page.one(cls="notice").text


def test_leakage_finds_files_pixels_patients(world, tmp_path):
    arguments = [str(world / "train"), str(world / "test"), "--json", "--out", str(tmp_path)]
    result = CliRunner().invoke(leakage_cli.app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["same_file"], found["same_pixels"], found["shared_patients"]) == (1, 0, 2)
    assert found["near_duplicates_confirmed"] >= 1
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert pairs.loc[0, ["kind", "phash", "ssim"]].tolist() == ["same file", 0, pytest.approx(1.0)]
    assert pairs.loc[0, "test_label"] == CLASSES[1]
    near = pairs[pairs["test"].str.endswith("4.png") & pairs["train"].str.endswith("6.png")]
    assert near["kind"].tolist() == ["near duplicate"]
    assert pd.read_csv(tmp_path / "patients.csv")["patient"].tolist() == ["p14", "p15"]
    page = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("li", "card")) == len(pairs)


def test_leakage_tells_the_threshold_that_was_given(world, tmp_path):
    arguments = [str(world / "train"), str(world / "test"), "--threshold", "20", "--json"]
    arguments += ["--no-geometry", "--out", str(tmp_path)]
    result = CliRunner().invoke(leakage_cli.app, arguments)
    assert "within 20 pHash bits" in json.loads(result.stdout)["verdict"]
    assert "pHash ≤ 20" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_patients_of_one_split_alone_leave_sharing_unknown(world, tmp_path):
    write(world / "nameless", [draw(50)])
    arguments = [str(world / "nameless"), str(world / "test"), "--json", "--out", str(tmp_path)]
    found = json.loads(CliRunner().invoke(leakage_cli.app, arguments).stdout)
    assert found["patients_known"] is False
    assert "unknown" in found["verdict"]


def test_a_device_that_is_not_there_is_refused_first(world, tmp_path):
    arguments = [str(world / "gen"), str(world / "train"), "--no-features", "--out", str(tmp_path)]
    with pytest.raises(InputError, match="unknown device 'banana'"):
        CliRunner().invoke(
            memorization_cli.app, [*arguments, "--device", "banana"], catch_exceptions=False
        )


def test_disjoint_splits_share_nothing(world, tmp_path):
    arguments = [str(world / "train"), str(world / "clean"), "--json", "--out", str(tmp_path)]
    dark = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    write(world / "clean", [dark])
    result = CliRunner().invoke(leakage_cli.app, arguments)
    found = json.loads(result.stdout)
    assert (found["pairs"], found["patients_known"]) == (0, False)
    assert "no pair" in found["verdict"]
    assert "unknown" in found["verdict"]


def test_pixels_alone_need_no_encoder(world, tmp_path):
    arguments = [
        str(world / "gen"), str(world / "train"), "--no-features", "--count-only",
        "--ssim-size", "32", "--no-geometry", "--device", "cpu", "--out", str(tmp_path),
    ]  # fmt: skip
    result = CliRunner().invoke(memorization_cli.app, arguments)
    assert result.exit_code == 3, result.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["encoder"] is None
    assert summary["methods"][0]["ssim_above"] == 1
    assert summary["methods"][1]["max_ssim"] is None
