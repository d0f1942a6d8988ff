"""``cas encoders``: list encoders, check one, show what its tokenizer sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli.common import console_out, emit_json

if TYPE_CHECKING:
    import numpy as np

    from cas_metric.encoders.model import ModelEncoder
    from cas_metric.encoders.registry import EncoderInfo

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="List the named encoders, or, with a command, check one or show what it sees of a text.",
)

_PROBE_TEXT = "Frontal chest radiograph with an enlarged cardiac silhouette."
_PROBE_SHAPE = (600, 480)

Spec = Annotated[
    str,
    typer.Argument(
        help="Alias (see `cas encoders`), hub id, openclip:MODEL/TAG, "
        "openclip:MODEL@weights.safetensors, or a directory in the hub's format."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Commit, tag or branch instead of the pinned one.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Directory for the results as JSON.")]


@app.callback()
def listing(context: typer.Context, as_json: AsJson = False) -> None:
    """List the named encoders: family, licence, limits, size, and whether they are cached."""
    if context.invoked_subcommand is not None:
        return
    from cas_metric.encoders.registry import list_encoders

    rows = [_describe(info) for info in list_encoders()]
    if as_json:
        emit_json(rows)
        return
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
    offline: Offline = False,
    revision: Revision = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Load an encoder, embed a probe image and a probe text, and say how it did.

    Prints the dimensions, the fingerprint that its embeddings are cached under, the preprocessing,
    how far the differentiable preprocessing is from the official one, and images per second. With
    a dtype other than float32, also how much a cosine changes against float32.
    """
    from cas_metric.encoders import load_encoder

    encoder = load_encoder(spec, device=device, dtype=dtype, offline=offline, revision=revision)
    result = _probe(encoder, batch_size)
    if dtype != "float32":
        exact = load_encoder(spec, device=device, offline=offline, revision=revision)
        result["cosine_change_from_float32"] = _cosine_change(encoder, exact)
    _deliver(result, as_json, out, "encoder_check.json")


