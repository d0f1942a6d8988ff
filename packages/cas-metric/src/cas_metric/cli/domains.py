"""``cas domains``: list, show, create and validate domain packs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli.common import console_err, console_out, emit_json

if TYPE_CHECKING:
    from cas_metric.domains import Domain

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, show, create and validate domain packs.\n\nA domain pack is one YAML file: the "
    "classes of a modality, the checklist of each, and optionally the form of its prompts. "
    "Commands take it by name or by path.",
)

#: A checklist of more words is likely to be cut: text encoders read 64 to 77 tokens.
_LONG_CHECKLIST = 45

AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Spec = Annotated[str, typer.Argument(metavar="DOMAIN", help="Name of a pack, or path of one.")]


@app.command("list")
def list_packs(as_json: AsJson = False) -> None:
    """List the packs that can be called by name: shipped ones and your own."""
    from cas_metric.domains import list_domains, user_directory

    packs = list_domains()
    if as_json:
        emit_json([{**vars(pack), "path": str(pack.path)} for pack in packs])
        return
    from rich.table import Column, Table

    table = Table("name", "title", "modality", Column("classes", justify="right"), "from")
    for pack in packs:
        if not pack.problem:
            told = (pack.name, pack.title, pack.modality, str(pack.classes), pack.origin)
            table.add_row(*told)
    console_out().print(table)
    for pack in packs:
        if pack.problem:
            _advise(pack.problem, style="yellow")
    console_err().print(f"Packs of your own are found in {user_directory()}", soft_wrap=True)


@app.command()
def show(
    spec: Spec,
    label: Annotated[str, typer.Option("--label", help="Only this class.")] = "",
    as_yaml: Annotated[bool, typer.Option("--yaml", help="The file itself, comments too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a pack: its source, its notes, and of each class the text that CCS compares with."""
    from cas_metric.domains import load_domain
    from cas_metric.domains.loading import find_pack

    domain = load_domain(spec)
    if as_yaml:
        typer.echo(find_pack(spec).read_text(encoding="utf-8"), nl=False)
        return
    names = (domain.canonical(label),) if label else domain.class_names
    if as_json:
        emit_json(_describe(domain, names))
        return
    for line in _lines(domain, names):
        typer.echo(line)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the domain, e.g. 'textile'.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write NAME.yaml into.")] = Path(),
    user: Annotated[
        bool, typer.Option("--user", help="Write where packs are found by name instead.")
    ] = False,
) -> None:
    """Write a commented template to fill in; then run 'cas domains validate' on it."""
    from cas_metric.domains import new_pack, user_directory

    path = new_pack(name, user_directory() if user else out)
    typer.echo(str(path))
    console_err().print(
        f"Fill in every … in it, then run: cas domains validate {path}",
        soft_wrap=True,
    )


@app.command()
def validate(
    files: Annotated[list[str], typer.Argument(metavar="DOMAIN…", help="Paths or names.")],
    as_json: AsJson = False,
) -> None:
    """Check packs: every problem with its line, and advice on what scores well.

    Exit code 2 when any of them is not valid.
    """
    from cas_metric.domains import load_domain
    from cas_metric.errors import CasError

    results: list[dict[str, Any]] = []
    for file in files:
        try:
            results.append({"pack": file, "valid": True, **_advice(load_domain(file))})
        except CasError as error:
            results.append({"pack": file, "valid": False, "problem": str(error)})
    if as_json:
        emit_json(results)
    else:
        _print_verdicts(results)
    if not all(result["valid"] for result in results):
        raise typer.Exit(2)


def _advise(text: str, style: str | None = None) -> None:
    """A line for people on stderr."""
    console_err().print(text, style=style, soft_wrap=True)


def _print_verdicts(results: list[dict[str, Any]]) -> None:
    for result in results:
        if result["valid"]:
            typer.echo(f"{result['pack']}: valid, {result['classes']} classes")
            for line in result["advice"]:
                _advise(f"  {line}", style="yellow")
        else:
            typer.echo(result["problem"], err=True)


def _advice(domain: Domain) -> dict[str, Any]:
    """Number of classes, and what a valid pack could still do better."""
    advice = []
    bare = [name for name in domain.class_names if not domain.checklist_text(name)]
    if bare:
        advice.append(f"no checklist, so no CCS and no CAS for: {', '.join(bare)}")
    words = {name: len(domain.checklist_text(name).split()) for name in domain.class_names}
    long = [f"{name} ({count})" for name, count in words.items() if count > _LONG_CHECKLIST]
    if long:
        advice.append(
            "checklists of this many words are cut by encoders that read 64 tokens (or use "
            f"--text-policy): {', '.join(long)}"
        )
    return {"classes": len(domain.classes), "advice": advice}


def _describe(domain: Domain, names: tuple[str, ...]) -> dict[str, Any]:
    content = domain.model_dump(mode="json")
    content["classes"] = [
        {
            "name": item.name,
            "synonyms": item.synonyms,
            "checklist": [list(pair) for pair in item.checklist.items()],
            "checklist_text": domain.checklist_text(item.name),
        }
        for item in domain.classes
        if item.name in names
    ]
    return content


def _lines(domain: Domain, names: tuple[str, ...]) -> list[str]:
    lines = [f"{domain.name}: {domain.title}", f"modality: {domain.modality}"]
    if domain.embedded:
        lines.append("drawings, not medical data")
    lines += [f"source: {domain.source}", f"licence: {domain.license}"]
    lines += [f"note: {note}" for note in domain.notes]
    for item in domain.classes:
        if item.name in names:
            lines += ["", " / ".join(item.spellings)]
            lines += [f"  {line}" for line in domain.checklist_items(item.name)]
    if domain.prompt_schema:
        keys = ", ".join(field.name for field in domain.prompt_schema.fields)
        lines += ["", f"prompts are made of: {keys}"]
    if domain.ranking:
        lines += ["", f"the judge ranks by: {', '.join(domain.ranking.criteria)}"]
    return lines
