"""``craft-trainer enrich``: prompts (t_ep) and checklists (t_c) from a language model, Stage 1."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import asking as ask
from cas_metric.errors import EXIT_SOME_FAILED
from craft_trainer.cli.options import AsJson

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
@ask.asks
def enrich(
    asking: ask.Asking,
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
    as_json: AsJson = False,
) -> None:
    """See :data:`HELP`."""
    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.enrichment import verb

    verb.require_one_job(train, checklists=checklists)
    put = partial(ask.put_questions, asking=asking)
    price = verb.price_of(price_in, price_out)
    if train is None:
        result = verb.draft_checklists(domain, out, put, tell=ask.say_all)
    else:
        result = verb.enrich_prompts(
            train,
            out,
            put,
            domain=domain,
            label_only=label_only,
            limit=limit,
            price=price,
            tell=ask.say_all,
        )
    if as_json:
        emit_json(result)
    else:
        for line in verb.summary_lines(result):
            console_out().print(line, markup=False, soft_wrap=True)
    if result["rejected"]:
        raise typer.Exit(EXIT_SOME_FAILED)
