"""Base models: load a diffusers pipeline of a known family, freeze it, save what was trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from torch._functorch import config as functorch

from cas_metric.encoders.weights import quiet_transformers
from cas_metric.errors import InputError, ModelUnavailable
from craft_trainer.bases.base import DiffusionModel, family_of
from craft_trainer.bases.lora import LORA_FILE, has_lora, load_lora, save_lora
from craft_trainer.bases.tokens import (
    EMBEDDINGS_FOLDER,
    attach_tokens,
    learned_tokens,
    read_tokens,
    save_tokens,
    spelling,
    token_of,
)
from craft_trainer.bases.weights import EMBEDDED, base_directory, empty_part, pipeline_name
from craft_trainer.config.schema import Config
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.forward_process import Diffusion
from craft_trainer.diffusion.sampling import sampling_scheduler


def require_sampling(config: Config) -> tuple[float, ...]:
    """Hold ``sampling`` and ``data.resolution`` against the base model, of which nothing is loaded.

    Returns:
        Timesteps of a trajectory; none of a flow model.

    Raises:
        InputError: It has more steps than the base model has timesteps, or names a setting that is
            not offered for such a model; or the model draws no images of that side, or has noise of
            another kind.
        ModelUnavailable: The base model cannot be had here.

    Examples:
        >>> from craft_trainer.config.schema import resolve
        >>> require_sampling(resolve(settings))[0]
        999.0
    """
    own = config.sampling
    directory = base_directory(config.base, config.revision, offline=config.offline)
    model = empty_model(directory)
    shape = model.latent_shape(config.data.resolution)
    _require_kind(own, model)
    file = directory / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return ()
    settings = json.loads(file.read_text(encoding="utf-8"))
    if str(settings.get("_class_name")).startswith("EDM"):
        raise InputError(
            f"the noise of the base model is that of {settings['_class_name']}, and no DDPM's",
            fix="take a base model whose scheduler has betas, or a flow model",
        )
    if model.noise_schedule:
        kind, cpu = own.sampler or "ddpm", torch.device("cpu")
        Diffusion.of(settings, cpu)  # refuses what it cannot train
        made = sampling_scheduler(settings, own.steps, own.timestep_spacing, cpu, kind)
        return tuple(float(time) for time in made.timesteps)
    model.pipeline.scheduler = getattr(diffusers, settings["_class_name"]).from_config(settings)
    if len(set(model.sampler(own, shape).timesteps.tolist())) < own.steps:
        raise InputError(
            f"sampling.steps {own.steps} is more than the timesteps of the base model allow",
            fix="take fewer steps",
        )
    return ()


def _require_kind(own: Sampling, model: DiffusionModel) -> None:
    """Refuse settings of models of another kind. InputError."""
    kind = "no flow model" if model.noise_schedule else "a flow model"
    for name in ("flow_sampler",) if model.noise_schedule else ("sampler", "timestep_spacing"):
        if getattr(own, name) != Sampling.model_fields[name].default:
            raise InputError(
                f"sampling.{name} is not offered for {model.pipeline_name}, {kind}",
                fix="leave it out; sampling.flow_sampler says how a flow model steps",
            )


def empty_model(directory: Path) -> DiffusionModel:
    """Denoiser and VAE in a folder from their configurations, on the device ``meta``: no weights.

    Raises:
        InputError: The pipeline is of another kind.
        ModelUnavailable: The folder lacks a configuration.
    """
    family = family_of(pipeline_name(directory))
    vae, trunk = empty_part(directory, "vae"), empty_part(directory, family.trunk_name)
    levels = getattr(vae.config, "block_out_channels", None)
    factor = 2 ** (len(levels or vae.config.encoder_block_out_channels) - 1)
    return family(SimpleNamespace(vae=vae, vae_scale_factor=factor, **{family.trunk_name: trunk}))


def spelt_tokens(
    config: Config, family: type[DiffusionModel], classes: Iterable[str]
) -> dict[str, list[str]]:
    """Class to the words that its learned token is spelt with, where a run has learned tokens.

    Raises:
        InputError: No token can be made of a class, or those of ``start`` are of another family.
    """
    folder = config.start / EMBEDDINGS_FOLDER if config.start is not None else None
    if folder is not None and folder.is_dir():
        tokens = read_tokens(folder, family)
        return {
            name: spelling(one.token, len(next(iter(one.vectors.values()))))
            for name, one in tokens.items()
        }
    first = config.stages[0]
    if first.learns != "tokens":
        return {}
    count = getattr(first, "vectors_per_token", 1)
    return {name: spelling(token_of(name), count) for name in sorted(set(classes))}


def load_model(
    spec: str,
    *,
    revision: str | None = None,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
    gradient_checkpointing: bool = False,
    compile_denoiser: bool = False,
    embedded_guidance: float = 1.0,
) -> DiffusionModel:
    """Load a pipeline of a known family: frozen, safetensors only.

    The VAE stays in float32 whatever ``dtype`` is: it decodes with gradients, and in half
    precision Stable Diffusion 2.1 turns images black.

    Args:
        spec: Hub id, local directory, or ``phantom-sd``, which comes with this package.
        revision: Commit of a hub id.
        device: Where everything goes.
        dtype: Of the frozen denoiser and text encoders.
        offline: Whether the hub is left alone.
        gradient_checkpointing: One more forward for far less memory.
        compile_denoiser: ``torch.compile`` of the denoiser, in place: names stay what they are.
        embedded_guidance: Scale that a guidance-distilled model is told.

    Raises:
        ModelUnavailable: The files cannot be had here.
        InputError: The pipeline is of another kind.
    """
    # What comes with this package loads at once: bars would flash by between those of a verb.
    with _quietly() if spec in EMBEDDED else nullcontext():
        pipeline = _load_pipeline(spec, revision, offline, dtype)
    family = family_of(type(pipeline).__name__)
    pipeline.set_progress_bar_config(disable=True)
    logging.getLogger(type(pipeline).__module__).addFilter(_no_list_of_cut_tokens)
    pipeline.to(device)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
            part.eval()
    model = family(pipeline, embedded_guidance=embedded_guidance)
    if gradient_checkpointing:
        model.trunk.enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers' own
        if pipeline.vae._supports_gradient_checkpointing:
            pipeline.vae.enable_gradient_checkpointing()
    if compile_denoiser:
        # Buffers that a compiled backward reuses are gone when its graph is kept for another one,
        # as CRAFT keeps it to compare gradients.
        functorch.donated_buffer = False
        model.trunk.compile()
    return model


def default_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _no_list_of_cut_tokens(record: logging.LogRecord) -> bool:
    """Diffusers spells out, text by text, what was cut; here it is counted once for all of them."""
    return "part of your input was truncated" not in str(record.msg)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the progress bars of loading."""
    shown = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    try:
        with quiet_transformers():
            yield
    finally:
        if shown:
            diffusers_logging.enable_progress_bar()


