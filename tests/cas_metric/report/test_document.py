"""The report as a whole: what it shows, that it is safe, that it stands alone."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.cas_metric.report.page import parse, table
from tests.cas_metric.report.synthetic_run import CLASSES, write_synthetic_run

from cas_metric.errors import InputError
from cas_metric.report.content import _caption, headline
from cas_metric.report.document import write_report
from cas_metric.statistics.tail import low_rate, threshold

LABEL_WITH_MARKUP = CLASSES[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_synthetic_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(run):
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return parse(html)


@pytest.fixture(scope="module")
def rows(run):
    return pd.read_parquet(run / "per_image.parquet")


@pytest.fixture(scope="module")
def real(run):
    return pd.read_parquet(run / "real_per_image.parquet")


def edited(run, tmp_path, *, rows=None, **changes):
    """A copy of a run with its summary, and its rows, changed."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps(summary | changes))
    if rows is not None:
        rows.to_parquet(copy / "per_image.parquet")
    return copy


# -- what it shows ------------------------------------------------------------------------------


def test_first_line_says_that_phantoms_are_not_medical_data(page):
    body = page.one("body")
    first = next(child for child in body.children if not isinstance(child, str))
    assert first.attrs["role"] == "note"
    assert "not medical data" in first.text


def test_no_phantom_notice_on_a_run_of_real_images(run, tmp_path):
    page = parse(write_report(edited(run, tmp_path, embedded_world=False)).read_text())
    assert "not medical data" not in page.text


def test_spells_out_the_name_and_shows_the_protocol_with_its_departures(page):
    assert page.one("h1").text.startswith("Clinical Alignment Score")
    header = page.one("header")
    assert "protocol custom" in [b.text for b in header.all(cls="badge")]
    assert "evaluator: phantom-siglip (cas-v1: siglip)" in header.one(cls="departures").text


def test_summary_shows_the_means_of_the_rows(page, rows, real):
    titles, lines = table(page, "Means over images")
    assert titles[:6] == ["Method", "VDC", "CCS", "DD", "SFS", "CAS"]
    tau = threshold(real["cas"])
    for method in ("CRAFT & co", "TI+LoRA"):
        mine = rows[rows["method"] == method]
        (cells,) = [line for line in lines if line[0].text == method]
        for cell, key in zip(cells[1:6], ("vdc", "ccs", "dd", "sfs", "cas"), strict=True):
            assert cell.text.split()[0] == f"{mine[key].mean():.3f}"
            assert float(cell.attrs["data-v"]) == pytest.approx(mine[key].mean(), abs=1e-12)
        assert cells[6].text.split()[0] == f"{100 * low_rate(mine['cas'], tau):.1f}%"
        assert cells[7].text.split()[0] == f"{np.nanpercentile(mine['cas'], 10):.3f}"
        assert cells[8].text == str((mine["status"] != "failed").sum())
        assert cells[9].text == str((mine["status"] == "failed").sum())


def test_every_mean_of_a_method_carries_an_interval_that_holds_it(page):
    _, lines = table(page, "Means over images")
    for cells in lines[:2]:
        for cell in cells[1:6]:
            low, high = map(float, cell.one("small").text.split("–"))
            assert low <= round(float(cell.attrs["data-v"]), 3) <= high


def test_best_of_each_column_is_marked_among_methods_only(page, rows):
    _, lines = table(page, "Means over images")
    means = rows.groupby("method")[["vdc", "ccs", "dd", "sfs", "cas"]].mean()
    for column, key in enumerate(means, start=1):
        marked = [line[0].text for line in lines if "best" in line[column].classes]
        assert marked == [means[key].idxmax()]


def test_real_and_floor_are_set_apart(page):
    (block,) = page.all("tbody", "apart")
    assert [row.one("th").text for row in block.all("tr")] == ["Real", "Floor"]


def test_a_quarter_of_the_real_images_lies_below_tau(page):
    _, lines = table(page, "Means over images")
    (cells,) = [line for line in lines if line[0].text == "Real"]
    assert cells[6].text == "25.0%"


def test_class_table_shows_the_class_means(page, rows):
    _, lines = table(page, "CAS by class")
    assert {line[0].text for line in lines} == set(CLASSES)
    for cells in lines:
        mine = rows[(rows["label"] == cells[0].text) & (rows["method"] == "TI+LoRA")]
        assert cells[3].text == f"{mine['cas'].mean():.3f}"


