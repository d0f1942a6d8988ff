"""Entry point of ``craft-trainer``; verbs are imported on use, so ``--help`` is quick."""

from __future__ import annotations

from typing import ClassVar, Final

import typer

from cas_metric.cli.entry import LazyGroup, run

#: verb -> one-line help; the module of the same name defines ``app``.
VERBS: Final[dict[str, str]] = {
    "new": "Write a commented configuration to begin with.",
    "enrich": "Have a language model describe the training images: prompts, Stage 1.",
    "train": "Adapt a base model: textual inversion, LoRA, DPO, CRAFT, NFT, in turn.",
    "generate": "Draw seeds x prompts into a folder that `cas score` reads.",
    "pairs": "Draw pairs of samples and let a judge choose, for a `dpo` stage.",
    "canaries": "Plant pictures in a training set whose memorization can be measured.",
    "estimate": "Tell what a configuration costs, before it runs.",
    "doctor": "Tell whether a configuration can run on this machine.",
    "schema": "Print the JSON schema of a configuration, for editors.",
    "demo": "Adapt the embedded model to one phantom domain, and score it before and after.",
}


class Verbs(LazyGroup):
    """The verbs of ``craft-trainer``."""

    verbs: ClassVar = {verb: (f"craft_trainer.cli.{verb}", line) for verb, line in VERBS.items()}


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Clinical reward-aligned finetuning (CRAFT) of Stable Diffusion, Flux and Sana.",
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from craft_trainer import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run ``craft-trainer``; an error becomes its message and its exit code."""
    run(app, "craft-trainer")


if __name__ == "__main__":
    main()