def _load_pipeline(spec: str, revision: str | None, offline: bool, dtype: torch.dtype) -> Any:
    source = EMBEDDED.get(spec, spec)
    wanted: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
    try:
        config = DiffusionPipeline.load_config(
            source, revision=revision, local_files_only=offline or Path(source).is_dir()
        )
        if config.get("_class_name") != "StableDiffusionPipeline":
            # Parts that a pipeline does without, such as T5, have to be left out by name.
            wanted = {name: None for name, value in config.items() if value == [None, None]}
        loader: Any = DiffusionPipeline
        return loader.from_pretrained(
            source,
            revision=revision,
            use_safetensors=True,
            local_files_only=offline or Path(source).is_dir(),
            dtype={**_dtypes(config, dtype), "default": torch.float32},
            **wanted,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelUnavailable(
            f"base model {spec!r} cannot be loaded: {reason}",
            fix="set `base` to a hub id that can be reached, or to a local directory with "
            "model_index.json and weights as .safetensors",
        ) from error


def _dtypes(config: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The dtype of the denoiser and of each text encoder that a pipeline lists."""
    names = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
    return {name: dtype for name in names if (config.get(name) or [None])[0] is not None}


def save_artifact(model: DiffusionModel, directory: Path) -> None:
    """Write what was trained in diffusers' own formats; equal weights give equal bytes.

    ``pipe.load_lora_weights(directory)`` reads ``pytorch_lora_weights.safetensors``;
    ``pipe.load_textual_inversion`` reads each file of ``learned_embeds/``, one a class.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if has_lora(model):
        save_lora(model, directory)
    save_tokens(model, directory / EMBEDDINGS_FOLDER)


def load_artifact(model: DiffusionModel, directory: Path) -> None:
    """Put learned tokens and LoRA weights of an artefact into a freshly loaded model.

    A LoRA must already be attached (:func:`attach_lora`) with the artefact's rank: its weights
    are written into that adapter.

    Raises:
        InputError: The artefact does not fit the model.
    """
    folder = directory / EMBEDDINGS_FOLDER
    if folder.is_dir() and not learned_tokens(model):
        attach_tokens(model, read_tokens(folder, model))
    if (directory / LORA_FILE).is_file() and has_lora(model):
        load_lora(model, directory)
