"""The gallery holds the lowest images, with what is needed to judge them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.cas_metric.report.page import parse
from tests.cas_metric.report.synthetic_run import write_synthetic_run

from cas_metric.report.document import write_report
from cas_metric.report.gallery import MAX_SIDE, encode, picks, thumbnail, worst

KEYS = ["method", "seed", "id"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_synthetic_run(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def rows(run):
    return pd.read_parquet(run / "per_image.parquet")


def cards(run, **options):
    return parse(write_report(run, **options).read_text()).all("li", "card")


@pytest.fixture(scope="module")
def page(run):
    return parse(write_report(run).read_text())


@pytest.fixture(scope="module")
def shown(page):
    return page.all("li", "card")


def test_shows_the_lowest_of_each_method_as_pandas_finds_them(shown, rows):
    for method, own in rows.groupby("method"):
        of_method = [c for c in shown if c.attrs["data-method"] == method]
        for pick, find in (("lowest", own.nsmallest), ("best", own.nlargest)):
            cards_ = [c for c in of_method if c.attrs["data-pick"] == pick]
            expected = find(len(cards_), "cas")[KEYS].astype(str).to_numpy().tolist()
            assert len(cards_) >= 4
            assert [[c.attrs[f"data-{k}"] for k in KEYS] for c in cards_] == expected


def test_no_image_is_shown_twice_and_random_ones_stay_the_same(rows):
    picked = picks(rows, 5)
    assert not picked.duplicated(KEYS).any()
    assert set(picked["pick"]) == {"lowest", "random", "best"}
    assert picks(rows.sample(frac=1, random_state=2).sort_index(), 5).equals(picked)
    few = picks(rows.head(3), 5)
    assert list(few["pick"]) == ["lowest"] * len(few)


def test_size_of_the_gallery_is_the_callers(run, rows):
    methods = rows["method"].nunique()
    assert len(cards(run, gallery=6 * methods)) == 6 * methods
    assert cards(run, gallery=0) == []


def test_ties_are_broken_by_name_and_failures_left_out(rows):
    tied = rows.assign(cas=np.where(rows["cas"].isna(), np.nan, 0.5)).sample(frac=1, random_state=1)
    lowest = worst(tied, 10)
    assert lowest["cas"].notna().all()
    ordered = tied[tied["cas"].notna()].sort_values(KEYS).head(10)
    assert lowest[KEYS].to_numpy().tolist() == ordered[KEYS].to_numpy().tolist()


def test_cards_carry_scores_prompt_label_and_verdict(shown, rows):
    for card in shown:
        a = card.attrs
        (row,) = rows[
            (rows["method"] == a["data-method"])
            & (rows["seed"] == int(a["data-seed"]))
            & (rows["id"] == a["data-id"])
        ].to_dict("records")
        assert card.one("h3").text == row["label"] == a["data-label"]
        assert card.one("p", "prompt").text == " ".join(row["prompt"].split())
        assert a["data-wrong"] == str(int(row["dd"] == 0)) == str(len(card.all(cls="verdict")))
        for key in ("cas", "vdc", "ccs", "dd", "sfs"):
            assert float(a[f"data-{key}"]) == pytest.approx(row[key], abs=1e-12)


def test_filters_offer_what_the_cards_hold(page, shown):
    for name in ("label", "method", "pick"):
        (select,) = [s for s in page.all("select") if s.attrs["name"] == name]
        offered = {o.attrs["value"] for o in select.all("option")} - {""}
        assert offered == {card.attrs[f"data-{name}"] for card in shown}


def test_missing_files_become_placeholders(shown, rows):
    for card in shown:
        number = rows.index[rows["image"] == card.attrs["data-file"]][0]
        drawn = number % 7 != 0  # the others are not on disk
        assert bool(card.all("img")[:-1]) == drawn
        assert bool(card.all(cls="placeholder")) != drawn


def test_images_are_found_in_the_folder_that_the_caller_names(run, tmp_path):
    lost = cards(run, generated_root=tmp_path, real_root=tmp_path)
    assert all(len(card.all(cls="placeholder")) == 2 for card in lost)


@pytest.mark.parametrize("shape", [(512, 256), (64, 64), (300, 900)])
def test_thumbnails_are_small_keep_their_proportions_and_look_the_same(shape):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    ramp = (255 * (x / shape[1] + y / shape[0]) / 2).astype(np.uint8)
    made = encode(np.repeat(ramp[..., None], 3, axis=2))
    image = Image.open(io.BytesIO(base64.b64decode(made.uri.split(",")[1])))
    assert image.size == (made.width, made.height)
    assert max(image.size) <= MAX_SIDE
    assert image.size[1] / image.size[0] == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert np.asarray(image).mean() == pytest.approx(ramp.mean(), abs=2)


def test_an_unreadable_file_is_a_placeholder_with_the_reason(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    assert thumbnail(broken).missing == "unreadable file"
    assert thumbnail(tmp_path / "absent.png").missing == "file not found"
    assert thumbnail(None).uri == ""
