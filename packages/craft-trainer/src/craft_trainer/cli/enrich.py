"""``craft-trainer enrich``: prompts (t_ep) and checklists (t_c) from a language model, Stage 1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli import asking as ask
from cas_metric.errors import EXIT_SOME_FAILED, InputError

if TYPE_CHECKING:
    from cas_metric.domains import Domain
    from cas_metric.mllm import Price
    from craft_trainer.enrichment import TrainingRows

HELP = """
Have a multimodal language model describe every image under its label (§3.1, Appendix B).

The label is given as a constraint, the domain pack's prompt schema says which answers are
accepted: closed vocabularies, word limits, forbidden terms. A faulty answer goes back with what is
wrong with it; one that stays faulty is listed in rejected.csv and never passed on.

OUT is a folder that `craft-trainer train` and `cas score` read: the rows of TRAIN with their
prompts, and the images where they lay. Images leave this machine unless the model is local.

`--checklists` drafts checklists for the classes of a pack that have none; a clinician has to
review them.
"""

EPILOG = """
**Examples**

- `craft-trainer enrich data/chexpert/train --mllm openai:gpt-4o --limit 5 --out try`

- `craft-trainer enrich data/chexpert/train --mllm local:google/medgemma-4b-it --out enriched`

- `craft-trainer enrich --checklists --domain my-pack.yaml --mllm openai:gpt-4o --out draft`

**Exit codes**

