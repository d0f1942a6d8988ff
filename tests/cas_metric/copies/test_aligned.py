"""Altered copies: the transformation that was made is the one that is found and named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from benchmarks.copies.alterations import ALTERATIONS
from PIL import Image
from tests.support.real_data import real_data

import cas_metric
from cas_metric.copies import aligned, chance, geometry, phash
from cas_metric.copies.analysis import _nearest_hashes
from cas_metric.copies.keypoints import PERMUTATIONS, SIDE, Keypoints, invariant, rooted
from cas_metric.copies.shortlist import Shortlist
from cas_metric.copies.ssim_search import LISTED, Search, nearest
from cas_metric.copies.suspects import FLAGGED, SSIM, _candidates
from cas_metric.manifest import read_manifest
from cas_metric.phantoms import make_phantom

DOMAIN = "phantom-breakhis"
KINDS = list(ALTERATIONS)


def draw(seed: int, size: int = 128) -> Image.Image:
    return Image.fromarray(make_phantom(DOMAIN, "Fibroadenoma", seed, size).image)


def described(pictures) -> Keypoints:
    points = Keypoints.empty(len(pictures))
    for row, picture in enumerate(pictures):
        points.put(row, np.asarray(picture.convert("L")))
    return points


@pytest.fixture(scope="module")
def copies():
    rng = np.random.default_rng(0)
    return [ALTERATIONS[kind](draw(k % 8), draw(100 + k), rng) for k, kind in enumerate(KINDS)]


@pytest.fixture(scope="module")
def train():
    return [draw(k) for k in range(16)]


@pytest.mark.parametrize(
    ("kind", "variant"), [("mirrored", (True, False)), ("inverted", (False, True))]
)
def test_a_permuted_descriptor_is_that_of_the_altered_picture(kind, variant):
    picture = draw(3, SIDE)
    points = described([picture, ALTERATIONS[kind](picture, picture, np.random.default_rng(0))])
    one, two = points.rooted(0), points.rooted(1)
    assert np.median((one[:, PERMUTATIONS[variant]] @ two.T).max(axis=1)) > 0.98
    assert np.median((one @ two.T).max(axis=1)) < 0.95


def test_a_picture_that_could_not_be_read_is_like_no_other(train):
    """One truncated training image ended the search in an assertion of OpenCV."""
    theirs = Keypoints.empty(5)
    for row in (0, 1, 3, 4):  # 2 could not be read
        theirs.put(row, np.asarray(train[row].convert("L")))
    found = aligned.search(described(train[3:5]), np.arange(2), theirs, Shortlist(theirs))
    best = [max(near, key=lambda one: one.match.evidence) for near in found]
    assert [one.position for one in best] == [3, 4]
    assert all(one.match.evidence == 0 for near in found for one in near if one.position == 2)


def test_the_invariant_part_does_not_change_under_any_permutation():
    values = rooted(np.random.default_rng(0).integers(0, 256, (5, 128), np.uint8))
    for order in PERMUTATIONS.values():
        np.testing.assert_allclose(invariant(values[:, order]), invariant(values), atol=1e-6)
    np.testing.assert_allclose((invariant(values) ** 2).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("exact", "in place"),
        ("cropped 10% a side", "scaled 1.25"),
        ("cropped 20% a side", "scaled 1.67"),
        ("rotated by 5°", "rotated 5°"),
        ("rotated by 90°", "rotated 90°"),
        ("mirrored", "mirrored"),
        ("inverted", "inverted"),
    ],
)
def test_the_transformation_is_named(kind, said):
    picture = draw(3, SIDE)
    copy = ALTERATIONS[kind](picture, picture, np.random.default_rng(0))
    match = geometry.align(described([copy]), 0, described([picture]), 0)
    assert geometry.describe(match) == said


def test_a_shift_is_found_to_the_pixel():
    picture = draw(3, SIDE)
    copy = ALTERATIONS["shifted by 12 of 256"](picture, picture, np.random.default_rng(0))
    match = geometry.align(described([copy]), 0, described([picture]), 0)
    np.testing.assert_allclose(np.abs(match.transform[:, 2]), 12, atol=0.5)
    np.testing.assert_allclose(match.transform[:, :2], np.eye(2), atol=0.01)


def test_every_kind_has_more_evidence_than_any_unrelated_picture(copies, train):
    ours, theirs = described(copies), described(train)
    fresh = described([draw(200 + k) for k in range(10)])
    index = Shortlist(theirs)
    real = aligned.calibrate(aligned.search(fresh, np.arange(10), theirs, index), "test")
    found = aligned.search(ours, np.arange(len(KINDS)), theirs, index)
    best = [aligned.best(near, real) for near in found]
    assert [one.position for one in best] == [k % 8 for k in range(len(KINDS))]
    scores = [real.score(one.match) for one in best]
    assert min(scores) > max(real.scores())


def test_a_few_copies_among_the_real_images_do_not_move_the_threshold():
    values = np.random.default_rng(0).normal(300, 50, 200)
    spoilt = np.concatenate([values[:196], np.full(4, 3000.0)])
    one, other = (aligned.Calibration(v, v, v, "test").thresholds for v in (values, spoilt))
    np.testing.assert_allclose(one, other, rtol=0.15)


def test_the_domain_pack_says_which_variants_are_hashed(copies, train, tmp_path):
    for name, pictures in {"gen": [copies[KINDS.index("mirrored")]], "train": train}.items():
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{k:02d}.png")
        (tmp_path / name / "cas.yaml").write_text(f"domain: {DOMAIN}\n")
    folders = tmp_path / "gen", tmp_path / "train"
    options = {"features": False, "geometry": False, "ssim": False, "ssim_size": 32}
    found = cas_metric.memorization(*folders, **options)
    assert found.summary["settings"]["phash_variants"] == "mirror,rotate90"
    row = found.tables["per_image"].iloc[0]
    assert (row["phash_variant"], row["phash_variant_name"]) == (0, "mirrored")
    for folder in folders:  # the layout of docs/guide/first-score.md
        (folder / "cas.yaml").rename(tmp_path / "cas.yaml")
    shutil.copytree(folders[1], tmp_path / "test")
    (tmp_path / "cas.yaml").rename(tmp_path / "test" / "cas.yaml")
    real = cas_metric.memorization(*folders, tmp_path / "test", **options)
    assert real.summary["settings"]["phash_variants"] == "mirror,rotate90"
    plain = cas_metric.memorization(*folders, variants="none", **options)
    assert "phash_variant" not in plain.tables["per_image"]
    (tmp_path / "train" / "cas.yaml").write_text("domain: nowhere\n")
    unknown = cas_metric.memorization(*folders, **options)
    assert "no variants are hashed" in unknown.warnings[0]


def test_a_mirrored_copy_is_a_hit_of_its_own_and_a_blank_image_is_none(copies, train, tmp_path):
    blank = Image.new("RGB", (64, 64))
    sets = {"gen": [copies[KINDS.index("mirrored")], blank], "train": [*train, blank]}
    for name, pictures in sets.items():
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{k:02d}.png")
    found = cas_metric.memorization(
        *(tmp_path / "gen", tmp_path / "train"),
        **{"features": False, "geometry": False, "ssim": False, "variants": "mirror"},
    )
    rows = found.tables["per_image"]
    assert rows["phash_variant_near"].tolist() == [1, 0]
    assert rows["copy"].tolist() == [True, False]
    assert found.summary["methods"][0]["phash_variant_near"] == 1
    assert "1 do mirrored, turned or inverted" in found.summary["verdict"]
    assert "| symmetry |" in found.text
    page = found.save(tmp_path / "out") / "report.html"
    assert "The same of the image mirrored" in page.read_text()


def test_the_command_finds_names_and_ranks_them(copies, train, tmp_path):
    for name, pictures in {"gen": copies, "train": train}.items():
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{k:02d}.png")
    blank = Image.new("RGB", (64, 64))
    for k in range(3):
        blank.save(tmp_path / "gen" / f"9{k}.png")
        blank.save(tmp_path / "train" / f"9{k}.png")
    found = cas_metric.memorization(
        tmp_path / "gen", tmp_path / "train", features=False, ssim_size=64, device="cpu"
    )
    rows = found.tables["per_image"].set_index("image")
    assert rows.loc["07.png" if KINDS[7].startswith("crop") else "08.png", "copy_image"] == "07.png"
    assert rows.loc["13.png", "copy_transform"] == "mirrored"
    assert found.summary["methods"][0]["blank"] == 3
    assert rows["flags"].loc[["90.png", "91.png", "92.png"]].tolist() == [""] * 3
    assert "3 images are blank" in found.summary["verdict"]
    pairs = found.tables["pairs"]
    flagged = pairs["flags"].str.contains("aligned copy")
    only_hash = pairs["flags"].eq("pHash")
    assert flagged.iloc[0]
    assert not only_hash.any() or only_hash.to_numpy().argmax() > flagged.to_numpy().nonzero()[0][0]


def test_identical_images_are_counted_and_listed_within_bounds():
    words = np.full(300, 7, np.uint64)
    assert len(phash.pairs_within(words, words, limit=4)) == 1200
    assert phash.count_within(words, words).tolist() == [300] * 300
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 16)).astype(np.float32)
    same = np.repeat(picture, 100, axis=0)
    found = nearest(same, same, Search(workers=1))
    assert found.counts.tolist() == [100] * 100
    assert pd.Series(found.above[:, 0]).value_counts().max() == LISTED
    assert found.position.tolist() == [0] * 100


def test_of_many_flagged_pairs_the_nearest_are_listed():
    count = FLAGGED + 600
    first = pd.Series(np.zeros(count, int)).astype(object)
    columns = {"ssim": np.full(count, 0.951), "ssim_image": first, "flags": SSIM}
    rows = pd.DataFrame(columns | {"phash": 4, "phash_image": first})
    rows.loc[count - 100, "ssim"] = 1.0
    above = np.stack([np.arange(count), np.zeros(count, int)], axis=1)
    listed, left_out = _candidates(rows, above)
    assert len(listed) == FLAGGED
    assert left_out == 600
    assert count - 100 in listed[:, 0]


def test_a_blank_training_image_is_no_nearest_one_of_a_picture():
    ours = SimpleNamespace(words=np.array([[0], [0]], np.uint64), blank=np.array([False, True]))
    theirs = SimpleNamespace(words=np.array([[0], [7]], np.uint64), blank=np.array([True, False]))
    found = _nearest_hashes(ours, theirs)
    assert found.distance.tolist() == [3, 0]
    assert found.position.tolist() == [1, 0]


def test_two_images_of_a_patient_are_a_reference_of_their_own(copies, train, tmp_path):
    """A second look at a patient fits when aligned; a verbatim copy fits better than that."""
    looks = [
        ALTERATIONS["gamma 1.5 or 1/1.5"](one, one, np.random.default_rng(k))
        for k, one in enumerate(train)
    ]
    looks = [ALTERATIONS["rotated by 5°"](one) for one in looks]
    for name, pictures in {"gen": [train[0], looks[1]], "train": [*train, *looks[2:]]}.items():
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{k:02d}.png")
    table = pd.DataFrame({"file_name": [f"{k:02d}.png" for k in range(30)]})
    table["patient"] = [f"p{k}" for k in [*range(16), *range(2, 16)]]
    table.to_csv(tmp_path / "train" / "metadata.csv", index=False)
    found = cas_metric.memorization(
        tmp_path / "gen", tmp_path / "train", features=False, ssim=False, ssim_size=32
    )
    figures = found.summary["methods"][0]["aligned"]
    assert figures["hits"] == 2
    assert figures["one_patient"]["pairs"] == 14
    assert figures["one_patient"]["pairs_above"] >= 12
    assert figures["one_patient"]["hits_beyond"] == 1
    assert "1 of the 2 hits fit better than any of these" in found.summary["verdict"]
    p = found.tables["per_image"]["copy_patient_p"]
    assert p[0] == pytest.approx(1 / 15)
    assert p[1] > 0.1
    table = pd.DataFrame({"file_name": ["00.png", "01.png"], "patient": ["p0", "p1"]})
    table.to_csv(tmp_path / "gen" / "metadata.csv", index=False)
    shared = cas_metric.leakage(tmp_path / "train", tmp_path / "gen", ssim_size=32)
    kinds = shared.tables["pairs"].set_index("test_patient")["kind"]
    assert kinds["p0"] in ("same file", "same pixels")
    assert kinds["p1"] == "another image of the patient"
    assert "1 more as two images of a patient do" in shared.summary["verdict"]


def test_holm_goes_over_detectors_and_methods():
    def method(*p):
        names = dict(zip(("pHash", "SSIM"), p, strict=False))
        return {
            "usual": {name: {"p": value} for name, value in names.items()},
            "aligned": {"p": p[2]},
        }

    found = [method(0.01, 0.5, 0.004), method(0.02, 0.9, float("nan"))]
    chance.correct(found)
    adjusted = [
        entry[f"{key}_adjusted"]
        for one in found
        for entry, key in chance.detectors_of(one).values()
    ]
    np.testing.assert_allclose(adjusted, [0.04, 1, 0.02, 0.06, 1, np.nan])


def test_a_hash_counts_only_beyond_what_real_images_reach():
    rng = np.random.default_rng(0)
    alike = chance.Usual(rng.random(200) < 0.3, rng.integers(3, 9, 200).astype(float))
    apart = chance.Usual(np.zeros(200, bool), rng.integers(14, 24, 200).astype(float))
    assert chance.thresholds({"pHash": alike})["pHash"] < 3
    same = {"pHash": 5, "pHash of a variant": 5, "SSIM": 0.95}
    assert chance.thresholds({"pHash": apart}) == same
    varied = chance.thresholds({"pHash of a variant": alike})["pHash of a variant"]
    assert not (rng.integers(3, 9, 1000) <= varied).any()  # images as near as real ones: no copies
    assert chance.thresholds(None) == same


def test_an_exact_copy_is_beyond_any_real_images():
    rng = np.random.default_rng(0)
    near = chance.Usual(np.zeros(200, bool), rng.integers(0, 9, 200).astype(float))
    wide = chance.Usual(np.zeros(200, bool), rng.uniform(0.2, 1.0, 200))
    limits = chance.thresholds({"pHash": near, "SSIM": wide})
    assert 0 <= limits["pHash"] < 1
    assert 0.95 < limits["SSIM"] < 1


def test_duplicates_among_the_real_images_do_not_hide_copies(train, tmp_path):
    for name, pictures in {"gen": train[:2], "train": [*train, *train]}.items():
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{k:02d}.png")
    found = cas_metric.memorization(
        tmp_path / "gen", tmp_path / "train", features=False, ssim=False, ssim_size=32
    )
    figures = found.summary["methods"][0]["aligned"]
    assert (figures["hits"], figures["real_hits"], figures["real_images"]) == (2, 0, 32)


#: Validation and training photographs of ISIC 2017 that show one lesion, as a person sees.
LESIONS = {
    "ISIC_0012127": "ISIC_0012970",
    "ISIC_0015124": "ISIC_0000171",
    "ISIC_0014946": "ISIC_0000157",
    "ISIC_0015313": "ISIC_0000215",
    "ISIC_0013132": "ISIC_0012182",
    "ISIC_0014178": "ISIC_0013498",
}


def test_photographs_of_one_lesion_are_found_and_others_are_not(tmp_path):
    folder = real_data("isic2017") / "images"
    others = [path.stem for path in sorted(folder.glob("*.jpg"))]
    rest = [name for name in others if name not in {*LESIONS, *LESIONS.values()}]
    names = {"gen": [*LESIONS, *rest[:20]], "train": [*LESIONS.values(), *rest[20:50]]}
    for part, chosen in names.items():
        (tmp_path / part).mkdir()
        for name in chosen:
            (tmp_path / part / f"{name}.jpg").symlink_to(folder / f"{name}.jpg")
    sets = [replace(read_manifest(tmp_path / part), allowed_roots=(folder,)) for part in names]
    found = cas_metric.memorization(*sets, features=False, ssim=False, ssim_size=32)
    rows = found.tables["per_image"].assign(
        name=[Path(one).stem for one in found.tables["per_image"]["image"]]
    )
    rows = rows.set_index("name")
    marked = rows["flags"].str.contains("matched points|aligned copy")
    assert set(rows.index[marked]) == set(LESIONS)
    for one, other in LESIONS.items():
        column = "copy_image" if rows.loc[one, "copy"] else "points_image"
        assert rows.loc[one, column] == f"{other}.jpg"
    assert "the same lesion, patient or scene" in found.summary["verdict"]


def test_images_of_training_patients_and_blank_ones_calibrate_no_pixels(train, tmp_path):
    fresh = [Image.fromarray(np.rot90(np.asarray(one)).copy()) for one in train]
    sets = {"train": train, "test": [*train[:2], *fresh, *[Image.new("RGB", (64, 64))] * 2]}
    for name, pictures in sets.items():
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{k:02d}.png")
    found = cas_metric.memorization(
        tmp_path / "train", tmp_path / "train", tmp_path / "test",
        features=False, geometry=False, ssim_size=32, variants="none",
    )  # fmt: skip
    usual = found.summary["methods"][0]["usual"]["SSIM"]
    assert (usual["real_hits"], usual["real_images"]) == (0, len(train))
    assert found.tables["per_image"]["copy"].all()


def test_real_images_are_counted_once_a_patient():
    patients = np.array(["a", "", "b", "a", "", "b"])
    rows = np.array([0, 1, 3, 4, 5])
    assert chance.one_each(rows, patients).tolist() == [0, 1, 4, 5]
