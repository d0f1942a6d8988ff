"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path, typer.Argument(help="YAML file with the base model, the data and the stages.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Values in place of the file's, with dotted keys: data.resolution=256 "
        "stages.2.learning_rate=1e-5 (positions count from 0).",
    ),
]
StageName = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar="STAGE",
        help="Of a run: number or method, e.g. 2 or lora. Default: the last finished one.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
