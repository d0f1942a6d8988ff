"""cas-v1 and cas-v2 side by side: the figures of the summary, Real and the floor among them."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from tests.cas_metric.report.page import parse, table
from tests.cas_metric.report.synthetic_run import CLASSES, write_synthetic_run

from cas_metric.report.document import write_report

METHODS = {"CRAFT & co": 0.02, "TI+LoRA": 0.3}


def line(method, label, alpha):
    """One line of ``tail``; the lowest level has too few real images for an interval."""
    own = METHODS[method] + alpha + 0.01 * len(label)
    ends = (None, None) if alpha < 0.1 else (own - 0.01, own + 0.02)
    return {
        **{"method": method, "label": label, "alpha": alpha, "n": 60, "n_low": 6},
        **{"share_low": own, "low": ends[0], "high": ends[1], "real_n": 60},
        **{"real_share_low": alpha + 0.003, "real_low": alpha - 0.01, "real_high": alpha + 0.04},
    }


def texts(page, caption):
    head, rows = table(page, caption)
    return head, *([cell.text for cell in row] for row in rows)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = write_synthetic_run(tmp_path_factory.mktemp("calibrated"), images=False)
    summary = json.loads((run / "summary.json").read_text())
    summary["cas_v2"] = {
        "alpha": 0.1,
        "calibration": {"ranked_among": {name: 20 + k for k, name in enumerate(CLASSES)}},
        "tail": [line(m, k, a) for m in METHODS for k in ("", *CLASSES) for a in (0.05, 0.1)],
    }
    (run / "summary.json").write_text(json.dumps(summary))
    return parse(write_report(run).read_text(encoding="utf-8")), run


def test_both_tails_of_every_method_stand_above_those_of_real_and_the_floor(page):
    page, run = page
    head, *rows = texts(page, "The two tails")
    cells = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(cells) == [*METHODS, "Real", "Floor"]
    assert cells["CRAFT & co"]["low at 10%"] == "12.0% 11.0%–14.0%"
    assert cells["Real"]["low at 10%"] == "10.3% 9.0%–14.0%"
    assert cells["Floor"]["low at 10%"] == "–"
    files = (run / f"{name}_per_image.parquet" for name in ("real", "floor"))
    real, floor = (pd.read_parquet(file)["cas"] for file in files)
    assert cells["Real"]["below τ"] == "25.0%"
    assert cells["Floor"]["below τ"] == f"{100 * (floor < real.quantile(0.25)).mean():.1f}%"


def test_the_low_share_is_shown_by_class_and_by_level(page):
    page, _ = page
    head, *rows = texts(page, "Low at 10%, by class")
    assert head == ["Class", *METHODS, "Real, held out"]
    assert [row[0] for row in rows] == list(CLASSES)
    assert rows[0][1] == "24.0% 23.0%–26.0%"  # 0.02 + 0.1 + 12 letters
    _, lowest, tenth = texts(page, "Low at every level")
    assert lowest == ["5%", "7.0%", "35.0%", "5.3% 4.0%–9.0%"]
    assert tenth[0] == "10%"
    assert tenth[2].startswith("40.0%")


def test_the_text_says_what_the_images_were_ranked_among(page):
    text = page[0].by_id("calibrated").text
    assert "(20 or more of them)" in text
    assert "about 10% are low" in text
    assert "up to 0.1 is low" in page[0].by_id("worst").text


def test_a_run_of_cas_v1_has_no_such_section(tmp_path):
    page = parse(write_report(write_synthetic_run(tmp_path, images=False)).read_text())
    assert not [one for one in page.all("section") if one.attrs["id"] == "calibrated"]
    assert "is low." not in page.by_id("worst").text
