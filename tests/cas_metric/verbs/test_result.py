"""No verb writes over what another run, another verb or a person put into a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.support import clinical_trees as trees
from tests.support.clinical_crops import cas
from tests.support.runs import score_rows, write_score_run
from typer.main import get_command

from cas_metric.cli.main import app
from cas_metric.datasets import Request, prepare
from cas_metric.datasets.preparing import write
from cas_metric.errors import InputError
from cas_metric.manifest import FolderConfig, write_folder_config
from cas_metric.runs import Run
from cas_metric.runs.folder import Origin, claim
from cas_metric.verbs.leakage import leakage
from cas_metric.verbs.result import FolderResult, Result

#: Verbs that fill a folder, and their arguments; they refuse before anything is computed.
FOLDERS: Final = {
    "score": ("gen", "real", "--encoder", "phantom-siglip"),
    "memorization": ("gen", "real", "--no-features"),
    "leakage": ("gen", "real"),
    "utility": ("real", "real", "gen", "--model", "small"),
    "audit": ("gen", "--mllm", "phantom-llava", "--domain", "chexpert"),
    "judge": ("A=gen", "B=real", "--mllm", "phantom-llava", "--domain", "chexpert"),
}
#: Verbs whose files have names of their own: they end with `Result.save`.
NAMED: Final = (
    *("compare", "explain", "select", "gate", "preference", "correlate", "diversity", "fidelity"),
    "check",
)
#: Further commands with --out, which refuse by rules of their own, tested beside them, or write
#: one file that the user names.
OWN: Final = (
    *("demo", "study template", "study export", "study backup", "domains new", "encoders check"),
    *("encoders checklists", "datasets prepare", "datasets shots", "datasets split"),
)


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    from click import Context

    context = Context(command)
    for name in command.list_commands(context):
        yield from _commands(command.get_command(context, name), (*path, name))


def test_every_verb_that_writes_into_a_folder_is_known_here() -> None:
    writing = {
        name
        for name, command in _commands(get_command(app))
        if any("--out" in one.opts for one in command.params)
    }
    assert writing == {*FOLDERS, *NAMED, *OWN}


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(5)
    for name in ("gen", "real"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
        rows = "".join(f"{k}.png,{('Pneumonia', 'Cardiomegaly')[k % 2]},a text\n" for k in range(4))
        (tmp_path / name / "metadata.csv").write_text(f"file_name,label,prompt\n{rows}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    return tmp_path


OTHERS: Final = (
    {"provenance": {"origin": {"generated": "/elsewhere/gen", "real": "/elsewhere/real"}}},
    {"kind": "another verb"},
)


@pytest.mark.parametrize("verb", FOLDERS)
@pytest.mark.parametrize("other", OTHERS, ids=["run", "result"])
def test_the_folder_of_another_run_or_verb_is_refused_first(
    sets: Path, verb: str, other: dict[str, Any]
) -> None:
    content = json.dumps(other)
    (sets / "taken").mkdir()
    (sets / "taken" / "summary.json").write_text(content)
    done = cas(verb, *FOLDERS[verb], "--out", "taken")
    assert (done.code, "holds another" in done.err) == (2, True), done
    assert (sets / "taken" / "summary.json").read_text() == content
    assert [one.name for one in (sets / "taken").iterdir()] == ["summary.json"]


def test_a_result_is_replaced_by_itself_alone(sets: Path) -> None:
    words = ("leakage", "gen", "real", "--no-geometry", "--out", "out")
    assert cas(*words).code == 0
    before = (sets / "out" / "summary.json").read_bytes()
    assert cas(*words).code == 0
    done = cas("leakage", "real", "gen", "--no-geometry", "--out", "out")
    assert done.code == 2
    assert "test" in done.err
    assert (sets / "out" / "summary.json").read_bytes() == before
    done = cas("score", "gen", "real", "--encoder", "phantom-siglip", "--out", "out")
    assert (done.code, "verb leakage" in done.err) == (2, True)
    with pytest.raises(InputError, match="another result"):
        claim("out", Origin.of("gen", "real"))


#: Verbs whose files have names of their own: the name, a question, and another one.
QUESTIONS: Final = {
    "compare": ("comparison", ("a",), ("a", "b", "--resamples", "100")),
    "gate": ("gate", ("a", "policy.yaml"), ("b", "policy.yaml")),
    "preference": ("preference", ("ranks.csv",), ("ranks.csv", "--model", "davidson")),
    "correlate": ("correlation", ("scores.csv", "--y", "f1"), ("scores.csv", "--y", "auc")),
    "check": ("check", ("paper",), ("table.json",)),
    "diversity": (
        *("diversity", ("gen", "--no-lpips", "--encoder", "phantom-dino")),
        ("gen", "--real", "real", "--no-lpips", "--encoder", "phantom-dino"),
    ),
    "fidelity": (
        *("fidelity", ("gen", "real", "--encoder", "phantom-dino", "--neighbours", "1")),
        ("gen", "gen", "--encoder", "phantom-dino", "--neighbours", "1"),
    ),
}


@pytest.fixture
def questions(sets: Path) -> Path:
    for name in ("a", "b"):
        write_score_run(sets / name, name, n=8)
    (sets / "policy.yaml").write_text("rules: [{metric: cas, at_least: -1}]")
    ranks = "".join(f"{k},r,{1 + k % 3 // 2},{2 - k % 3 // 2}\n" for k in range(6))
    (sets / "ranks.csv").write_text(f"case,rater,A,B\n{ranks}")
    scores = "a,.3,.6,.5\nb,.4,.8,.7\nc,.5,.7,.9\n"
    (sets / "scores.csv").write_text(f"method,cas,auc,f1\n{scores}")
    row = {"label": "ours", "n": 200, "left": "81%", "right": "79%"}
    table = {"kind": "proportions", "name": "Table 2", "rows": [row]}
    (sets / "table.json").write_text(json.dumps({"title": "A paper", "tables": [table]}))
    return sets


@pytest.mark.parametrize("verb", QUESTIONS)
def test_an_answer_gives_way_to_the_same_question_alone(questions: Path, verb: str) -> None:
    name, asked, other = QUESTIONS[verb]
    for _ in range(2):
        done = cas(verb, *asked, "--out", "out")
        assert done.code == 0, done
    before = (questions / "out" / f"{name}.json").read_bytes()
    done = cas(verb, *other, "--out", "out")
    assert (done.code, "holds another result" in done.err) == (2, True), done
    assert " there, " in done.err
    # What is there at once is shown all the same; what takes long is not begun.
    assert bool(done.out) == (verb in ("gate", "correlate", "check"))
    assert (questions / "out" / f"{name}.json").read_bytes() == before


@pytest.mark.parametrize(("verb", "name"), [("explain", "explanation"), ("select", "selection")])
def test_what_takes_long_is_refused_before_it_begins(questions: Path, verb: str, name: str) -> None:
    origin = {"verb": name, "run": "/elsewhere/run"}
    (questions / "out").mkdir()
    (questions / "out" / f"{name}.json").write_text(json.dumps({"origin": origin}))
    done = cas(verb, "a", "--out", "out")
    assert done.code == 2, done
    assert f"run /elsewhere/run there, {questions / 'a'} here" in " ".join(done.err.split())


def test_what_differs_is_named_with_both_values(sets: Path) -> None:
    words = ("leakage", "gen", "real", "--no-geometry", "--out", "out")
    assert cas(*words).code == 0
    done = cas("leakage", "gen", "gen", "--no-geometry", "--out", "out")
    told = " ".join(done.err.split())
    assert f"(test {sets / 'real'} there, {sets / 'gen'} here)" in told
    assert "train" not in told


def test_what_cannot_be_saved_is_shown(questions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (questions / "file").write_text("")
    done = cas("gate", "a", "policy.yaml", "--out", "file/below")
    assert done.code == 2, done
    assert "Gate" in done.out


def test_the_default_folder_takes_another_name(sets: Path) -> None:
    first = leakage("gen", "real", geometry=False)
    assert first.save() == Path("leakage/real")
    other = sets / "other" / "real"
    other.mkdir(parents=True)
    for one in (sets / "gen").iterdir():
        (other / one.name).write_bytes(one.read_bytes())
    assert leakage("gen", other, geometry=False).folder == Path("leakage/real-2")
    assert leakage("gen", "real", geometry=False).folder == Path("leakage/real")


def test_a_result_with_a_name_of_its_own_replaces_nothing_of_a_person(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1]})
    result = Result("thing", {}, "text", {"rows": table}, files=("metadata.csv", "cas.yaml"))
    for name in result.files:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(InputError, match=rf"holds {name}"):
            result.save(folder)
        assert (folder / name).read_text() == "mine"
    assert result.save(tmp_path / "free")
    (tmp_path / "free" / "metadata.csv").write_text("by a writer")
    assert result.save(tmp_path / "free")  # thing.json says whose the files are
    (tmp_path / "free" / "thing.json").unlink()
    assert result.save(tmp_path / "free")  # an interrupted save goes on
    filled = FolderResult("thing", {}, "text", {"rows": table})
    (folder / "summary.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"holds summary\.json"):
        filled.save(folder)
    filled.save(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "summary.json").read_text()) == {"kind": "thing"}
    filled.save(tmp_path / "whole")


def test_a_run_is_saved_over_no_other_result(tmp_path: Path) -> None:
    FolderResult("audit", {"kind": "audit"}, "").save(tmp_path)
    run = Run(score_rows("a", n=3), {"protocol": "cas-v1", "encoder": {}, "methods": []})
    with pytest.raises(InputError, match="verb audit"):
        run.save(tmp_path)


def test_the_demo_and_a_prepared_data_set_replace_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "real" / "train").mkdir(parents=True)
    (tmp_path / "real" / "train" / "1.png").write_bytes(b"mine")
    assert cas("demo", "--out", tmp_path, "--images", 2).code == 2
    trees.breakhis(tmp_path / "tree")
    out = tmp_path / "out"
    out.mkdir()
    write_folder_config(out, FolderConfig(domain="chexpert", provenance={"dataset": "chexpert"}))
    with pytest.raises(InputError, match=r"cas\.yaml of something else"):
        write(prepare(Request("breakhis", tmp_path / "tree")), out)


def test_canaries_on_the_network_are_not_read_offline(sets: Path) -> None:
    pytest.importorskip("aiohttp")
    words = ("gen", "real", "--no-features", "--offline", "--canaries", "https://localhost:9/c")
    done = cas("memorization", *words)
    assert (done.code, "--offline uses none" in done.err) == (2, True), done
