"""Every fenced block is run somewhere or says why not; and what can be checked of it is, at once.

Commands are parsed by the programs in ``test_documentation``. Here: shell that a shell reads,
Python whose names exist, configurations that our schemas take, options of benchmarks, and commands
in the middle of a sentence.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.docs.blocks import ROOT, Block, all_blocks, blocks_of, pages
from tests.docs.test_documentation import GROUPS, MEASURED, RUN

import cas_metric
from cas_metric.domains import parse_domain
from cas_metric.gating.policy import Policy
from cas_metric.manifest.config import FolderConfig
from craft_trainer.config.schema import parse_config

BLOCKS = all_blocks()
#: Blocks that nobody could run: what a program prints, what a file or a message looks like.
SHOWN = ("text",)
#: Languages that a test below, or the named one, holds against what reads them.
CHECKED = {"yaml", "toml", "dockerfile"}
EXAMPLE = ROOT / "packages" / "craft-trainer" / "examples" / "chexpert.yaml"


def in_language(*names: str) -> Any:
    found = [block for block in BLOCKS if block.language in names]
    return pytest.mark.parametrize("block", found, ids=str)


def test_no_fence_escapes_the_list() -> None:
    for page in pages():
        fences = re.findall(r"^\s*(?:`{3,}|~{3,})", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page


def test_every_block_is_run_checked_shown_or_says_why_not() -> None:
    silent = [
        str(block)
        for block in BLOCKS
        if block.reason is None
        and block.page not in RUN
        and block.language not in (*SHOWN, *CHECKED)
        and not (block.language == "bash" and block.page.startswith(MEASURED))
    ]
    assert not silent, "mark with <!-- not run: reason --> or let a test run them"
    assert all(block.reason != "" for block in BLOCKS)


def test_a_shell_reads_every_command(tmp_path: Path) -> None:
    for number, block in enumerate(block for block in BLOCKS if block.language == "bash"):
        text = f"# {block}\n{block.text}"
        (tmp_path / f"{number:03}.sh").write_text(text, encoding="utf-8")
    check = 'for file in *.sh; do bash -n "$file" || { head -1 "$file" >&2; exit 1; }; done'
    done = subprocess.run(
        ["bash", "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Python


OURS = ("cas_metric", "craft_trainer")


@in_language("python")
def test_what_python_imports_and_calls_exists(block: Block) -> None:
    tree = ast.parse(block.text)
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                top = one.name if one.asname else one.name.split(".")[0]
                importlib.import_module(one.name)
                names[one.asname or top] = importlib.import_module(top)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for one in node.names:
                if str(node.module).startswith(OURS):
                    names[one.asname or one.name] = getattr(module, one.name)
                else:  # diffusers lists what it has, and imports it when it is touched
                    assert one.name in dir(module), f"{node.module}.{one.name}"
    for called, words in calls(tree, names):
        parameters = inspect.signature(called).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            assert set(words) <= set(parameters), called


def calls(tree: ast.AST, names: dict[str, Any]) -> Iterator[tuple[Callable[..., Any], list[str]]]:
    """What of the imported names is called, as far as it is ours, with which keywords."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        path = re.fullmatch(r"(\w+)((?:\.\w+)*)", ast.unparse(node.func))
        if path is None or path[1] not in names:
            continue
        found = names[path[1]]
        for part in path[2].split(".")[1:]:
            found = getattr(found, part)
        if getattr(found, "__module__", "").startswith(OURS):
            yield found, [one.arg for one in node.keywords if one.arg]


def test_a_call_that_is_not_ours_to_make_is_found() -> None:
    tree = ast.parse("cas_metric.score('gen', 'real', no_such=1)")
    ((called, words),) = calls(tree, {"cas_metric": cas_metric})
    assert called is cas_metric.score
    assert set(words) - set(inspect.signature(called).parameters) == {"no_such"}


# Configurations


