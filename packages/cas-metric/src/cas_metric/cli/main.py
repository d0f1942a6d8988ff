"""Entry point of ``cas``.

Verbs are imported on use: ``cas --help`` must not wait for torch. Every module named below defines
``app``, a :class:`typer.Typer`, holding either one command or a group of them.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar, Final

import typer

from cas_metric.cli.lazy import LazyGroup
from cas_metric.errors import CasError, RankStopped

#: verb -> (module, one-line help); the order is that of a user's work.
VERBS: Final[dict[str, tuple[str, str]]] = {
    "score": ("score", "Score every generated image against its real reference."),
    "demo": ("demo", "Score three sets of known quality on the embedded world."),
    "doctor": ("doctor", "Tell what works on this machine and what is missing."),
    "compare": ("compare", "Compare runs of several methods: tables, tails, tests."),
    "study": ("study", "Run a blinded ranking study with human raters."),
    "preference": ("preference", "Bradley-Terry scores and agreement from rankings."),
    "correlate": ("correlate", "Correlate method-level scores with another quantity."),
    "memorization": ("memorization", "Near-duplicates and nearest neighbours of training images."),
    "leakage": ("leakage", "Duplicates and shared patients between two splits."),
    "diversity": ("diversity", "LPIPS and embedding diversity of the samples of a prompt."),
    "fidelity": ("fidelity", "FID, KID and precision/recall on any encoder's features."),
    "utility": ("utility", "Accuracy of classifiers trained on real and synthetic images."),
    "audit": ("audit", "Have a language model judge the checklist items of images."),
    "judge": ("judge", "Have a language model rank the images of several methods."),
    "check": ("check", "Recompute what a published results table lets one derive."),
    "domains": ("domains", "List, show, create and validate domain packs."),
    "encoders": ("encoders", "List encoders, check one, show what its tokenizer sees."),
    "datasets": ("datasets", "Prepare the clinical data sets, or draw phantom ones."),
}


class Verbs(LazyGroup):
    """The verbs of ``cas``."""

    verbs: ClassVar = {
        verb: (f"cas_metric.cli.{name}", line) for verb, (name, line) in VERBS.items()
    }


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Clinical Alignment Score (CAS): how clinically faithful is every synthetic image?",
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from cas_metric import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run ``cas``; a :class:`CasError` becomes its message on stderr and its exit code."""
    # Only one tokenizer call is in flight at a time here, and forked decoding workers would warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except RankStopped as stopped:  # rank 0 speaks for all
        sys.exit(stopped.exit_code)
    except CasError as error:
        typer.echo(f"cas: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
