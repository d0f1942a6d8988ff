"""Pages on the commands and the configuration, written from both whenever the site is built."""

from __future__ import annotations

import inspect
import json
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from cas_metric.cli.main import app as cas
from craft_trainer.cli.main import app as craft_trainer
from craft_trainer.config.description import json_schema


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each program."""
    for name, app in (("cas", cas), ("craft-trainer", craft_trainer)):
        page = File.generated(config, f"reference/{name}.md", content=reference(name, app))
        files.append(page)
    text = configuration(json_schema())
    files.append(File.generated(config, "reference/configuration.md", content=text))
    return files


def configuration(schema: dict[str, Any]) -> str:
    """Every key of a configuration of ``craft-trainer`` as Markdown, section by section."""
    parts = schema["$defs"]
    sections = {"The whole file": schema, **dict(sorted(parts.items(), key=_stages_last))}
    text = [
        "# Configuration of craft-trainer",
        "Every key of a YAML file for `craft-trainer train`. `craft-trainer new run.yaml` writes "
        "one with all of them as comments; `craft-trainer schema` prints the JSON schema, with "
        "which editors complete keys and mark mistakes. Keys of the command line are dotted: "
        "`lora.rank=8`, `stages.0.steps=10`.",
    ]
    for name, part in sections.items():
        rows = [_row(key, value, part) for key, value in part.get("properties", {}).items()]
        method = part["properties"].get("method", {}).get("const")
        title = f"`method: {method}`" if method else name
        head = ["| key | values | default | |", "| --- | --- | --- | --- |"]
        text += [f"## {title}", part["description"], "\n".join([*head, *rows])]
    return "\n\n".join(text) + "\n"


def _stages_last(item: tuple[str, Any]) -> tuple[bool, str]:
    return "method" in item[1].get("properties", {}), item[0]


def _row(key: str, value: dict[str, Any], part: dict[str, Any]) -> str:
    default = "required" if key in part.get("required", ()) else ""
    if not default and not isinstance(value.get("default"), dict):
        default = f"`{json.dumps(value.get('default'))}`"
    meaning = value["description"].replace("|", "\\|")
    return f"| `{key}` | {_values(value)} | {default} | {meaning} |"


def _values(value: dict[str, Any]) -> str:
    """What a key can hold, in short."""
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    for below in ("allOf", "anyOf", "oneOf"):
        if below in value:
            found = [_values(one) for one in value[below] if one.get("type") != "null"]
            return " or ".join(found)
    if "$ref" in value:
        return f"[{value['$ref'].rsplit('/', 1)[1]}](#{value['$ref'].rsplit('/', 1)[1].lower()})"
    return str(value.get("type", "any"))


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
