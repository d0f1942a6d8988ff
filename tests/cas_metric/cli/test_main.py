"""The entry point: quick help, one message an error, every verb importable."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cas_metric.cli.main import VERBS

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


def test_an_error_is_one_message_with_a_fix_and_exit_code_2(tmp_path) -> None:
    done = run("score", str(tmp_path / "nothing"), str(tmp_path / "here"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "nothing" in done.stderr


def test_an_unknown_verb_is_refused() -> None:
    done = run("scroe")
    assert done.returncode == 2
    assert "scroe" in done.stderr
