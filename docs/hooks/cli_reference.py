"""Pages on the commands, written from the commands themselves whenever the site is built."""

from __future__ import annotations

import inspect
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from cas_metric.cli.main import app as cas
from craft_trainer.cli.main import app as craft_trainer


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each program."""
    for name, app in (("cas", cas), ("craft-trainer", craft_trainer)):
        page = File.generated(config, f"reference/{name}.md", content=reference(name, app))
        files.append(page)
    return files


def reference(program: str, app: typer.Typer) -> str:
    """All commands of a program as Markdown."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name=program)
    parts = [f"# Command reference: {program}", f"{group.help}"]
    for name in group.list_commands(context):
        parts += section(f"{program} {name}", group.get_command(context, name), 2)
    return "\n\n".join(parts) + "\n"


def section(path: str, command: Any, level: int) -> list[str]:
    """A command: its help, arguments, options and examples; and the commands below it."""
    parts = [f"{'#' * level} {path}", inspect.cleandoc(command.help or "")]
    context = typer.Context(command, info_name=path)
    rows = [row for item in command.params if (row := parameter(item, context))]
    if rows:
        parts.append("\n".join(["| | | |", "| --- | --- | --- |", *rows]))
    if command.epilog:
        parts.append(inspect.cleandoc(command.epilog))
    for name, below in getattr(command, "commands", {}).items():
        parts += section(f"{path} {name}", below, level + 1)
    return parts


def parameter(item: Any, context: typer.Context) -> str:
    """An argument or option as a row of a table; empty where it is hidden."""
    if getattr(item, "hidden", False) or "--help" in item.opts:
        return ""
    if item.param_type_name == "argument":
        name = f"`{item.metavar or item.name.upper()}`"
    else:
        name = ", ".join(f"`{flag}`" for flag in [*item.opts, *item.secondary_opts])
        if item.bare_type() is not bool:
            name += f" `{item.metavar or item.display_type(context)}`"
    shown = not (item.default in (None, False, ...) or callable(item.default))
    default = "required" if item.required else f"`{item.default}`" if shown else ""
    text = " ".join((getattr(item, "help", "") or "").split()).replace("|", "\\|")
    return f"| {name} | {text} | {default} |"
