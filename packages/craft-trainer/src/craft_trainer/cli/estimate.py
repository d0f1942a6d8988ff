"""``craft-trainer estimate``: what a configuration costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from craft_trainer.config.schema import AnyStage, Config
    from craft_trainer.data.examples import Examples

app = typer.Typer(add_completion=False)


@app.command()
def estimate(
    config: Annotated[Path, typer.Argument(help="YAML file, as for `craft-trainer train`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As for `train`.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Take two steps of every stage on a few images, and time the second."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for estimate.json and estimate.md.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Tell what each stage computes and how much memory it takes, before it runs.

    Work is counted in forwards of the denoiser on one image; a backward pass counts as two, and as
    three with gradient checkpointing. Memory is counted by building the modules without their
    weights, from the configuration files of the base model and the critic, where these are here.
    The formulas are in the modules `craft_trainer.cost.estimate` and `craft_trainer.cost.memory`.
    """
    from cas_metric.cli.results import deliver
    from craft_trainer.config.schema import load_config
    from craft_trainer.cost.estimate import cost_of
    from craft_trainer.cost.memory import has_unconditional_branch
    from craft_trainer.data.examples import read_examples

    settings = load_config(config, list(overrides or []))
    examples = read_examples(settings.data.train, settings.data.domain)
    guided = has_unconditional_branch(settings)
    costs = [
        cost_of(settings, stage, _count(stage, examples), guided=guided)
        for stage in settings.stages
    ]
    memories, reason = _memories(settings, examples)
    measured = _measured(settings, examples) if measure else [None] * len(costs)
    result = [
        {
            **cost._asdict(),
            "memory": memory,
            "measured": timing,
            "hours": timing["seconds"] * cost.steps / 3600 if timing else None,
        }
        for cost, memory, timing in zip(costs, memories, measured, strict=True)
    ]
    text = _text(result, reason, checkpointing=settings.gradient_checkpointing)
    deliver(result, text, out=out, name="estimate", as_json=as_json)


def _count(stage: AnyStage, examples: Examples) -> int:
    """Training images, or the pairs where a stage passes over those."""
    from craft_trainer.config.schema import DpoStage
    from craft_trainer.preference.pairs import read_pairs

    if isinstance(stage, DpoStage) and stage.epochs is not None:
        return len(read_pairs(stage.pairs, examples)[0])
    return len(examples)


def _memories(config: Config, examples: Examples) -> tuple[list[dict[str, Any] | None], str]:
    """Of each stage, and why there is none where there is none."""
    from cas_metric.errors import CasError
    from craft_trainer.cost.memory import memory_of, parts_of

    try:
        parts = parts_of(config)
        classes = len(set(examples.labels))
        found = [
            memory_of(config, stage, classes, parts)._asdict() if stage.method in _TRAINED else None
            for stage in config.stages
        ]
    except CasError as error:
        return [None] * len(config.stages), error.problem
    return found, ""


_TRAINED = ("textual_inversion", "lora", "dpo", "craft")


def _measured(config: Config, examples: Examples) -> list[dict[str, Any] | None]:
    from cas_metric.cli.common import CountProgress
    from craft_trainer.cost.measuring import measure

    found: list[dict[str, Any] | None] = []
    with CountProgress("stages") as bar:
        for number, stage in enumerate(config.stages, start=1):
            bar(number - 1, len(config.stages))
            trained = stage.method in _TRAINED
            found.append(measure(config, number, examples)._asdict() if trained else None)
    return found


def _text(stages: Sequence[Mapping[str, Any]], reason: str, *, checkpointing: bool) -> str:
    """Tables of work, memory and time, as Markdown."""
    from cas_metric.statistics.tables import markdown_table

    work = [
        [
            one["method"],
            f"{one['steps']:,}",
            f"{one['forwards_per_image']:g}",
            f"{one['forwards_per_step']:g}",
            f"{one['forwards']:,.0f}",
            f"{one['look_forwards']:,.0f}",
        ]
        for one in stages
    ]
    headings = ["stage", "steps", "forwards / image", "/ step", "in all", "held-out looks"]
    parts = [markdown_table(headings, work)]
    memory = [
        [
            one["method"],
            *(
                f"{one['memory'][name]:.3g}"
                for name in ("weights", "optimizer", "activations", "checkpointed", "total")
            ),
        ]
        for one in stages
        if one["memory"]
    ]
    if memory:
        headings = ["GB", "weights", "optimizer", "activations", "… checkpointed", "total"]
        parts.append(markdown_table(headings, memory))
        parts.append(
            f"The total is with{'' if checkpointing else 'out'} gradient checkpointing, before "
            "workspaces: allow for a tenth more."
        )
    else:
        parts.append(f"Memory is not estimated: {reason}")
    timed = [
        [
            one["method"],
            one["measured"]["device"],
            f"{one['measured']['seconds']:.2f}",
            f"{one['hours']:.2f}",
            "–" if one["measured"]["peak"] is None else f"{one['measured']['peak']:.2f}",
        ]
        for one in stages
        if one["measured"]
    ]
    if timed:
        parts.append(markdown_table(["stage", "device", "s / step", "hours", "peak GB"], timed))
    return "\n\n".join(parts)
