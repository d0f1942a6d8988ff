"""``--offline`` of the verbs that read images or runs: one flag, and no socket is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.clinical_crops import cas
from tests.support.runs import write_score_run
from tests.support.sockets import refuse_sockets
from typer.main import get_command

from cas_metric.cli.main import app

#: Verbs that read images or runs.
VERBS = (
    *("score", "compare", "memorization", "leakage", "utility", "audit", "judge", "explain"),
    *("select", "diversity", "fidelity"),
)
REMOTE = "https://localhost:9/a"


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for label in ("a", "b"):
        (tmp_path / "real" / label).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "real" / label / f"{number}.png")
    write_score_run(tmp_path / "run", "one", n=8)
    return refuse_sockets(monkeypatch, tmp_path / "empty")


def test_every_verb_that_reads_images_has_the_option() -> None:
    root: Any = get_command(app)
    found = {name: root.get_command(None, name) for name in VERBS}
    help_of = {
        name: [one.help for one in command.params if "--offline" in one.opts]
        for name, command in found.items()
    }
    assert help_of == {name: ["Never use the network."] for name in VERBS}


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "run", "--resamples", "100"),
        ("leakage", "real", "real", "--no-geometry", "--out", "out"),
        (
            *("utility", "real", "real", "real", "--model", "small", "--size", "16"),
            *("--seeds", "1", "--scale", "1", "--epochs", "1", "--batch-size", "5", "--out", "out"),
        ),
    ],
    ids=lambda words: words[0],
)
def test_nobody_is_asked(words: tuple[str, ...], sockets: list[object]) -> None:
    done = cas(*words, "--offline")
    assert done.code == 0, done
    assert sockets == []


@pytest.mark.parametrize(
    "words",
    [
        ("leakage", REMOTE, "real"),
        ("leakage", "real", REMOTE),
        ("utility", REMOTE, "real", "real", "--model", "small"),
        ("utility", "real", REMOTE, "real", "--model", "small"),
        ("utility", "real", "real", f"a={REMOTE}", "--model", "small"),
    ],
)
def test_what_is_on_the_network_is_refused(words: tuple[str, ...], sockets: list[object]) -> None:
    pytest.importorskip("aiohttp")
    done = cas(*words, "--offline")
    assert (done.code, "--offline uses none" in done.err) == (2, True), done
    assert sockets == []


def test_a_run_whose_images_name_the_network_is_refused(sockets: list[object]) -> None:
    pytest.importorskip("aiohttp")
    Path("real/cas.yaml").write_text(f"train: {REMOTE}\n")
    summary = Path("run/summary.json")
    inputs = f'"provenance": {{"inputs": {{"generated": {{"root": "{Path("real").absolute()}"}}}}}}'
    summary.write_text(summary.read_text().replace("{", f"{{{inputs}, ", 1))
    done = cas("compare", "run", "--resamples", "100", "--offline")
    assert (done.code, "--offline uses none" in done.err) == (2, True), done
    assert sockets == []
