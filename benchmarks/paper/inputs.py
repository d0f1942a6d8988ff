"""What a reproduction takes beside its own steps, and whether it is at hand: ``--plan``.

Looked at without loading or downloading anything, and without a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.paper.pipeline import Pipeline, given_split, images_in, lacking_prompts
from benchmarks.paper.steps import Step

from cas_metric.encoders import hub
from cas_metric.encoders.registry import resolve
from cas_metric.errors import CasError
from cas_metric.mllm.endpoint import access_from


def missing(pipeline: Pipeline, wanted: Sequence[Step]) -> list[str]:
    """What must be there before the first step and is not."""
    return [*_data(pipeline), *_files(pipeline), *_language_model(pipeline, wanted)]


def models(pipeline: Pipeline, wanted: Sequence[Step]) -> list[str]:
    """A line for every model of the steps that are left: where it is, or that it is fetched."""
    words = [word for step in wanted if not step.done for word in step.command]
    trained = [step for step in wanted if not step.done and step.name.startswith("adapters/")]
    encoders = [words[i + 1] for i, word in enumerate(words) if word == "--encoder"]
    lines = [_base(pipeline.settings.base)] if trained else []
    settings = [text for step in trained for text in step.files.values()]
    if any("method: craft" in text for text in settings) or "pairs" in words:
        encoders.append(pipeline.scale.critic)
    return [*lines, *(_encoder(spec) for spec in dict.fromkeys(encoders))]


def _data(pipeline: Pipeline) -> Iterator[str]:
    data = pipeline.settings.data
    if data is None:
        return
    for split, taken in (("train", pipeline.train), ("test", pipeline.test)):
        given = given_split(data, split)
        if not given.exists():
            yield f"{given}: no prepared split (see: cas datasets prepare --help)"
        elif taken == given and (empty := lacking_prompts(data, split)):
            fix = "with --mllm SPEC, craft-trainer enrich writes them first"
            yield f"{given}: {empty} of {images_in(given)} rows have no prompt; {fix}"


def _files(pipeline: Pipeline) -> Iterator[str]:
    settings = pipeline.settings
    for option, path in (("--backbone", settings.backbone), ("--rankings", settings.rankings)):
        if path is not None and not path.is_file():
            yield f"{path}: no such file ({option})"


def _language_model(pipeline: Pipeline, wanted: Sequence[Step]) -> Iterator[str]:
    asked = any("--mllm" in step.command for step in wanted if not step.done)
    spec = pipeline.settings.mllm or ""
    if asked and spec.startswith("openai:"):
        try:
            access_from(os.environ)
        except CasError as error:
            yield f"{spec}: {error.problem}; {error.fix}"


def _base(spec: str) -> str:
    from huggingface_hub import try_to_load_from_cache

    if Path(spec).is_dir():
        return f"base model {spec}: a directory"
    if not hub.HUB_ID.fullmatch(spec):
        return f"base model {spec}: embedded"
    held = isinstance(try_to_load_from_cache(spec, "model_index.json"), str)
    return f"base model {spec}: {'in the cache' if held else 'fetched by the first training'}"


def _encoder(spec: str) -> str:
    try:
        source = resolve(spec)
    except CasError as error:
        return f"encoder {spec}: {error.problem}"
    if source.hub_id is None:
        return f"encoder {spec}: {source.revision}"
    openclip = source.openclip is not None
    held = hub.find_cached(source.hub_id, source.revision, openclip=openclip) is not None
    return f"encoder {spec}: {source.hub_id}, {'in the cache' if held else 'fetched at first use'}"
