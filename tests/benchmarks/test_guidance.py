"""Each set of images is drawn from the adapter and with the guidance that it is named after."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.phantoms.craft import Experiment
from benchmarks.phantoms.guidance import ADAPTED, GUIDANCE, Guided
from benchmarks.phantoms.recipes import SAMPLING

DOMAIN = "phantom-chexpert"


@pytest.mark.parametrize("adapter", [*ADAPTED, "cheaper"])
def test_a_set_is_what_its_name_says(adapter: str, tmp_path: Path) -> None:
    guided, whole = Guided(DOMAIN, tmp_path, (*ADAPTED, "cheaper")), Experiment(DOMAIN, tmp_path)
    for scale in GUIDANCE:
        command = guided.images(f"{adapter}-{scale:g}").command
        assert command[2] == str(whole.continued(adapter).result)
        assert command[-1] == f"sampling.guidance={scale:g}"


def test_the_guidance_of_training_is_among_them() -> None:
    assert GUIDANCE[-1] == SAMPLING["guidance"]


def test_more_seeds_are_drawn_into_a_folder_of_their_own(tmp_path: Path) -> None:
    two, five = Guided(DOMAIN, tmp_path, ADAPTED), Guided(DOMAIN, tmp_path, ADAPTED, 5)
    assert two.folder != five.folder
    command = five.images("craft-2").command
    assert command[command.index("--seeds") + 1] == "5"
