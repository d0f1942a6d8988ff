"""The memorization report shows its two tables and its pairs, and claims no more."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.cas_metric.report.page import parse, table

from cas_metric.report.memorization import (
    Findings,
    NearDuplicates,
    NeighbourDistances,
    SuspiciousPair,
    write_memorization_report,
)
from cas_metric.statistics.uncertainty import Interval

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    files = []
    for index in range(4):
        files.append(folder / f"{index}.png")
        Image.fromarray(RNG.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(files[-1])
    return Findings(
        domain="phantom-chexpert",
        verdict="3 of 200 images of <b>CRAFT</b> resemble a training image.",
        encoder="phantom-dino",
        duplicates=[
            NearDuplicates("CRAFT", 200, 1, 2, 3, 0.9712),
            NearDuplicates("TI", 200, 0, 0, 0, 0.8431),
        ],
        neighbours=[
            NeighbourDistances(
                "CRAFT", 0.1303, 0.1370, Interval(-0.0067, -0.0101, -0.0031, 0.95), 0.002,
                RNG.gamma(4, 0.03, 200),
            ),
        ],
        reference=RNG.gamma(4, 0.032, 200),
        pairs=[
            SuspiciousPair(files[0], files[1], "CRAFT", "Pneumonia", 0.9712, 2, 0.0042, ("SSIM",)),
            SuspiciousPair(files[2], folder / "absent.png", "TI", ssim=0.8431),
        ],
        provenance={"command": ["cas", "memorization"], "versions": {"numpy": "2.4"}},
        embedded_world=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(findings, tmp_path_factory):
    path = write_memorization_report(findings, tmp_path_factory.mktemp("out"))
    return parse(path.read_text(encoding="utf-8"))


def test_tables_hold_the_counts_and_distances(page):
    _, lines = table(page, "Generated images that resemble")
    assert [[c.text for c in line] for line in lines] == [
        ["CRAFT", "200", "1", "2", "3", "0.971"],
        ["TI", "200", "0", "0", "0", "0.843"],
    ]
    _, lines = table(page, "Mean cosine distance")
    assert [c.text for c in lines[0]] == [
        "CRAFT", "0.1303", "0.1370", "−0.0067 −0.0101 to −0.0031", "0.002",
    ]  # fmt: skip


def test_pairs_stand_side_by_side_with_their_scores(page):
    first, second = page.all("li", "card")
    assert len(first.all("img")) == 2
    assert [d.text for d in first.one("dl").all("dd")] == ["0.971", "2 bits", "0.0042"]
    assert "flagged by SSIM" in first.text
    assert len(second.all(cls="placeholder")) == 1
    assert [d.text for d in second.one("dl").all("dd")] == ["0.843", "–", "–"]


def test_distances_are_drawn_against_the_real_test_images(page):
    names = [e.text for e in page.by_id("neighbours").all(cls="row-name")]
    assert names == ["CRAFT", "Real test"]


def test_verdict_is_escaped_and_followed_by_its_limit(page):
    assert "<b>CRAFT</b>" in page.one(cls="lead").text
    assert "no guarantee of privacy" in page.one("header").text
    assert "not medical data" in page.one(cls="notice").text


def test_pixel_space_alone_gives_a_shorter_report(findings, tmp_path):
    few = Findings("set", "Nothing found.", "", findings.duplicates)
    page = parse(write_memorization_report(few, tmp_path).read_text(encoding="utf-8"))
    assert [s.attrs["id"] for s in page.all("section")] == ["duplicates", "provenance"]


def test_same_findings_give_the_same_bytes(findings, tmp_path):
    first = write_memorization_report(findings, tmp_path / "a").read_bytes()
    assert write_memorization_report(findings, tmp_path / "b").read_bytes() == first
