"""The documentation is true: its commands exist, its walkthrough runs, its protocol is ours."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from benchmarks.paper.script import parser_of
from tests.docs.blocks import ROOT, Block, all_blocks, blocks_of, pages, run_block

from cas_metric import protocol
from cas_metric.cli.main import app as cas
from craft_trainer.cli.main import app as craft_trainer

GROUPS = {"cas": cas, "craft-trainer": craft_trainer}
#: Pages whose blocks are run as printed: here, and by a test of their own.
RUN = {
    *("docs/guide/first-score.md", "docs/guide/where-your-images-are.md"),
    *("docs/guide/dicom-and-nifti.md", "docs/tutorial-own-domain.md"),
}
#: Made of the commands and of the configuration by ``docs/hooks``.
MADE = {"reference/cas.md", "reference/craft-trainer.md", "reference/configuration.md"}
#: The commands behind measured numbers: they exist, and take minutes to hours.
MEASURED = "docs/results"
COMMANDS = [(block, words) for block in all_blocks() for words in block.commands()]
NAMES = [f"{block}-{' '.join(words)[:40]}" for block, words in COMMANDS]


def complaint(words: list[str]) -> str | None:
    """What the program says against a command, which is parsed and not run; None if nothing.

    typer brings its own click, so groups and errors are told by what they have, not by class.
    craft-trainer looks at the process's own words before it imports a verb.
    """
    command: Any = typer.main.get_command(GROUPS[words[0]])
    context = command.context_class(command, info_name=words[0])
    rest = words[1:]
    try:
        with patch.object(sys, "argv", words):
            while hasattr(command, "resolve_command"):
                if not rest or rest[0].startswith("-"):
                    return None
                name, command, rest = command.resolve_command(context, rest)
                context = command.context_class(command, info_name=name, parent=context)
            if not {"--help", "-h"} & set(rest):
                command.make_context(words[-1], rest)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return None


@pytest.mark.parametrize(("block", "words"), COMMANDS, ids=NAMES)
def test_every_printed_command_is_one_that_the_program_takes(
    block: Block, words: list[str]
) -> None:
    assert complaint(words) is None, f"{block}: {' '.join(words)}"


@pytest.mark.parametrize(
    "command",
    [
        "cas encoders nothing",
        "cas score gen/ real/ --no-such-option",
        "cas score gen/",
        "craft-trainer nothing",
        "craft-trainer generate run data --seeds many",
    ],
)
def test_a_command_that_the_program_does_not_take_is_found(command: str) -> None:
    assert complaint(shlex.split(command))


def test_every_printed_module_exists() -> None:
    modules = {module: block for block in all_blocks() for module in block.modules()}
    lacking = {
        module: str(block)
        for module, block in modules.items()
        if importlib.util.find_spec(module) is None
    }
    assert not lacking


def test_every_printed_script_of_a_table_takes_its_options() -> None:
    command = re.compile(r"^python -m benchmarks\.paper\.((?:table|figure)\w+) ?(.*)", re.MULTILINE)
    printed = [found for block in all_blocks() for found in command.findall(block.text)]
    assert len(printed) > 15
    for name, options in printed:
        script = importlib.import_module(f"benchmarks.paper.{name}").SCRIPT
        parser_of(script).parse_args(shlex.split(options, comments=True))


def leads(target: Path) -> bool:
    """Whether a page is there, or is made while the site is built."""
    return target.exists() or target.relative_to(ROOT / "docs").as_posix() in MADE


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in pages():
        targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        name = page.relative_to(ROOT)
        broken += [f"{name}: {one}" for one in targets if not leads((page.parent / one).resolve())]
    assert not broken


def test_the_first_walkthrough_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for block in blocks_of(ROOT / "docs" / "guide" / "first-score.md"):
        if block.language == "bash" and block.reason is None:
            run_block(block.text, tmp_path)
    assert (tmp_path / "runs" / "careful" / "report.html").is_file()
    assert (tmp_path / "runs" / "comparison" / "comparison.csv").is_file()


@pytest.mark.parametrize(
    "value",
    [
        f"{protocol.PROBE_EPOCHS} epochs",
        f"batch {protocol.PROBE_BATCH_SIZE}",
        f"seed {protocol.PROBE_SEED}",
        f"intervals | {protocol.CONFIDENCE:.0%}, over cases",
        f"64-bit pHash within {protocol.PHASH_THRESHOLD} bits",
        f"SSIM above {protocol.SSIM_THRESHOLD} on {protocol.SSIM_SIZE}×{protocol.SSIM_SIZE}",
        f"{protocol.TAIL_QUANTILE * 100:.0f}th percentile",
        f"(`{protocol.TEXT_POLICY}`)",
        f"# Protocol `{protocol.VERSION}`",
        protocol.SCORE_DTYPE,
    ],
)
def test_the_protocol_page_states_the_constants(value: str) -> None:
    assert value in (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
