"""Code blocks of the documentation, and the commands in them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PROGRAMS = ("cas", "craft-trainer")
#: What ``accelerate launch --module`` runs.
_MODULES = {"cas_metric.cli.main": "cas", "craft_trainer.cli.main": "craft-trainer"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, and why it is not run, if it is not."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Words of each command of ours; continued lines are one, comments and pipes are cut."""
        if self.language != "bash":
            return
        text = re.sub(r"<<'EOF'.*?^EOF$", "", self.text, flags=re.MULTILINE | re.DOTALL)
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "--module" in words:  # accelerate launch --module cas_metric.cli.main …
                module, *rest = words[words.index("--module") + 1 :]
                words = [_MODULES[module], *rest]
            if words and words[0] in _PROGRAMS:
                ends = [i for i, word in enumerate(words) if word in ("|", ">", "&&", "&")]
                yield words[: ends[0]] if ends else words

    def modules(self) -> Iterator[str]:
        """Modules that the block runs with ``python -m``."""
        yield from re.findall(r"python -m ([\w.]+)", self.text)


def pages() -> list[Path]:
    """Every page that a user may read."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found += sorted(ROOT.glob("packages/*/README.md"))
    return [*found, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["text"],
            match["reason"],
        )
        for match in _FENCE.finditer(text)
    ]


def all_blocks() -> list[Block]:
    """Of all pages."""
    return [block for page in pages() for block in blocks_of(page)]


def run_block(text: str, folder: Path, *, codes: tuple[int, ...] = (0,)) -> None:
    """The lines of a block: ours in this process, others by the shell in a folder."""
    from typer.testing import CliRunner

    from cas_metric.cli.main import app

    for part in re.split(r"^(?=cas )", text, flags=re.MULTILINE):
        command, _, rest = part.partition("\n") if part.startswith("cas ") else ("", "", part)
        if command:
            words = shlex.split(command)
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code in codes, (command, result.output, result.exception)
            if "--json" in words:
                json.loads(result.stdout)
        if rest.strip():
            subprocess.run(["bash", "-euc", rest], cwd=folder, check=True)
