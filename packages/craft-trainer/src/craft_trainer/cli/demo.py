"""``craft-trainer demo``: the whole path on the embedded world, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    lora: Annotated[int, typer.Option("--lora", min=1, help="Steps of LoRA.")] = 150,
    craft: Annotated[int, typer.Option("--craft", min=1, help="Steps of CRAFT.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Adapt the embedded model to drawings of one modality, and score it before and after.

    Textual inversion, LoRA and CRAFT with the critic phantom-medsiglip; the scores are those of
    phantom-siglip, which gives no reward, on prompts that were held out. Nothing is downloaded, and
    nothing here is medical data. An interrupted demo continues.
    """
    from cas_metric.cli.common import console_out, emit_json
    from cas_metric.phantoms.dataset import write_phantom_dataset
    from cas_metric.statistics.tables import PHANTOM_NOTICE
    from craft_trainer.artifact.card import change_of, held_out_table
    from craft_trainer.cli.progress import Bars
    from craft_trainer.demo import EVALUATOR, Size, configuration, looks_of, write_comparison
    from craft_trainer.training.trainer import train as run

    size = Size(train, prompts, inversion, lora, craft)
    if not as_json:
        console_out().print(PHANTOM_NOTICE.replace("**", ""), soft_wrap=True)
    config = configuration(domain, out, size, base=base)
    write_phantom_dataset(domain, out / "data", train=train, test=prompts)
    with Bars() as bars:
        artifact = run(config, progress=bars, cache=out / "cache")
    looks = looks_of(config)
    first, *_, last = looks.values()
    change = change_of(first, last)
    card, sheet = artifact / "README.md", out / "samples.png"
    rows = write_comparison(config, sheet)
    if as_json:
        cas = {name: look.cas for name, look in looks.items()}
        told = {"cas": cas, "change": change._asdict(), "samples": str(sheet), "card": str(card)}
        emit_json(told)
        return
    console = console_out()
    console.print(held_out_table(looks), markup=False, soft_wrap=True)
    console.print(
        f"CAS by {EVALUATOR} on {prompts} held-out prompts; means with 95% bootstrap intervals. "
        f"Change, paired by prompt: {change.estimate:+.3f} ({change.low:+.3f} to "
        f"{change.high:+.3f}).",
        soft_wrap=True,
    )
    console.print(f"Samples: {sheet} (from above: {', '.join(rows)})", soft_wrap=True)
    console.print(f"Model card: {card}", soft_wrap=True)
