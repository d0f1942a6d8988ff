"""The drawings of the documentation are pictures, and those of their sources as they are now."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks.diagrams import SOURCES, digest
from tests.docs.blocks import all_blocks, pages

DRAWN = sorted(SOURCES.glob("*.mmd"))


def test_no_page_leaves_a_diagram_to_the_reader() -> None:
    assert DRAWN
    assert not [str(block) for block in all_blocks() if block.language == "mermaid"]


@pytest.mark.parametrize("source", DRAWN, ids=lambda path: path.stem)
def test_a_picture_is_drawn_from_its_source(source: Path) -> None:
    text = source.with_suffix(".svg").read_text(encoding="utf-8")
    assert digest(source) in text, "python -m benchmarks.diagrams draws it anew"
    assert any(f"]({source.stem}.svg)" in page.read_text(encoding="utf-8") for page in pages())


@pytest.mark.parametrize("source", DRAWN, ids=lambda path: path.stem)
def test_a_picture_names_every_box_and_needs_nothing_from_elsewhere(source: Path) -> None:
    text = source.with_suffix(".svg").read_text(encoding="utf-8")
    shown = {"".join(one.itertext()).strip() for one in ET.fromstring(text).iter() if one.text}
    drawn = set(re.findall(r"\b(?!flowchart|TD)\w+", source.read_text(encoding="utf-8")))
    assert drawn <= shown
    assert not re.findall(r"<script|<foreignObject|@import|href=\"(?!#)", text)
