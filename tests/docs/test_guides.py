"""Tables of the guides that repeat something say what their source says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from tests.docs.blocks import ROOT

from cas_metric import tracking
from cas_metric.discovery import named_modules
from cas_metric.encoders.registry import list_encoders

GUIDE = ROOT / "docs" / "guide"


def rows(page: Path) -> list[list[str]]:
    """Cells of every row of every table."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_model_zoo_is_that_of_the_registry() -> None:
    shown = {row[0].strip("`"): row for row in rows(GUIDE / "model-zoo.md") if row[0][:1] == "`"}
    known = {one.alias: one for one in list_encoders()}
    assert list(shown) == list(known)
    for alias, one in known.items():
        _, purpose, reads, pixels, _, licence, before = (*shown[alias], "")[:7]
        assert purpose == one.purpose
        assert reads == (f"{one.token_limit} tokens" if one.token_limit else "images only")
        assert (pixels, licence) == (str(one.image_size), one.licence)
        assert ("terms to accept" in before) is one.gated


def test_every_tracker_and_its_extra_is_shown() -> None:
    extras = [row[1].strip("`") for row in rows(GUIDE / "trackers.md")[1:]]
    known = named_modules(Path(tracking.__file__).parent)
    assert set(known) <= set(extras)
    project = tomllib.loads((ROOT / "packages/cas-metric/pyproject.toml").read_text())["project"]
    assert {*known, "ray"} <= set(project["optional-dependencies"])


def test_the_five_measures_are_those_that_were_measured() -> None:
    named = {
        "wrong class": "wrong", "blurred": "blurred", "noisy": "noisy", "pale": "pale",
        "colours exchanged": "recoloured", "colours exchanged (on grey)": "recoloured",
        "unspoilt": "unspoilt sets",
    }  # fmt: skip
    measured = [row for row in rows(ROOT / "docs/results/real-images.md") if len(row) == 6]
    guide = [row for row in rows(GUIDE / "which-measure.md") if len(row) == 6]
    assert guide
    for row in guide:
        world = "chest" if row in guide[: len(guide) // 2] else "skin"
        if row[0] not in named:
            continue
        both = [one for one in measured if one[0] == named[row[0]]]
        found = both[-2] if world == "chest" else both[-1]
        areas = [cell.split(" ")[0] for cell in found[1:4]]
        told = [cell.strip("*").removesuffix(" (rises)") for cell in row[1:]]
        if row[0] != "unspoilt":
            assert told[:3] == areas, row
        ends = [" to ".join(f"{float(end):.0f}" for end in found[4].split(" to ")), found[5]]
        assert told[3:] == ends, row


def messages() -> list[str]:
    """Every text in the sources, with … for what is put into it."""
    found = []
    for path in (ROOT / "packages").glob("*/src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [one.value if isinstance(one, ast.Constant) else "…" for one in parts]
            if all(isinstance(text, str) for text in texts) and isinstance(
                node, ast.JoinedStr | ast.Constant
            ):
                found.append("".join(texts))
    return found


def test_every_error_of_the_troubleshooting_page_is_one_that_is_raised() -> None:
    text = "\n".join(messages())
    told = [row[0] for row in rows(GUIDE / "troubleshooting.md") if row[0].startswith("`")]
    assert len(told) > 15
    for message in re.findall(r"`([^`]+)`", " ".join(told)):
        pattern = "(?:…|[^\n])*?".join(re.escape(part) for part in message.split("…"))
        assert re.search(pattern, text), message


def test_numbers_that_are_repeated_are_those_that_were_measured() -> None:
    guide = {row[0]: row[1:] for row in rows(GUIDE / "which-measure.md")}
    results = ROOT / "docs" / "results"
    chest = {}
    for row in rows(results / "validity.md"):  # of the first domain, the radiographs
        if len(row) == 12:
            chest.setdefault(row[0], [cell.split(" ")[0] for cell in row[2:]])
    for failure in (
        "wrong class",
        "missing finding",
        "wrong side",
        "blur",
        "noise",
        "low contrast",
    ):
        cas, _, _, _, _, _, clip, ssim, lpips, nearest = chest[failure]
        assert guide[failure][:5] == [cas, clip, ssim, lpips, nearest], failure
    tables = rows(results / "statistics-coverage.md")
    coverage = {row[0]: row[1:] for row in tables if len(row) == 6 and row[0] != "interval"}
    for here, there in (
        ("mean CAS, common wrong diagnoses", "mean CAS, common wrong diagnoses"),
        ("difference of two methods in CAS, the same", "difference in CAS, common wrong diagnoses"),
        ("a rate (DD, passed), common", "rate, common (DD, pass rate)"),
        ("a rate, rare", "rate, rare (DD, pass rate)"),
        ("share below tau, few failures (world 1)", "low-alignment rate, world 1"),
        ("share below tau, many failures (world 2)", "low-alignment rate, world 2"),
        ("10th percentile", "P10"),
        ("win rate of a preference study", "win rate"),
    ):
        widths = [re.sub(r".*\((.*)\)", r"\1", cell) for cell in coverage[there][2:5]]
        assert guide[here] == widths, here
