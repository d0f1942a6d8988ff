"""``cas doctor``: tell what works on this machine and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from cas_metric.cli.options import Cache
from cas_metric.cli.results import finish

HELP = """
Tell what works on this machine and what is missing.

Lists versions, devices, the embedding cache, the optional packages, and which encoders can be
loaded without a download. Nothing is loaded, downloaded or changed.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP)
def doctor(
    cache: Cache = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Examine this machine; the help text is :data:`HELP`."""
    from cas_metric.verbs import doctor as verb

    finish(verb.doctor(cache), None, as_json=as_json)
