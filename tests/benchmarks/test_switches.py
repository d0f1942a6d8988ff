"""Every switch changes the one setting that it is named after, and its gain has the right sign."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from benchmarks.phantoms.switches import STEPS, SWITCHES, Switches, _gain

from craft_trainer.config.schema import Config, parse_config

DOMAIN = "phantom-chexpert"


def _configuration(name: str, folder: Path) -> Config:
    step = Switches(DOMAIN, folder, list(SWITCHES)).continued(name)
    (text,) = step.files.values()
    return parse_config(yaml.safe_load(text))


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_what_it_says_and_nothing_else(name: str, tmp_path: Path) -> None:
    plain, changed = (_configuration(one, tmp_path) for one in ("craft", name))
    before, after = (
        {**one.stages[0].model_dump(), "lora": one.lora.model_dump()} for one in (plain, changed)
    )
    different = {key for key in before if before[key] != after[key]}
    expected = set(SWITCHES[name])
    assert different == expected
    assert after["steps"] == STEPS
    assert plain.start == changed.start
    assert plain.sampling == changed.sampling


def test_a_gain_is_that_of_the_switch_over_craft() -> None:
    difference = {"estimate": 0.2, "low": 0.1, "high": 0.4}
    for sides in (("ema", "craft"), ("craft", "ema")):
        sign = 1 if sides[0] == "ema" else -1
        ends = sorted(sign * difference[end] for end in ("low", "high"))
        told = {"estimate": sign * 0.2, "low": ends[0], "high": ends[1]}
        pair = {"left": sides[0], "right": sides[1], "difference": told}
        assert _gain({"pairs": [pair]}, "ema") == "+0.200 [0.100, 0.400]"
    assert _gain({"pairs": []}, "craft") == "–"
