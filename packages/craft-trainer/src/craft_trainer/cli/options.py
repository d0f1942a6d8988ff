"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

StageName = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar="STAGE",
        help="Of a run: number or method, e.g. 2 or lora. Default: the last finished one.",
    ),
]