0 done; 3 done, but some answers were rejected; 2 wrong usage or input; 4 the model is not
available. The same command continues an interrupted one: no answer is paid for twice.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
def enrich(
    mllm: ask.Mllm,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", metavar="DIR")],
    train: Annotated[
        Path | None, typer.Argument(help="Manifest or folder of the images and labels.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            help="Domain pack (`cas domains list`) or a YAML file. Default: what TRAIN/cas.yaml "
            "says.",
            metavar="NAME",
        ),
    ] = None,
    label_only: Annotated[
        bool,
        typer.Option(
            "--label-only",
            help="Describe a typical image of each label, without looking at any: for prompts at "
            "test time.",
        ),
    ] = False,
    checklists: Annotated[
        bool, typer.Option("--checklists", help="Draft checklists for the pack, not prompts.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N images, to try.", metavar="N", min=1)
    ] = None,
    price_in: Annotated[
        float | None,
        typer.Option(help="Price of a million input tokens.", metavar="P", min=0),
    ] = None,
    price_out: Annotated[
        float | None,
        typer.Option(help="The same of output tokens.", metavar="P", min=0),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
    base_url: ask.BaseUrl = None,
    concurrency: ask.Concurrency = 4,
    requests_per_minute: ask.RequestsPerMinute = None,
    repairs: ask.Repairs = 2,
    retries: ask.Retries = 5,
    timeout: ask.Timeout = 120.0,
    max_tokens: ask.MaxTokens = 1024,
    temperature: ask.Temperature = 0.0,
    longest_side: ask.LongestSide = 1024,
    ask_again: ask.AskAgain = False,
    cache: ask.AnswerCache = None,
    device: Annotated[str, typer.Option(help="Of a local model: auto, cpu, cuda, …")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Of a local model: auto, float32, bfloat16, float16.")
    ] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the model hub.")] = False,
) -> None:
    """See :data:`HELP`."""
    if checklists == (train is not None):
        raise InputError(
            "--checklists drafts for a domain pack and takes no TRAIN"
            if checklists
            else "no images are named",
            fix="craft-trainer enrich TRAIN …, or craft-trainer enrich --checklists --domain …",
        )
    asking = ask.Asking(
        spec=mllm,
        base_url=base_url,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        repairs=repairs,
        retries=retries,
        timeout=timeout,
        max_tokens=max_tokens,
        temperature=temperature,
        longest_side=longest_side,
        ask_again=ask_again,
        cache=cache,
        device=device,
        dtype=dtype,
        offline=offline,
    )
    price = _price(price_in, price_out)
    if train is not None:
        from craft_trainer.enrichment import read_rows

        rows = read_rows(train, domain, with_images=not label_only, limit=limit)
        ask.say_all(rows.manifest.notes)
        result = _prompts(rows, asking, out, label_only=label_only, price=price)
    else:
        result = _checklists(_pack(domain), asking, out)
    _show(result, as_json=as_json)
    if result["rejected"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def _price(price_in: float | None, price_out: float | None) -> Price | None:
    from cas_metric.mllm import Price

    if (price_in is None) != (price_out is None):
        raise InputError("one price of two is given", fix="give both --price-in and --price-out")
    return None if price_in is None or price_out is None else Price(price_in, price_out)


def _prompts(
    rows: TrainingRows, asking: ask.Asking, out: Path, *, label_only: bool, price: Price | None
) -> dict[str, Any]:
    """Ask about every row and write what came of it."""
    from craft_trainer.enrichment import Enrichment, question, write_enrichment

    requests = [
        question(key, label, rows.schema, None if label_only else path, window=rows.manifest.window)
        for key, label, path in zip(rows.manifest.rows["id"], rows.labels, rows.paths, strict=True)
    ]
    asked = ask.put_questions(requests, asking, "images")
    enrichment = Enrichment(
        rows, requests, asked.answers, asked.model, asked.notes, label_only, price
    )
    provenance = write_enrichment(enrichment, out)
    return {
        "out": str(out),
        "accepted": len(enrichment.accepted),
        "rejected": len(enrichment.rejected),
        "counts": provenance["counts"],
        "tokens": provenance["tokens"],
        "cost": provenance["cost"],
        "this_run": asked.timing,
    }


def _pack(domain: str | None) -> Domain:
    from cas_metric.domains import load_domain

    if not domain:
        raise InputError("--checklists needs a pack to write for", fix="name it with --domain")
    return load_domain(domain)


def _checklists(pack: Domain, asking: ask.Asking, out: Path) -> dict[str, Any]:
    """Ask for every class without a checklist and write the pack with the drafts."""
    from cas_metric.files import write_bytes
    from craft_trainer.enrichment import draft_pack, questions_for_checklists

    requests = questions_for_checklists(pack)
    if not requests:
        raise InputError(
            f"every class of the domain {pack.name!r} has a checklist",
            fix="remove those that are to be drafted anew from a copy of the pack",
        )
    asked = ask.put_questions(requests, asking, "classes")
    path = out / f"{pack.name}.yaml"
    accepted = [answer for answer in asked.answers if answer.accepted]
    if accepted:
        write_bytes(path, draft_pack(pack, asked.answers, asked.model, str(path)).encode())
        ask.say_all([f"{path} holds drafts: a clinician has to review them before they are used"])
    missing = {answer.key: answer.reason for answer in asked.answers if not answer.accepted}
    ask.say_all([f"{name}: {reason}" for name, reason in missing.items()])
    return {
        "out": str(path) if accepted else None,
        "accepted": len(accepted),
        "rejected": len(missing),
        "reasons": missing,
        "this_run": asked.timing,
    }


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    from cas_metric.cli.common import console_out, emit_json

    if as_json:
        emit_json(result)
        return
    lines = [f"{result['accepted']} accepted, {result['rejected']} rejected: {result['out']}"]
    if tokens := result.get("tokens"):
        cost = f", cost {result['cost']:.4g}" if result["cost"] is not None else ""
        lines.append(f"{tokens['input']} input and {tokens['output']} output tokens{cost}")
    lines.append(
        f"asked in this run: {result['this_run']['questions'] - result['this_run']['from_cache']} "
        f"of {result['this_run']['questions']}, the rest was in the cache"
    )
    for line in lines:
        console_out().print(line, markup=False, soft_wrap=True)
