"""``craft-trainer train``: run the stages of a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file with the base, the data, the stages.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Values in place of the file's, with dotted keys: "
            "data.resolution=256 stages.2.learning_rate=1e-5 (positions count from 0).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run, in place of `output`.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option("--cache", help="Folder of the embedding store, or `none`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Adapt a base model, one stage after the other.

    Each stage starts from what the one before it learned and has a folder of its own. The same
    command continues an interrupted run, also a killed one, from the latest checkpoint: the result
    is the same as without the interruption.
    """
    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.cli.progress import Bars
    from craft_trainer.config.schema import load_config
    from craft_trainer.training.ranks import is_first
    from craft_trainer.training.trainer import silent
    from craft_trainer.training.trainer import train as run

    words = list(overrides or [])
    if out is not None:
        # In quotes: `run #2`, `null` and `1e3` are folders, and something else in YAML.
        words.append(f"output={json.dumps(str(out), ensure_ascii=False)}")
    settings = load_config(config, words)
    with Bars() as bars:
        artifact = run(settings, progress=bars if is_first() else silent, cache=cache)
    if not is_first():
        return
    if as_json:
        emit_json({"artifact": str(artifact), "output": str(settings.output)})
    else:
        console_out().print(f"Trained: {artifact}", soft_wrap=True)
