"""``cas audit``: have a language model judge the checklist items of images."""

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
Have a multimodal language model judge every checklist item of every image.

Each SOURCE is a run of `cas score`, a manifest or a folder of images; `NAME=SOURCE` names the
method. An image is shown with the items of its class, and nothing else: neither the method nor
the name of the class. Every item is **present**, **absent** or **not assessable**; the pass rate
of an image is the share of its assessable items that are present (§4.2.7, Table 3b).

With `--control`, every image is also held against the checklist of another class, which tells an
evaluator that looks from one that agrees. Where a source is a run, agreement with CCS is reported.

`--graded` puts every item as a question of its own and scores it with P(yes) (VQAScore).

`--report` puts no item: the model reports on the image in free words, rules read which classes the
report names, denies or doubts, and the support that it gives to the label is held beside CCS, DD
and CAS.

Writes audit.csv and audit.parquet (one row an item, with the evidence given), summary.json and
report.html; of `--report`, reports.csv and summary.json.
"""

EPILOG = """
**Examples**

- `cas audit TI=runs/ti CRAFT=runs/craft --mllm openai:gpt-4o --out audit`

- `cas audit demo/generated/faithful --mllm phantom-llava --graded --offline`

- `CAS_MLLM_BASE_URL=http://localhost:8000/v1 cas audit gen/ --domain chexpert --mllm
openai:lingshu-medical-mllm/Lingshu-7B --control`

**Exit codes**

0 done; 3 done, but some images got no verdict; 2 wrong usage or input; 4 the model is not
available. An interrupted audit continues where it was: answers are kept.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
@ask.asks
def audit(
    sources: ask.Sources,
    asking: ask.Asking,
    domain: ask.Domain = None,
    seed: ask.Seed = None,
    cases: ask.Cases = None,
    draw_seed: ask.DrawSeed = protocol.BOOTSTRAP_SEED,
    control: Annotated[
        bool,
        typer.Option("--control", help="Also ask for the checklist of another class."),
    ] = False,
    graded: Annotated[
        bool,
        typer.Option(
            "--graded",
            help="Ask for each item apart and read P(yes), from the logits of a local model or the "
            "logprobs of a server. A server that gives none answers yes or no, 1 or 0.",
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            help="With --graded: calibrate P(yes) against the verdicts of another audit of the "
            "same images (its folder or audit.csv).",
            metavar="AUDIT",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Have images reported on, and hold what the reports say against the labels.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for rows, summary and report. Default: audit/ and the name "
            "of the first source.",
            metavar="DIR",
        ),
    ] = None,
    as_json: option.Json = False,
) -> None:
    """Audit images against their checklists; the help text is :data:`HELP`."""
    from cas_metric.verbs import audit as verb

    with CountProgress("items" if graded else "images") as bar:
        result = verb.audit(
            *(sources, asking),
            domain=domain,
            seed=seed,
            cases=cases,
            control=control,
            graded=graded,
            against=against,
            report=report,
            draw_seed=draw_seed,
            out=out,
            progress=bar,
        )
    finish(result, None, as_json=as_json)
