"""``craft-trainer pairs``: preference pairs for the `dpo` stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from craft_trainer.cli.options import StageName

if TYPE_CHECKING:
    import torch

    from cas_metric.embedding.cache import EmbeddingCache
    from craft_trainer.config.schema import Config
    from craft_trainer.data.examples import Examples
    from craft_trainer.preference.judges import Judge

app = typer.Typer(add_completion=False)


@app.command()
def pairs(
    artifact: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or the `artifact` of the stage to draw samples of."),
    ],
    prompts: Annotated[
        Path, typer.Argument(help="Manifest of real training images with labels and prompts.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images and pairs.csv.")],
    stage: StageName = None,
    count: Annotated[int, typer.Option("--pairs", min=1, help="Pairs to make.")] = 1024,
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            metavar="JUDGE",
            help="cas: the Clinical Alignment Score; r_cam: the reward of CRAFT; mllm:SPEC: a "
            "multimodal language model, e.g. mllm:local:google/medgemma-4b-it.",
        ),
    ] = "cas",
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Of cas and r_cam. Default: the critic of the run."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of order and noise.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in a pass.")] = 8,
    cache: Annotated[
        str | None, typer.Option("--cache", help="Folder of the embedding store, or `none`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Draw two samples a prompt that differ in their seed, and let a judge choose the better one.

    Images that exist are kept and answers of a language model are remembered: the same command
    continues an interrupted one, and another --judge or more --pairs draw nothing anew. The
    folder's cas.yaml says what the images were drawn with; another stage or seed needs another
    folder. A judge should not be the encoder that scores the result.
    """
    import torch

    from cas_metric.cli.common import console_out, emit_json
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.manifest import FolderConfig
    from craft_trainer.artifact.saving import (
        CONFIG_FILE,
        find_artifact,
        load_trained,
        origin_of,
        stage_of,
    )
    from craft_trainer.cli.progress import Bars
    from craft_trainer.config.schema import load_config
    from craft_trainer.data.examples import conditioning_texts, read_examples
    from craft_trainer.generation import claim_folder, drawn_with
    from craft_trainer.preference import pairs as making

    artifact = find_artifact(artifact, stage)
    config = load_config(artifact / CONFIG_FILE)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples = read_examples(prompts, config.data.domain)
    candidates = making.plan(count, len(examples), seed)
    with Bars() as bars, EmbeddingCache(cache) as store:
        judging = _judge(judge, encoder, config, examples, device, store)
        model = load_trained(artifact, config, device)
        template = stage_of(artifact, config).prompt
        texts = conditioning_texts(examples, template, model.tokens)
        origin = {**origin_of(artifact, config), "prompt": template, "seed": seed}
        made = drawn_with("craft-trainer pairs", config, examples, texts, origin)
        claim_folder(out, FolderConfig(provenance=made))
        drawn = making.draw(
            model,
            candidates,
            texts,
            out,
            seed=seed,
            sampling=config.sampling,
            resolution=config.data.resolution,
            batch_size=batch_size,
            progress=lambda done, total: bars("images", done, total),
        )
        preferences = judging.prefer(
            candidates, out, lambda done, total: bars("pairs judged", done, total)
        )
    table = making.write_pairs(out, candidates, preferences, examples, judging.name)
    result = {
        "pairs": str(out / making.TABLE),
        "count": len(table),
        "without_preference": count - len(table),
        "judge": judging.name,
        "drawn": drawn,
    }
    if as_json:
        emit_json(result)
    else:
        console_out().print(
            f"{len(table)} pairs by {judging.name}, {count - len(table)} without a preference: "
            f"{out / making.TABLE}",
            soft_wrap=True,
        )
    if len(table) < count:
        raise typer.Exit(3)


def _judge(
    spec: str,
    encoder: str | None,
    config: Config,
    examples: Examples,
    device: torch.device,
    cache: EmbeddingCache,
) -> Judge:
    """The judge that a user names, before any image is drawn."""
    from cas_metric.encoders import load_encoder
    from cas_metric.errors import InputError
    from craft_trainer.preference.judges import AlignmentJudge, LanguageModelJudge

    kind, _, model = spec.partition(":")
    if kind == "mllm" and model:
        from cas_metric.mllm import AnswerCache, open_model

        opened = open_model(model, device=str(device), offline=config.offline)
        return LanguageModelJudge(examples, opened, AnswerCache(cache.directory))
    if spec not in ("cas", "r_cam"):
        raise InputError(f"no judge {spec!r}", fix="cas, r_cam, or mllm:SPEC")
    loaded = load_encoder(
        encoder or config.critic.encoder,
        device=str(device),
        offline=config.offline,
        text_policy=config.critic.text_policy,
    )
    probe = config.critic.probe if encoder is None else None
    score: Literal["cas", "r_cam"] = "cas" if spec == "cas" else "r_cam"
    return AlignmentJudge(examples, loaded, cache, score, probe)
