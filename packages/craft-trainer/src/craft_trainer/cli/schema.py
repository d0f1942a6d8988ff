"""``craft-trainer schema``: the JSON schema of a configuration."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of a configuration, for editors and other programs.

    Name it in the first line of a YAML file: `# yaml-language-server: $schema=FILE`.
    """
    from cas_metric.cli.common import emit_json
    from craft_trainer.config.description import json_schema

    emit_json(json_schema())
