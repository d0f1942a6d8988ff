"""``craft-trainer enrich``: prompts (t_ep) and checklists (t_c) from a language model, Stage 1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import asking as ask
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.errors import EXIT_SOME_FAILED

HELP = """
Have a multimodal language model describe every image under its label (§3.1, Appendix B).

The label is given as a constraint, the domain pack's prompt schema says which answers are
accepted: closed vocabularies, word limits, forbidden terms. A faulty answer goes back with what is
wrong with it; one that stays faulty is listed in rejected.csv and never passed on.

OUT is a folder that `craft-trainer train` and `cas score` read: the rows of SOURCE with their
prompts, and the images where they lay. Images leave this machine unless the model is local.

`--checklists` drafts checklists for the classes of a pack that have none; a clinician has to
review them.
"""

EPILOG = """
**Examples**

- `craft-trainer enrich data/chexpert/train --mllm openai:gpt-4o --cases 5 --out try`

- `craft-trainer enrich data/chexpert/train --mllm local:google/medgemma-4b-it --out enriched`

- `craft-trainer enrich demo/real/train --mllm phantom-llava --offline`

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
    source: Annotated[
        Path | None,
        typer.Argument(metavar="SOURCE", help="Manifest or folder of the images and labels."),
    ] = None,
    domain: ask.Domain = None,
    seed: ask.Seed = None,
    cases: ask.Cases = None,
    draw_seed: ask.DrawSeed = protocol.BOOTSTRAP_SEED,
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
    limit: Annotated[int | None, typer.Option(hidden=True, min=1)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for the manifest and answers. Default: enriched/ and the name of the "
            "source, or checklists/.",
            metavar="DIR",
        ),
    ] = None,
    as_json: option.Json = False,
) -> None:
    """See :data:`HELP`."""
    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.enrichment import verb
    from craft_trainer.enrichment.rows import Choice

    if limit is not None:
        ask.say_all(
            ["--limit is deprecated and will go: --cases N takes N images, drawn at random"]
        )
    with CountProgress("classes" if checklists else "images") as bar:
        result = verb.enrich(
            *(source, asking, out),
            domain=domain,
            choice=Choice(seed, cases, draw_seed, limit),
            label_only=label_only,
            checklists=checklists,
            progress=bar,
        )
    ask.say_all(result["notes"])
    if as_json:
        emit_json(result)
    else:
        for line in verb.summary_lines(result):
            console_out().print(line, soft_wrap=True)
    if result["rejected"]:
        raise typer.Exit(EXIT_SOME_FAILED)
