"""``--offline`` opens no socket, in any verb that has it: what is asked for here or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.support.sockets import refuse_sockets

import cas_metric
from cas_metric.cli.main import app as cas
from cas_metric.cli.main import main as run_cas
from cas_metric.phantoms.dataset import write_phantom_dataset
from craft_trainer.cli.main import app as craft_trainer
from craft_trainer.cli.main import main as run_craft_trainer

PROGRAMS = {"cas": (cas, run_cas), "craft-trainer": (craft_trainer, run_craft_trainer)}
SETS = ["data/train", "data/test"]
#: Verb to words that need nothing, or nothing but what is here.
HERE = {
    "cas score": [*SETS, "--unpaired", "--encoder", "phantom-siglip"],
    "cas memorization": [*SETS, "--encoder", "phantom-dino"],
    "cas diversity": ["data/test", "--no-lpips", "--encoder", "phantom-dino"],
    "cas fidelity": [*SETS, "--encoder", "phantom-dino"],
    "cas explain": ["run", "--count", "1"],
    "cas select": ["run", "--keep", "top:0.5", "--out", "selected"],
    "cas encoders check": ["phantom-siglip"],
    "cas encoders tokens": ["phantom-siglip", "a plaque"],
    "cas encoders checklists": ["phantom-siglip", "--domain", "chexpert"],
}
#: Verb to words that name a model which is not here (exit 4), or a server (exit 2).
ELSEWHERE = {
    "cas score": [*SETS, "--unpaired", "--encoder", "siglip"],
    "cas memorization": [*SETS, "--encoder", "dinov2"],
    "cas diversity": ["data/test", "--no-lpips", "--encoder", "someone/model"],
    "cas fidelity": [*SETS, "--encoder", "rad-dino"],
    "cas audit": ["data/test", "--mllm", "local:someone/model"],
    "cas judge": ["a=data/test", "b=data/test", "--mllm", "openai:model"],
    "cas explain": ["of-another-encoder"],
    "cas select": ["of-another-encoder", "--keep", "top:0.5", "--out", "selected"],
    "cas encoders check": ["siglip"],
    "cas encoders tokens": ["siglip", "a plaque"],
    "cas encoders checklists": ["siglip", "--domain", "chexpert"],
    "craft-trainer enrich": ["data/train", "--mllm", "openai:model", "--out", "enriched"],
}
#: Verbs that load no model: ``tests/cas_metric/cli/test_offline.py`` tries them.
WITHOUT_A_MODEL = {"cas compare", "cas leakage", "cas utility"}


def _verbs(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Every verb below a command that takes ``--offline``."""
    context = command.context_class(command, info_name=path[-1])
    if not hasattr(command, "list_commands"):
        if any(one.name == "offline" for one in command.params):
            yield " ".join(path)
        return
    for name in command.list_commands(context):
        yield from _verbs(command.get_command(context, name), (*path, name))


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    return refuse_sockets(monkeypatch, tmp_path / "empty")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a run over them, and the same as if an encoder had scored it that is not here."""
    folder = tmp_path_factory.mktemp("made")
    write_phantom_dataset("chexpert", folder / "data", train=12, test=8)
    images = folder / "data" / "test"
    run = cas_metric.score(
        images, images, encoder="phantom-siglip", cache="none", out=folder / "run"
    )
    other = dict(run.summary, encoder={**run.summary["encoder"], "name": "siglip"})
    replace(run, summary=other).save(folder / "of-another-encoder")
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CAS_MLLM_API_KEY", "no-key")


def _run(verb: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    program, *rest = verb.split()
    monkeypatch.setattr(sys, "argv", [program, *rest, *words, "--offline"])
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program][1]()
    return int(ended.value.code or 0)


def test_every_verb_with_the_option_is_tried() -> None:
    found = [
        v for n, (app, _) in PROGRAMS.items() for v in _verbs(typer.main.get_command(app), (n,))
    ]
    assert set(found) == set(ELSEWHERE) | WITHOUT_A_MODEL
    assert set(HERE) < set(ELSEWHERE)


@pytest.mark.parametrize("verb", HERE)
def test_what_is_here_asks_nobody(
    verb: str,
    world: None,
    sockets: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _run(verb, HERE[verb], monkeypatch) == 0
    assert sockets == []


@pytest.mark.parametrize("verb", ELSEWHERE)
def test_what_is_elsewhere_is_refused_and_asks_nobody(
    verb: str,
    world: None,
    sockets: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(verb, ELSEWHERE[verb], monkeypatch) in (2, 4)
    assert "fix:" in capsys.readouterr().err
    assert sockets == []
