"""``cas judge``: have a language model rank the images of several methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import asking as ask
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

HELP = """
Have a multimodal language model rank the images that several methods made of the same cases.

Each SOURCE is a run of `cas score`, a manifest or a folder of images; `NAME=SOURCE` names the
method, unless one source has several. Images of one case share their reference (else their id).
The judge sees the target diagnosis, the prompt and the candidates, labelled A, B, … in random
order, and ranks them by the criteria of the domain (Appendix E). It never learns a method's name;
only its rankings are used.

Language models favour places. Every case is therefore shown in several orders (`--permutations`)
in which each method stands in each place equally often, and the report says how often each place
won and how far the orders agree.

Writes rankings.csv (which `cas preference` reads), questions.csv, summary.json, judge.md, figures.
"""

EPILOG = """
**Examples**

- `cas judge TI=gen/ti LoRA=gen/lora CRAFT=gen/craft --mllm openai:gpt-4o --out judge`

- `cas judge TI=runs/ti DPO=runs/dpo CRAFT=runs/craft --mllm local:Qwen/Qwen2.5-VL-7B-Instruct
--cases 100 --permutations 3`

**Exit codes**

0 done; 3 done, but some questions got no ranking; 2 wrong usage or input; 4 the model is not
available. An interrupted judgement continues where it was: answers are kept.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
@ask.asks
def judge(
    sources: ask.Sources,
    asking: ask.Asking,
    domain: ask.Domain = None,
    seed: ask.Seed = None,
    cases: ask.Cases = None,
    draw_seed: ask.DrawSeed = protocol.BOOTSTRAP_SEED,
    permutations: Annotated[
        int,
        typer.Option(
            help="Orders in which each case is shown; a multiple of the number of methods "
            "balances places within every case.",
            metavar="P",
            min=1,
        ),
    ] = 2,
    cas: Annotated[
        Path | None,
        typer.Option(
            help="CSV with method and cas (comparison.csv of `cas compare`), to correlate. "
            "Default: the mean CAS of the sources, where all are runs."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, help="Random arrangements of the permutation tests.")
    ] = protocol.RESAMPLES,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for rankings, summary, tables and figures. Default: judge/.",
            metavar="DIR",
        ),
    ] = None,
    as_json: option.Json = False,
) -> None:
    """Rank the images of several methods; the help text is :data:`HELP`."""
    from cas_metric.verbs import judge as verb

    with CountProgress("rankings") as bar:
        result = verb.judge(
            *(sources, asking),
            domain=domain,
            seed=seed,
            cases=cases,
            permutations=permutations,
            draw_seed=draw_seed,
            cas=cas,
            resamples=resamples,
            out=out,
            progress=bar,
        )
    finish(result, None, as_json=as_json)
