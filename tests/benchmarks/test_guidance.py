"""Each set of images is drawn from the adapter and with the guidance that it is named after."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.phantoms.craft import SAMPLING, Experiment
from benchmarks.phantoms.guidance import ADAPTED, GUIDANCE, Guided

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
