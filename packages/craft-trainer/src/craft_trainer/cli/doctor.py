"""``craft-trainer doctor``: whether a configuration can run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craft_trainer.cli.options import AsJson, ConfigFile, Overrides

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for doctor.json and doctor.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine everything that a run needs, without training, downloading or changing anything.

    Exit code 0: it can start. 2: the configuration or the data must be corrected. 4: a model is
    not on this machine; with a network, `craft-trainer train` would download it.
    """
    from cas_metric.cli.results import finish
    from cas_metric.verbs.result import require_free
    from craft_trainer.config.schema import load_config
    from craft_trainer.cost.doctor import doctor as run

    require_free(out, "doctor", None, files=("doctor.json", "doctor.md"))
    found = run(load_config(config, overrides or ()))
    finish(found, out, as_json=as_json)
    raise typer.Exit(found.summary["exit_code"])