def test_headline_claims_a_lead_only_when_the_intervals_are_apart(run, tmp_path):
    summary = json.loads((run / "summary.json").read_text())
    near = [json.loads(json.dumps(summary["methods"][0])) for _ in range(2)]
    near[1]["method"] = "twin"
    apart = parse(write_report(run).read_text()).one(cls="lead").text
    open_ = (
        parse(write_report(edited(run, tmp_path, methods=near)).read_text()).one(cls="lead").text
    )
    assert "clear of every other method's" in apart
    assert "clear of" not in open_
    assert "overlaps" in open_


def test_the_lead_is_held_against_every_method_not_the_second_alone(run, tmp_path):
    """A third method of few cases may have a wider interval than the second."""
    summary = json.loads((run / "summary.json").read_text())
    methods = [json.loads(json.dumps(summary["methods"][0])) for _ in range(3)]
    bounds = ((0.50, 0.48, 0.52), (0.40, 0.39, 0.41), (0.35, 0.20, 0.50))
    for one, name, (mean, low, high) in zip(methods, "abc", bounds, strict=True):
        one["method"] = name
        one["mean"]["cas"], one["interval"]["cas"] = mean, [low, high]
    page = parse(write_report(edited(run, tmp_path, methods=methods)).read_text())
    lead = page.one(cls="lead").text
    assert "clear of" not in lead
    assert "overlaps that of c" in lead


def test_of_many_methods_a_sentence_names_a_few():
    names = [f"m{k}" for k in range(60)]
    summary = {"mean": {"cas": 0.5}, "interval": {"cas": [0.4, 0.6]}, "clusters": 0}
    entries = [SimpleNamespace(name=name, summary=summary, tail={}, ink="a") for name in names]
    assert "those of m1, m2, m3 and 56 others, so their order" in headline(entries, [])[0]
    assert "those of m1, m2 and m3, so" in headline(entries[:4], [])[0]
    assert "independent cases" not in _caption(entries)
    entries[0].summary = summary | {"clusters": 5}
    assert "as few as 5 independent cases" in _caption(entries)


def test_cas_v2_stands_beside_cas_v1(run, tmp_path):
    name = json.loads((run / "summary.json").read_text())["methods"][0]["method"]
    tail = [
        {"method": name, "label": label, "alpha": 0.1, "n": 60, "share_low": 0.3, "low": 0.2,
         "high": 0.4, "real_share_low": 0.09, "real_low": 0.04, "real_high": 0.15}
        for label in ("", "x")
    ]  # fmt: skip
    block = {"version": "cas-v2", "alpha": 0.1, "tail": tail}
    page = parse(write_report(edited(run, tmp_path, cas_v2=block)).read_text())
    _, lines = table(page, "The two tails, 95% intervals below")
    assert [line[0].text for line in lines] == [name, "Real", "Floor"]
    assert "30.0%" in lines[0][3].text


def test_warns_where_a_method_scores_above_the_real_images(page):
    remarks = [p.text for p in page.by_id("summary").all("p", "remark")]
    found = [text for text in remarks if "is above Real's" in text]
    assert any(text.startswith("CRAFT & co: VDC") for text in found)
    assert not any(text.startswith("TI+LoRA") for text in found)
    # Nothing says that a reward trained it.
    assert not any("reward hacking" in text for text in found)


def test_warns_where_tau_lies_between_the_modes_of_real(page):
    text = page.by_id("distribution").text
    assert "boundary between the two modes" in text
    # What it tells the reader to read is there.
    assert "Stability of the low-alignment rate" in text
    _, lines = table(page, "Low-alignment rate by either score")
    assert [line[0].text for line in lines] == ["CRAFT & co", "TI+LoRA"]


def test_truncation_tables_count_the_rows(page, rows):
    _, lines = table(page, "Prompts")
    mine = rows[rows["method"] == "TI+LoRA"]
    (cells,) = [line for line in lines if line[0].text == "TI+LoRA"]
    assert [cells[1].text, cells[2].text] == [str(len(mine)), str(mine["prompt_truncated"].sum())]
    _, lines = table(page, "Checklists")
    assert {c[0].text: c[2].text for c in lines if c[2].text == "cut"} == {"Cardiomegaly": "cut"}


def test_failures_name_file_and_reason(page):
    _, lines = table(page, "Images that could not")
    assert [line[1].text for line in lines] == ["generated", "generated"]
    assert lines[0][0].text == "CRAFT & co/1/0003.png"
    assert "truncated file <i>after 12 bytes</i>" in lines[0][3].text


