"""``craft-trainer demo``: the whole path on the embedded world, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craft_trainer.cli.options import AsJson

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write everything to.")] = Path(
        "craft-demo"
    ),
    domain: Annotated[
        str, typer.Option("--domain", help="chexpert, fitzpatrick17k, breakhis or origa.")
    ] = "chexpert",
    base: Annotated[
        str, typer.Option("--base", help="Another Stable Diffusion pipeline of 64 pixels.")
    ] = "phantom-sd",
    train: Annotated[int, typer.Option("--train", min=8, help="Training images.")] = 120,
    prompts: Annotated[int, typer.Option("--prompts", min=4, help="Held-out prompts.")] = 32,
    inversion: Annotated[
        int, typer.Option("--inversion", min=1, help="Steps of textual inversion.")
    ] = 40,
    lora: Annotated[int, typer.Option("--lora", min=1, help="Steps of LoRA.")] = 600,
    craft: Annotated[int, typer.Option("--craft", min=1, help="Steps of CRAFT.")] = 30,
    enriched: Annotated[
        bool,
        typer.Option(
            "--enrich",
            help="Have the embedded language model phantom-llava write the training prompts.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Adapt the embedded model to drawings of one modality, and score it before and after.

    Textual inversion, LoRA and CRAFT with the critic phantom-medsiglip; the scores are those of
    phantom-siglip, which gives no reward, on prompts that were held out. Nothing is downloaded, and
    nothing here is medical data. An interrupted demo continues.
    """
    from cas_metric.cli.common import console_out, emit_json
    from cas_metric.statistics.tables import PHANTOM_NOTICE
    from craft_trainer.artifact.model_card import held_out_table, told_change
    from craft_trainer.cli.progress import Bars
    from craft_trainer.training.demo import EVALUATOR, Size
    from craft_trainer.training.demo import demo as run

    console = console_out()
    if not as_json:
        console.print(PHANTOM_NOTICE.replace("**", ""), soft_wrap=True)
    with Bars() as bars:
        size = Size(train, prompts, inversion, lora, craft)
        found = run(out, domain, size, base=base, enriched=enriched, progress=bars)
    if as_json:
        cas = {name: look.cas for name, look in found.looks.items()}
        files = {"samples": str(found.samples), "card": str(found.card)}
        notes = list(found.notes)
        emit_json({"cas": cas, "change": found.change._asdict(), "notes": notes, **files})
        return
    for note in found.notes:
        console.print(f"Note: {note}", soft_wrap=True)
    console.print(held_out_table(found.looks), soft_wrap=True)
    console.print(
        f"CAS by {EVALUATOR} on {prompts} held-out prompts; means with 95% intervals. "
        f"Change, paired by prompt: {told_change(found.change)}.",
        soft_wrap=True,
    )
    rows = ", ".join(found.rows)
    console.print(f"Samples: {found.samples} (from above: {rows})", soft_wrap=True)
    console.print(f"Model card: {found.card}", soft_wrap=True)