def a_domain(values: dict[str, Any], page: str) -> None:
    """A domain, or a part that is added to the domain of its page."""
    whole = [
        yaml.safe_load(one.text) for one in BLOCKS if (one.page, one.language) == (page, "yaml")
    ]
    base = next((one for one in whole if "classes" in one), {})
    least = {"name": "mine", "title": "Mine", "modality": "photograph", "source": "none",
             "license": "CC0", "classes": [{"name": "one"}, {"name": "two"}]}  # fmt: skip
    parse_domain(yaml.safe_dump({**least, **base, **values}))


def a_training(values: dict[str, Any], page: str) -> None:
    parse_config({**yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")), **values})


#: A key to the schema of files that have it, the first that fits.
SCHEMAS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    **dict.fromkeys(("stages", "validation"), a_training),
    "rules": lambda values, page: Policy.model_validate(values),
    **dict.fromkeys(("classes", "prompt_schema", "symmetries"), a_domain),
    **dict.fromkeys(("domain", "train", "window"), lambda values, page: FolderConfig(**values)),
}


@in_language("yaml")
def test_a_configuration_is_one_that_we_read(block: Block) -> None:
    values = yaml.safe_load(block.text)
    schema = next((SCHEMAS[key] for key in SCHEMAS if key in values), None)
    assert schema, f"{block}: no schema has one of {', '.join(values)}"
    schema(values, block.page)


@in_language("toml")
def test_an_entry_point_is_of_a_group_that_somebody_reads(block: Block) -> None:
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "packages").glob("*/src/**/*.py"))
    for group in groups:
        assert f'"{group}"' in sources, group


# Benchmarks, and commands in a sentence


def options_of(module: str, seen: set[str]) -> str:
    """The source of a benchmark and of the benchmarks that it imports."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    if module in seen or not path.is_file():
        return ""
    seen.add(module)
    text = path.read_text(encoding="utf-8")
    imported = re.findall(r"^from (benchmarks[\w.]*) import ([\w, ()\n]+?)$", text, re.MULTILINE)
    below = {home for home, _ in imported}
    below |= {f"{home}.{name}" for home, names in imported for name in re.findall(r"\w+", names)}
    return text + "".join(options_of(one, seen) for one in sorted(below))


def test_a_benchmark_has_the_options_that_are_printed() -> None:
    printed = 0
    for block in BLOCKS:
        for line in block.text.replace("\\\n", " ").splitlines():
            found = re.match(
                r"^(?:\w+=\S+ )*python (?:-m (benchmarks[\w.]*)|(benchmarks/\S+))", line
            )
            if not found:
                continue
            module = found[1] or found[2].removesuffix(".py").replace("/", ".")
            source = options_of(module, set())
            assert source, f"{block}: {module}"
            for option in re.findall(r" (--[\w-]+)", line.partition(" # ")[0]):
                assert f'"{option}"' in source, f"{block}: {module} {option}"
                printed += 1
    assert printed > 50


def spans() -> Iterator[tuple[str, list[str]]]:
    """Commands in the middle of a sentence, with their page."""
    for page in pages():
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`((?:cas|craft-trainer) [^`]+)`", text):
            yield page.relative_to(ROOT).as_posix(), shlex.split(span.replace("\n", " "))


def test_a_command_in_a_sentence_has_its_verb_and_its_options() -> None:
    wrong = [f"{page}: {lack}" for page, words in spans() if (lack := lacks(words))]
    assert not wrong


def lacks(words: list[str]) -> str:
    """The first word of a command, in part or whole, that the program does not know."""
    command: Any = typer.main.get_command(GROUPS[words[0]])
    rest = words[1:]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        context = command.context_class(command, info_name=words[0])
        for name in rest[0].split("|"):
            if not (below := command.get_command(context, name)):
                return f"{words[0]} {name}" if re.fullmatch(r"[a-z-]+", name) else ""
        command, rest = below, rest[1:]
    known = {"--help", "-h", "--version"}
    known |= {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
    return next((f"{words} {one}" for one in rest if one[:2] == "--" and one not in known), "")


@pytest.mark.parametrize("command", ["cas nothing", "cas score --nothing", "cas study nothing"])
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert lacks(command.split())