@app.command()
def tokens(
    spec: Spec,
    text: Annotated[str, typer.Argument(help="The text.")],
    offline: Offline = False,
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Show the tokens that an encoder sees of a text, after normalisation and cutting."""
    from cas_metric.encoders import load_encoder

    encoder = load_encoder(spec, device="cpu", offline=offline, revision=revision)
    seen = encoder.show_tokens(text)
    count = encoder.count_tokens([text])[0]
    if as_json:
        limit = encoder.token_limit
        emit_json({"tokens": seen, "count": count, "limit": limit, "truncated": count > limit})
        return
    typer.echo(" ".join(seen))
    cut = f"; the last {count - len(seen)} are not seen" if count > encoder.token_limit else ""
    typer.echo(f"{count} tokens of at most {encoder.token_limit}{cut}")


@app.command()
def checklists(
    spec: Spec,
    domain: Annotated[
        str | None, typer.Option("--domain", help="One domain pack instead of all.")
    ] = None,
    offline: Offline = False,
    revision: Revision = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tell which checklists of the domain packs are cut at an encoder's token limit."""
    from cas_metric.domains import list_domains, load_domain
    from cas_metric.encoders import load_encoder

    encoder = load_encoder(spec, device="cpu", offline=offline, revision=revision)
    names = [domain] if domain else [summary.name for summary in list_domains()]
    result = [_checklist_report(load_domain(name), encoder) for name in names]
    if out is not None:
        _write(result, out, "encoder_checklists.json")
    if as_json:
        emit_json(result)
        return
    _print_checklists(result, encoder)


def _describe(info: EncoderInfo) -> dict[str, Any]:
    from cas_metric.encoders.hub import find_cached

    cached = info.embedded or find_cached(info.hub_id, info.revision) is not None
    return {**vars(info), "cached": cached}


def _print_listing(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("model and use", overflow="fold")
    table.add_column("licence")
    for column in ("tokens", "pixels", "size", "here"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        model = "embedded" if row["embedded"] else row["hub_id"]
        table.add_row(
            row["alias"],
            f"{model}\n{row['purpose']}".rstrip(),
            row["licence"],
            str(row["token_limit"] or "–"),
            str(row["image_size"]),
            f"{row['download_mb'] / 1000:.1f} GB" if row["download_mb"] else "–",
            "yes" if row["cached"] else "gated" if row["gated"] else "no",
        )
    console_out().print(table)


def _probe(encoder: ModelEncoder, batch_size: int) -> dict[str, Any]:
    import torch

    image = _probe_image()
    tensor = _as_tensor(image)
    official = encoder.official_preprocess([image])
    difference = (official - encoder.preprocess(tensor)).abs()
    with torch.no_grad():
        embedded = encoder.embed_pixels(official)
        differentiable = encoder.embed_images(tensor)
    result = {
        "name": encoder.name,
        "revision": encoder.revision,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "token_limit": encoder.token_limit,
        "image_size": encoder.image_size,
        "device": str(encoder.device),
        "pooling": encoder.pooling,
        "preprocessing": encoder.preprocessing.describe(),
        "preprocessing_difference": {
            "mean": float(difference.mean()),
            "max": float(difference.max()),
            "cosine": float((embedded * differentiable).sum()),
        },
        "images_per_second": _images_per_second(encoder, official, batch_size),
    }
    if encoder.token_limit:
        texts = encoder.embed_texts([_PROBE_TEXT])
        result["probe_text_tokens"] = int(texts.tokens[0])
        result["probe_cosine"] = float((embedded @ texts.embeddings.T).item())
    return result


def _images_per_second(encoder: ModelEncoder, inputs: Any, batch_size: int) -> float:
    """Speed of the bare encoder on tensors in memory, after one batch to warm up."""
    import time

    import torch

    batch = inputs.repeat(batch_size, 1, 1, 1)
    with torch.no_grad():
        encoder.embed_pixels(batch).cpu()
        start, batches = time.perf_counter(), 0
        while batches < 3 or (time.perf_counter() - start < 1.0 and batches < 1000):
            encoder.embed_pixels(batch).cpu()  # .cpu() waits for the device
            batches += 1
    return batches * batch_size / (time.perf_counter() - start)


def _cosine_change(encoder: ModelEncoder, exact: ModelEncoder) -> dict[str, float]:
    """Largest change of image-image and image-text cosines against the float32 encoder."""
    import torch

    images = [_probe_image(seed) for seed in range(4)]
    with torch.no_grad():
        rough, fine = (e.embed_pixels(e.official_preprocess(images)) for e in (encoder, exact))
    change = {"image": float((rough @ rough.T - fine @ fine.T).abs().max())}
    if encoder.token_limit:
        rough_text, fine_text = (e.embed_texts([_PROBE_TEXT]).embeddings for e in (encoder, exact))
        change["text"] = float((rough @ rough_text.T - fine @ fine_text.T).abs().max())
    return change


def _probe_image(seed: int = 0) -> np.ndarray:
    """A smooth picture with edges and a little noise, ``(H, W, 3)`` uint8, no real data."""
    import numpy as np

    height, width = _PROBE_SHAPE
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    generator = np.random.default_rng(seed)
    disc = ((x - 0.4) ** 2 + (y - 0.3 - 0.1 * seed) ** 2 < 0.05).astype(float)
    picture = np.stack([0.6 * x + 0.4 * disc, 0.5 * y + 0.3 * disc, 0.3 + 0.2 * x * y], axis=-1)
    picture += 0.02 * generator.standard_normal(picture.shape)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _as_tensor(image: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def _checklist_report(domain: Any, encoder: ModelEncoder) -> dict[str, Any]:
    labels = [label for label in domain.class_names if domain.checklist_text(label)]
    counts = encoder.count_tokens([domain.checklist_text(label) for label in labels])
    tokens_of = dict(zip(labels, counts, strict=True))
    return {
        "domain": domain.name,
        "limit": encoder.token_limit,
        "checklists": len(labels),
        "cut": [label for label, count in tokens_of.items() if count > encoder.token_limit],
        "tokens": tokens_of,
    }


def _print_checklists(result: list[dict[str, Any]], encoder: ModelEncoder) -> None:
    for report in result:
        typer.echo(
            f"{report['domain']}: {len(report['cut'])} of {report['checklists']} checklists are "
            f"cut at {encoder.token_limit} tokens"
        )
        for label, count in report["tokens"].items():
            mark = "cut" if count > encoder.token_limit else ""
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
        typer.echo(f"{key.replace('_', ' '):28s} {_short(value)}")


def _write(result: Any, out: Path, name: str) -> None:
    from cas_metric.files import to_json, write_bytes

    write_bytes(out / name, to_json(result).encode())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
