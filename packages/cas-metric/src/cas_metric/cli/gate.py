"""``cas gate``: hold a run against a policy: pass, fail or undecided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import options as option
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

HELP = """
Hold RUN against POLICY, a YAML file, by intervals.

Ends with 0 where every rule is met, with 1 where one is violated, and with 5 where the images do
not tell: an interval holds the limit.

    confidence: 0.99            # all rules together: of unchanged runs at most 1% fail
    baseline: runs/main         # relative to this file
    rules:
      - {metric: cas, at_least: 0.45}
      - {metric: cas, against: baseline, margin: 0.02}
      - {metric: dd, against: floor, margin: 0.1, class: each}
      - {metric: low_rate, at_most: 0.4}
      - {metric: failed, at_most: 0}

A metric is any column of scores (its mean), low_rate or failed. `against` is `real`, `floor` or
`baseline`, case by case; `class: each` judges every class, `method` one method.

--out writes gate.md (for a pull request), gate.json, gate.csv and junit.xml. In a test suite:
`assert_aligned(run, policy)`, a fixture that pytest finds by itself.
"""


@app.command(help=HELP, no_args_is_help=True)
def gate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a `cas score` run.")],
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="The rules, a YAML file.")],
    baseline: Annotated[
        Path | None,
        typer.Option(help="Run to hold RUN against, in place of the policy's.", metavar="RUN"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the files.", metavar="DIR")
    ] = None,
    as_json: option.Json = False,
) -> None:
    """Judge a run; the help text is :data:`HELP`."""
    from cas_metric.verbs import gate as verb

    result = verb.gate(run, policy, baseline=baseline)
    finish(result, out, as_json=as_json)
    raise typer.Exit(result.exit_code)
