"""``craft-trainer doctor``: whether a configuration can run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    config: Annotated[Path, typer.Argument(help="YAML file, as for `craft-trainer train`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As for `train`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for doctor.json and doctor.md.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Examine everything that a run needs, without training, downloading or changing anything.

    Exit code 0: it can start. 2: the configuration or the data must be corrected. 4: a model is
    not on this machine; with a network, `craft-trainer train` would download it.
    """
    from cas_metric.cli.results import deliver
    from cas_metric.statistics.tables import markdown_table
    from craft_trainer.config.schema import load_config
    from craft_trainer.cost.checkup import examine, exit_code

    checks = examine(load_config(config, list(overrides or [])))
    result = {"exit_code": exit_code(checks), "checks": [check._asdict() for check in checks]}
    rows = [[one.status, one.name, one.detail, one.fix] for one in checks]
    text = markdown_table(["", "check", "found", "what to do"], rows)
    deliver(result, text, out=out, name="doctor", as_json=as_json)
    raise typer.Exit(exit_code(checks))
