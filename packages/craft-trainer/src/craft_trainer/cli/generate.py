"""``craft-trainer generate``: seeds × prompts of a manifest, for ``cas score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craft_trainer.cli.options import StageName

app = typer.Typer(add_completion=False)


@app.command()
def generate(
    artifact: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run of `craft-trainer train`, or the `artifact` of one of its stages."
        ),
    ],
    prompts: Annotated[
        Path,
        typer.Argument(help="Manifest of the real images to re-synthesise: labels and prompts."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings other than those of training, e.g. sampling.steps=50.",
        ),
    ] = None,
    stage: StageName = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Images a prompt.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in a pass.")] = 8,
    method: Annotated[
        str | None, typer.Option("--method", help="Name in the tables. Default: the stage's.")
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Leave the artefact out: the base model alone.")
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            help="Template of the text, with {prompt}, {label}, {token}. Default: the stage's.",
        ),
    ] = None,
    lora_scale: Annotated[
        float,
        typer.Option("--lora-scale", min=0, help="How much of the adapter counts: 0 is the base."),
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Draw every prompt of a manifest with several seeds into a folder that `cas score` reads.

    Base model, sampler and guidance are those of training, unless replaced. Images that exist are
    kept: the same command continues an interrupted one. The folder's cas.yaml names the domain and
    the training split, and what the images were drawn with; other settings need another folder.
    """
    import torch

    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.artifact.saving import (
        CONFIG_FILE,
        find_artifact,
        load_base,
        load_trained,
        origin_of,
        stage_of,
    )
    from craft_trainer.bases.lora import scale_lora
    from craft_trainer.cli.progress import Bars
    from craft_trainer.config.schema import load_config
    from craft_trainer.data.examples import conditioning_texts, read_examples
    from craft_trainer.generation import claim_folder, folder_config, generate_folder

    artifact = find_artifact(artifact, stage)
    config = load_config(artifact / CONFIG_FILE, overrides or ())
    trained = stage_of(artifact, config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples = read_examples(prompts, config.data.domain)
    model = load_base(config, device) if zero_shot else load_trained(artifact, config, device)
    scale_lora(model, lora_scale)
    template = prompt or ("{prompt}" if zero_shot else trained.prompt)
    texts = conditioning_texts(examples, template, model.tokens)
    origin = {
        **origin_of(artifact, config),
        "zero_shot": zero_shot,
        "lora_scale": lora_scale,
        "prompt": template,
    }
    claim_folder(out, folder_config(config, examples, texts, origin))
    with Bars() as bars:
        drawn = generate_folder(
            model,
            examples,
            texts,
            out,
            seeds=range(seeds),
            method=method or ("zero_shot" if zero_shot else trained.method),
            sampling=config.sampling,
            resolution=config.data.resolution,
            batch_size=batch_size,
            progress=lambda done, total: bars("images", done, total),
        )
    kept = len(examples) * seeds - drawn
    if as_json:
        emit_json({"out": str(out), "artifact": str(artifact), "drawn": drawn, "kept": kept})
    else:
        console_out().print(f"{drawn} images drawn, {kept} kept: {out}", soft_wrap=True)
