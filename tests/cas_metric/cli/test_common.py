"""How far a long verb has come, in a log."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cas_metric.cli import common


def test_a_second_count_starts_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], io.StringIO()
    monkeypatch.setattr(common.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(common, "console_err", lambda: Console(file=log, width=200))
    with common.CountProgress("images") as bar:
        for total in (624, 300):
            for done in (1, 61):
                bar(done, total)
                clock[0] += 60.0
            bar(total - 120, total)
    lines = [line for line in log.getvalue().splitlines() if " of " in line]
    assert [line.split(",")[0] for line in lines] == [
        "61 of 624 images", "504 of 624 images", "61 of 300 images", "180 of 300 images"
    ]  # fmt: skip
    assert "-" not in log.getvalue()
    assert lines[2] == "61 of 300 images, 1.0/s, 239 s left"


@pytest.mark.parametrize("console", [common.console_out, common.console_err])
def test_names_are_printed_as_they_are(console: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup in a name was dropped, or ended the command with a traceback."""
    name = "runs/a [x] [/x] :smile: [bold]"
    console().print(f"Trained: {name}", soft_wrap=True)
    captured = capsys.readouterr()
    assert captured.out + captured.err == f"Trained: {name}\n"


def test_a_log_gets_no_empty_lines_and_a_dumb_terminal_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with common.CountProgress("images") as bar:
        bar(1, 2)
        bar(2, 2)
    assert capsys.readouterr().err == ""
    log = io.StringIO()
    dumb = Console(file=log, force_terminal=True, _environ={"TERM": "dumb"})
    monkeypatch.setattr(common, "console_err", lambda: dumb)
    monkeypatch.setattr(common, "_LINE_SECONDS", 0.0)
    with common.CountProgress("images") as bar:
        bar(1, 2)
        bar(2, 2)
    assert log.getvalue().startswith("2 of 2 images")
