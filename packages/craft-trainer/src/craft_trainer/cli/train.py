"""``craft-trainer train``: run the stages of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from craft_trainer.cli.options import AsJson, ConfigFile, Overrides

app = typer.Typer(add_completion=False)


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run, in place of `output`.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option("--cache", help="Folder of the embedding store, or `none`.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="OWNER/NAME",
            help="Upload the last artefact to this repository; a new one is private.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a base model, one stage after the other.

    Each stage starts from what the one before it learned and has a folder of its own. The same
    command continues an interrupted run, also a killed one, from the latest checkpoint: the result
    is the same as without the interruption.
    """
    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.artifact.hub import push_to_hub, require_login
    from craft_trainer.cli.progress import Bars
    from craft_trainer.config.schema import load_config
    from craft_trainer.training.run import train as run

    changes: dict[str, Any] = {} if out is None else {"output": out}
    if push is not None:
        require_login(push)
    with Bars() as bars:
        found = run(load_config(config, overrides or ()), progress=bars, cache=cache, **changes)
    if not found.first:
        return
    told = {"artifact": str(found.artifact), "output": str(found.output)}
    if push is not None:
        told["pushed"] = push_to_hub(found.artifact, push)
    if as_json:
        emit_json(told)
        return
    console_out().print(f"Trained: {found.artifact}", soft_wrap=True)
    if push is not None:
        console_out().print(f"Pushed: {told['pushed']}", soft_wrap=True)
