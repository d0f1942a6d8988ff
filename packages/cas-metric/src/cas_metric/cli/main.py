"""Entry point of ``cas``.

Verbs are imported on use: ``cas --help`` must not wait for torch. A verb is a module of this folder
whose first line is ``cas NAME`` in double backticks, a colon and what it does, and which defines
``app``, a :class:`typer.Typer` that holds one command or a group of them. A package brings verbs by
entry points of the group ``cas_metric.verbs``, each naming such a module.
"""

from __future__ import annotations

from typing import ClassVar, Final

import typer

from cas_metric.cli.entry import LazyGroup, run, verbs_in

#: Verbs in the order of a user's work; any other comes after them.
ORDER: Final = (
    *("score", "demo", "doctor", "compare", "explain", "select", "gate", "study", "preference"),
    *("correlate", "memorization", "leakage", "diversity", "fidelity", "utility", "audit", "judge"),
    *("check", "domains", "encoders", "datasets"),
)
#: Verb to its module and its one-line help.
VERBS: Final = verbs_in("cas_metric.cli", "cas", ORDER)


class Verbs(LazyGroup):
    """The verbs of ``cas``."""

    verbs: ClassVar = VERBS
    entry_points: ClassVar = "cas_metric.verbs"


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
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
    """Run ``cas``; an error becomes its message on stderr and its exit code."""
    run(app, "cas")


if __name__ == "__main__":
    main()
