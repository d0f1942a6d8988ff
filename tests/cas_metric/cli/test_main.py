"""The entry point: quick help, one message an error, every verb importable."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cas_metric.cli import asking, entry
from cas_metric.cli.main import VERBS, app
from cas_metric.errors import InputError
from craft_trainer.cli.main import app as craft_trainer

HEAVY = ("torch", "transformers", "pandas", "scipy", "matplotlib", "numpy")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cas_metric.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_verb_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['cas', '--help']\n"
        "from cas_metric.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_waits_for_no_model_library(verb: str) -> None:
    code = (
        f"import sys; sys.argv = ['cas', {verb!r}, '--help']\n"
        "from cas_metric.cli.main import app\n"
        "try: app()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('HEAVY', [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    assert "install-completion" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="its names of files have one encoding")
@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1"])
def test_names_are_utf8_whatever_the_locale(tmp_path: Path, locale: str) -> None:
    """An accent was a UnicodeEncodeError."""
    folder = tmp_path / "réal" / "Naïve"
    folder.mkdir(parents=True)
    (folder / "ö.png").write_bytes(b"")
    words = [*("-m", "cas_metric.cli", "leakage"), *[str(folder.parent)] * 2]
    environment = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for more in ({}, {"PYTHONIOENCODING": "latin-1"}):
        done = subprocess.run(
            [sys.executable, *words, "--out", str(tmp_path / "日")],
            capture_output=True,
            check=False,
            env={**os.environ, **environment, **more},
        )
        assert done.returncode == 3, done.stderr  # the image is empty
        report, summary = (str(tmp_path / "日" / one) for one in ("report.html", "summary.json"))
        shown = report.encode("ascii", "backslashreplace").decode() if more else report
        assert f"Report: {shown}" in done.stdout.decode()
        assert "Naïve/ö.png" in str(json.loads(Path(summary).read_bytes()))


def test_an_error_is_one_message_with_a_fix_and_exit_code_2(tmp_path) -> None:
    done = run("score", str(tmp_path / "nothing"), str(tmp_path / "here"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "nothing" in done.stderr


def test_an_unknown_verb_is_refused() -> None:
    done = run("scroe")
    assert done.returncode == 2
    assert "scroe" in done.stderr
    assert "'score'" in done.stderr


def test_a_name_like_no_verb_is_answered_with_all_of_them() -> None:
    result = CliRunner().invoke(app, ["zzzzzz"], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert all(verb in result.output for verb in VERBS)


@pytest.mark.parametrize("words", [("--version",), ("domains", "show", "origa", "--json")])
def test_a_full_disk_behind_stdout_is_one_message(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cas_metric.cli", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("cas: the results cannot be written to standard output")
    assert "  fix: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_without_a_fix_of_its_own_names_the_help(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["cas", "score"])

    def failing() -> None:
        raise InputError("a column is missing")

    with pytest.raises(SystemExit) as ended:
        entry.run(failing, "cas")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "cas: a column is missing\n  fix: `cas score --help` says what is expected\n"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_sixty_columns(verb: str) -> None:
    words = [verb, "--help"] if verb else ["--help"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "60", "TERMINAL_WIDTH": "60"})
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 60


def test_the_verbs_that_ask_a_model_take_the_same_options() -> None:
    programs = ((app, "audit"), (app, "judge"), (craft_trainer, "enrich"))
    taken = []
    for program, verb in programs:
        group = typer.main.get_command(program)
        command = group.get_command(typer.Context(group), verb)
        options = {one.name: (one.opts, one.default, one.help) for one in command.params}
        shared = ("mllm", "domain", "seed", "cases", "draw_seed", "as_json", *asking._OPTIONS)
        taken.append({name: options[name] for name in shared})
        taken[-1]["order"] = [name for name in options if name in shared]
        (given,) = (one for one in command.params if one.param_type_name == "argument")
        assert (options["out"][:2], given.metavar[:6]) == ((["--out"], None), "SOURCE")
    assert taken[0] == taken[1] == taken[2]
    fields = {field.name: field.default for field in dataclasses.fields(asking.Asking)}
    del fields["spec"]
    assert fields == {name: default for name, (_, default) in asking._OPTIONS.items()}


def test_the_shell_completes_verbs_without_importing_them() -> None:
    environment = {
        **os.environ,
        "_CAS_COMPLETE": "complete_bash",
        "COMP_WORDS": "cas me",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "cas me",
    }
    code = (
        "import sys; sys.argv = ['cas']\n"
        "from cas_metric.cli.main import app\n"
        "try: app(prog_name='cas')\n"
        "except SystemExit: pass\n"
        "print('IMPORTED', 'cas_metric.cli.memorization' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.split() == ["memorization", "IMPORTED", "False"]


def test_a_standard_output_that_is_closed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    entry.run(lambda: print("a result"), "cas")
    assert sys.stdout is not None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["leakage", "", "test"], "TRAIN"),
        (["score", "", "real"], "GEN"),
        (["score", "gen", ""], "REAL"),
        (["score", "gen", "real", "--train", ""], "--train"),
        (["score", "gen", "real", "--probe="], "--probe"),
        (["score", "gen", "real", "--allow-root", "a", "--allow-root", ""], "--allow-root"),
        (["memorization", "gen", "train", "--test", ""], "--test"),
        (["diversity", "gen", "--real", ""], "--real"),
        (["study", "status", ""], "DIR"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    words: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["cas", *words])
    with pytest.raises(SystemExit) as ended:
        entry.run(app, "cas")
    assert ended.value.code == 2
    assert f"{named} is empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["--cache="]])
def test_a_folder_that_an_unset_variable_names_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was the current directory."""
    called: list[str] = []
    monkeypatch.setattr("sys.argv", ["cas", "score", "gen", "real", *words])
    with pytest.raises(SystemExit) as ended:
        entry.run(lambda: called.append("run"), "cas")
    assert (ended.value.code, called) == (2, [])
    assert f"{words[0].rstrip('=')} is empty" in capsys.readouterr().err
