"""``cas encoders``: list encoders, check one, convert one, show what it sees of a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import emit_json

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="List the named encoders, check one here, convert pickled weights, or show what an "
    "encoder sees of a text.",
)

Spec = Annotated[
    str,
    typer.Argument(
        help="Alias (see `cas encoders list`), hub id, openclip:MODEL/TAG, "
        "openclip:MODEL@weights.safetensors, or a directory in the hub's format."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Commit, tag or branch instead of the pinned one.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Directory for the results as JSON.")]


@app.callback()
def without_command(context: typer.Context, as_json: AsJson = False) -> None:
    """List the named encoders, as `cas encoders list` does."""
    if context.invoked_subcommand is None:
        listing(as_json=as_json)
    elif as_json:  # before the command as behind it
        context.default_map = {context.invoked_subcommand: {"as_json": True}}


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List the named encoders: licence, token limit, size, and whether they are here."""
    from cas_metric.encoders.checking import named_encoders

    rows = named_encoders()
    if as_json:
        emit_json(rows)
    else:
        _print_listing(rows)


@app.command()
def check(
    spec: Spec,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16 or float16.")
    ] = "float32",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images in a timed batch.")
    ] = 8,
    offline: option.Offline = False,
    revision: Revision = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Load an encoder, embed a probe image and a probe text, and say how it did.

    Prints what it is by the content of its files, the dimensions, the fingerprint that its
    embeddings are cached under, the preprocessing, how far the differentiable preprocessing is from
    the official one, and images per second. With a dtype other than float32, also how much a cosine
    changes against float32.
    """
    from cas_metric.encoders.checking import check_encoder

    result = check_encoder(
        spec,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        offline=offline,
        revision=revision,
    )
    _deliver(result, as_json, out, "encoder_check.json")


@app.command()
def tokens(
    spec: Spec,
    text: Annotated[str, typer.Argument(help="The text.")],
    offline: option.Offline = False,
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Show the tokens that an encoder sees of a text, after normalisation and cutting."""
    from cas_metric.encoders import load_encoder
    from cas_metric.encoders.checking import seen_tokens

    found = seen_tokens(load_encoder(spec, device="cpu", offline=offline, revision=revision), text)
    if as_json:
        emit_json(found)
        return
    cut = found["count"] - len(found["tokens"]) if found["truncated"] else 0
    typer.echo(" ".join(found["tokens"]))
    typer.echo(
        f"{found['count']} tokens of at most {found['limit']}"
        + (f"; the last {cut} are not seen" if cut else "")
    )


@app.command()
def checklists(
    spec: Spec,
    domain: Annotated[
        str | None, typer.Option("--domain", help="One domain pack instead of all.")
    ] = None,
    offline: option.Offline = False,
    revision: Revision = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tell which checklists of the domain packs are cut at an encoder's token limit."""
    from cas_metric.domains import list_domains, load_domain
    from cas_metric.encoders import load_encoder
    from cas_metric.encoders.checking import checklist_lengths

    encoder = load_encoder(spec, device="cpu", offline=offline, revision=revision)
    names = [domain] if domain else [summary.name for summary in list_domains()]
    result = checklist_lengths(encoder, [load_domain(name, offline=offline) for name in names])
    if out is not None:
        _write(result, out, "encoder_checklists.json")
    if as_json:
        emit_json(result)
    else:
        _print_checklists(result)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .bin, .pt, .pth or .ckpt file, or a directory with one and its configuration."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Directory for what is made of it.")],
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            help="timm's name of it, for a file without configuration, e.g. "
            "vit_large_patch14_dinov2.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn pickled weights into safetensors, without running anything that is in the pickle.

    The pickle is read as tensors only, in a process without network; one that wants more is
    refused. The sha256 of both files are kept in conversion.json.
    """
    from cas_metric.encoders.convert import convert as convert_pickle

    done = convert_pickle(source, to, architecture=architecture)
    _deliver(vars(done), as_json, None, "")


def _print_listing(rows: list[dict[str, Any]]) -> None:
    """Two lines an encoder; none is wrapped, so that a hub id can be copied."""
    width = max(len(row["alias"]) for row in rows) + 2
    for row in rows:
        tokens = f"{row['token_limit']} tokens" if row["token_limit"] else "images only"
        size = f"{row['download_mb'] / 1000:.1f} GB, " if row["download_mb"] else ""
        use = f"; {row['purpose']}" if row["purpose"] else ""
        facts = f"{tokens}, {row['image_size']} pixels, {size}{row['licence']}; {_here(row)}{use}"
        typer.echo(f"{row['alias']:{width}}{facts}")
        if not row["embedded"]:
            typer.echo(f"{'':{width}}{row['hub_id']}")


def _here(row: dict[str, Any]) -> str:
    if row["cached"]:
        return "embedded" if row["embedded"] else "here"
    gated = ", gated" if row["gated"] else ""
    pickled = ", to be converted once" if row["pickled"] else ""
    return f"not here{gated}{pickled}"


def _print_checklists(result: list[dict[str, Any]]) -> None:
    for report in result:
        typer.echo(
            f"{report['domain']}: {len(report['cut'])} of {report['checklists']} checklists are "
            f"cut at {report['limit']} tokens"
        )
        for label, count in report["tokens"].items():
            mark = "cut" if count > report["limit"] else ""
            typer.echo(f"  {count:5d}  {label}  {mark}".rstrip())


def _deliver(result: dict[str, Any], as_json: bool, out: Path | None, name: str) -> None:
    if out is not None:
        _write(result, out, name)
    if as_json:
        emit_json(result)
        return
    for key, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {_short(v)}" for k, v in value.items())
        elif isinstance(value, tuple):
            value = ", ".join(map(_short, value)) or "none"
        typer.echo(f"{key.replace('_', ' '):28s} {_short(value)}")


def _write(result: Any, out: Path, name: str) -> None:
    from cas_metric.files import to_json, write_bytes

    write_bytes(out / name, to_json(result).encode())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