def test_says_which_scores_are_missing_and_what_to_add(page):
    _, lines = table(page, "Scores that could not")
    assert [[c.text for c in line] for line in lines] == [
        ["VDC", "1 of 298", "no prompt", "a `prompt` column"]
    ]
    assert "take the prompt of their generated partners" in page.one("header").text


def test_provenance_names_encoder_inputs_and_command(page):
    text = page.by_id("provenance").text
    for part in ("0f" * 32, "ab" * 32, "cas score 'gen dir' real --out run", "torch"):
        assert part in text


# -- safety -------------------------------------------------------------------------------------


def test_markup_in_labels_prompts_and_errors_is_escaped(html, page):
    assert "<script>alert" not in html
    assert "onerror=alert(1)>" not in html
    assert "<i>after" not in html
    assert len(page.all("script")) == 2
    assert all(image.attrs.get("src", "").startswith("data:") for image in page.all("img"))
    assert LABEL_WITH_MARKUP in page.by_id("classes").text


def test_policy_admits_exactly_the_scripts_of_the_page(page):
    (policy,) = [m.attrs["content"] for m in page.all("meta") if "http-equiv" in m.attrs]
    assert "default-src 'none'" in policy
    digests = {
        base64.b64encode(hashlib.sha256("".join(s.children).encode()).digest()).decode()
        for s in page.all("script")
    }
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests


def test_loads_nothing_from_elsewhere(html, page):
    for element in page.all():
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = element.attrs.get(name, "")
            assert value == "" or value.startswith(("data:", "#")), (element.tag, value)
        assert not any(name.startswith("on") for name in element.attrs), element.attrs
    assert not re.search(r"@import|url\(|https?://", html)


# -- form ---------------------------------------------------------------------------------------


def test_headings_descend_one_level_at_a_time(page):
    levels = [int(e.tag[1]) for e in page.all() if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_ids_are_unique_and_the_navigation_leads_to_them(page):
    ids = [e.attrs["id"] for e in page.all() if "id" in e.attrs]
    assert len(ids) == len(set(ids))
    for anchor in page.one("nav").all("a"):
        assert anchor.attrs["href"].removeprefix("#") in ids


def test_pictures_have_alternatives_and_sizes(page):
    images = page.all("img")
    assert images
    assert all(i.attrs["alt"] and i.attrs["width"] and i.attrs["height"] for i in images)
    drawn = [e for e in page.all("svg") if "aria-hidden" not in e.attrs]
    assert all(e.attrs.get("aria-label") for e in drawn)


def test_same_run_gives_the_same_bytes_whatever_its_timing(run, html, tmp_path):
    again = write_report(edited(run, tmp_path, timing={"seconds": 9999.5}))
    assert again.read_text(encoding="utf-8") == html


def test_a_folder_without_a_run_is_refused_with_the_fix(tmp_path):
    with pytest.raises(InputError, match=r"no summary\.json.*finished run"):
        write_report(tmp_path)


def test_a_large_run_stays_small(tmp_path):
    run = write_synthetic_run(tmp_path, cases=5000, images=False)
    target = write_report(run)
    assert target.stat().st_size < 400_000
    assert len(parse(target.read_text()).all("li", "card")) == 36


def test_without_prompts_cas_stays_empty_and_the_report_says_so(run, rows, tmp_path):
    summary = json.loads((run / "summary.json").read_text())
    bare = rows.assign(vdc=np.nan, ccs=np.nan, cas=np.nan, prompt="")
    bare = bare.assign(prompt_tokens=pd.NA, checklist_tokens=pd.NA)
    for method in summary["methods"]:
        method["tail"] = {}
        for block in (method["mean"], *method["per_class"].values()):
            block |= {"vdc": None, "ccs": None, "cas": None}
        method["interval"] |= {"vdc": None, "ccs": None, "cas": [None, None]}
    copy = edited(
        run, tmp_path, rows=bare, methods=summary["methods"], tau=None, real=None, floor=None
    )
    page = parse(write_report(copy).read_text())
    assert "CAS could not be computed" in page.one(cls="lead").text
    _, lines = table(page, "Means over images")
    assert {line[5].text for line in lines} == {"–"}
    assert "Lowest SFS first" in page.by_id("worst").text
    assert not [e for e in page.all("section") if e.attrs["id"] in ("distribution", "text")]
