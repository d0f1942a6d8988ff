"""Base models: load a diffusers pipeline, freeze it, attach what is trained, save the artefact."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.errors import InputError, ModelUnavailable

#: Cross-attention alone. Bare module names such as ``to_q`` would hit self-attention as well.
CROSS_ATTENTION: Final = r".*attn2\.(to_q|to_k|to_v|to_out\.0)"
ADAPTER: Final = "default"
LORA_FILE: Final = "pytorch_lora_weights.safetensors"
#: Folder of an artefact with one file a learned token, as ``load_textual_inversion`` reads them.
EMBEDDINGS_FOLDER: Final = "learned_embeds"
_LORA_PREFIX: Final = "unet."
#: Pipelines that come with this package, by the name that `base` gives them.
EMBEDDED: Final = {"phantom-sd": Path(__file__).parent / "phantoms" / "phantom-sd"}


class LearnedTokens(nn.Module):
    """Token embedding whose first rows are frozen and whose last rows are learned.

    Training a few separate vectors leaves the table itself, and the optimizer's memory of it, out
    of the step.

    Args:
        table: The text encoder's own embedding.
        learned: ``(N, D)`` initial vectors; token ``len(table) + i`` gets row ``i``.
    """

    def __init__(self, table: nn.Embedding, learned: Tensor) -> None:
        super().__init__()
        self.table = table
        self.learned = nn.Parameter(learned.detach().float().clone())

    @property
    def weight(self) -> Tensor:
        """``(V, D)`` of the frozen part; callers read its dtype and device."""
        return self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """``(…)`` token ids to ``(…, D)`` vectors in the table's dtype."""
        size = self.table.num_embeddings
        known = self.table(ids.clamp(max=size - 1))
        added = F.embedding((ids - size).clamp(min=0), self.learned).to(known.dtype)
        return torch.where((ids >= size).unsqueeze(-1), added, known)


@dataclass
class DiffusionModel:
    """A frozen latent diffusion pipeline and the parts of it that are trained.

    Attributes:
        pipeline: As diffusers loads it.
        tokens: Class name to its learned token.
        trainable: Parameters by name: LoRA matrices of the UNet, or learned token vectors.
    """

    pipeline: Any  # diffusers declares none of a pipeline's parts to type checkers
    tokens: dict[str, str] = field(default_factory=dict)
    trainable: dict[str, nn.Parameter] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the UNet lives."""
        return next(self.pipeline.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the frozen weights of UNet and text encoder."""
        return self.pipeline.unet.conv_in.weight.dtype

    @property
    def prediction_type(self) -> str:
        """``epsilon`` or ``v_prediction``, as the base model's scheduler says."""
        return self.pipeline.scheduler.config.prediction_type

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Tensor) -> Tensor:
        """The UNet's prediction for ``(B, C, h, w)`` latents, in their dtype.

        The UNet computes in its own dtype; the steps between its calls stay in that of the latents.
        """
        inputs = latents.to(self.dtype), timestep, conditions.to(self.dtype)
        return self.pipeline.unet(*inputs, return_dict=False)[0].to(latents.dtype)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """``(N, L, D)`` float32 conditions of ``N`` prompts; gradients flow to learned tokens."""
        tokenizer = self.pipeline.tokenizer
        inputs = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder = self.pipeline.text_encoder
        uses_mask = getattr(encoder.config, "use_attention_mask", False)
        mask = inputs.attention_mask.to(self.device) if uses_mask else None
        return encoder(inputs.input_ids.to(self.device), attention_mask=mask)[0].float()

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the whole prompt with its special tokens, before anything is cut."""
        return len(self.pipeline.tokenizer(prompt, truncation=False).input_ids)

    @property
    def token_limit(self) -> int:
        """Longest prompt in tokens, special tokens included."""
        return self.pipeline.tokenizer.model_max_length

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] to ``(B, 2C, h, w)`` mean and log-variance of the latents."""
        vae = self.pipeline.vae
        pixels = images.to(self.device, vae.dtype) * 2 - 1
        return vae.encode(pixels).latent_dist.parameters

    def latents_of(self, moments: Tensor, noise: Tensor) -> Tensor:
        """``(B, C, h, w)`` scaled latents drawn from ``moments`` with standard normal ``noise``."""
        mean, log_variance = moments.chunk(2, dim=1)
        drawn = mean + (0.5 * log_variance.clamp(-30, 20)).exp() * noise
        return drawn * self.pipeline.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """``(B, C, h, w)`` scaled latents to ``(B, 3, H, W)`` images in [0, 1]; gradients flow.

        The clamp is part of what an image is: a saturated pixel has no gradient.
        """
        vae = self.pipeline.vae
        pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        return self.pipeline.unet.config.in_channels

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """``(C, h, w)`` of a latent of a square image.

        Raises:
            InputError: The side is no multiple of what the UNet and the VAE divide it by.
        """
        factor = self.pipeline.vae_scale_factor
        levels = 2 ** (len(self.pipeline.unet.config.block_out_channels) - 1)
        if resolution % (factor * levels):
            raise InputError(
                f"data.resolution {resolution} does not suit the base model",
                fix=f"take a multiple of {factor * levels}",
            )
        side = resolution // factor
        return self.latent_channels, side, side


def load_model(
    spec: str,
    *,
    revision: str | None = None,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    offline: bool = False,
    gradient_checkpointing: bool = False,
) -> DiffusionModel:
    """Load a Stable Diffusion 1.x or 2.x pipeline: frozen, safetensors only.

    ``spec`` is a hub id, a local directory or ``phantom-sd``, which comes with this package.

    The VAE stays in float32 whatever ``dtype`` is: it decodes with gradients, and in half
    precision Stable Diffusion 2.1 turns images black.

    Raises:
        ModelUnavailable: The files cannot be had here.
        InputError: The pipeline is of another kind.
    """
    pipeline = _load_pipeline(spec, revision, offline, dtype)
    if type(pipeline).__name__ != StableDiffusionPipeline.__name__:
        raise InputError(
            f"base {spec!r} is a {type(pipeline).__name__}",
            fix="take a Stable Diffusion 1.x or 2.x pipeline",
        )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
        part.eval()
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.vae.enable_gradient_checkpointing()
    return DiffusionModel(pipeline)


def _load_pipeline(spec: str, revision: str | None, offline: bool, dtype: torch.dtype) -> Any:
    source = EMBEDDED.get(spec, spec)
    try:
        return DiffusionPipeline.from_pretrained(
            source,
            revision=revision,
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
            local_files_only=offline or Path(source).is_dir(),
            dtype={"unet": dtype, "text_encoder": dtype, "default": torch.float32},
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelUnavailable(
            f"base model {spec!r} cannot be loaded: {reason}",
            fix="set `base` to a hub id that can be reached, or to a local directory with "
            "model_index.json and weights as .safetensors",
        ) from error


def attach_lora(model: DiffusionModel, *, rank: int, alpha: int, seed: int) -> None:
    """Add a LoRA adapter to the UNet's cross-attention and make it the trainable part.

    Its parameters are float32 whatever the dtype of the weights they adapt: in bfloat16 an update
    of 1e-5 is lost to rounding. The initial values depend on ``seed`` alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.pipeline.unet.add_adapter(
            LoraConfig(
                r=rank,
                lora_alpha=alpha,
                init_lora_weights="gaussian",
                target_modules=CROSS_ATTENTION,
            ),
            adapter_name=ADAPTER,
        )
    for name, parameter in model.pipeline.unet.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            model.trainable[_LORA_PREFIX + name] = parameter


def attach_tokens(
    model: DiffusionModel, vectors: Mapping[str, tuple[str, Tensor]]
) -> LearnedTokens:
    """Add one learned token a class to the tokenizer and the text encoder.

    Args:
        model: Extended in place; the vectors do not become trainable by this.
        vectors: Class name to its token and ``(D,)`` vector.

    Raises:
        InputError: Two classes share a token, or a token is already in the vocabulary.
    """
    tokens = [token for token, _ in vectors.values()]
    added = model.pipeline.tokenizer.add_tokens(tokens)
    if added != len(tokens):
        raise InputError(
            f"the tokens {tokens} are not all new to the tokenizer and distinct",
            fix="rename the classes so that their slugs differ",
        )
    table = model.pipeline.text_encoder.get_input_embeddings()
    learned = torch.stack([vector for _, vector in vectors.values()]).to(model.device)
    module = LearnedTokens(table, learned)
    module.learned.requires_grad_(False)
    model.pipeline.text_encoder.set_input_embeddings(module)
    model.tokens = {name: token for name, (token, _) in vectors.items()}
    return module


def token_of(class_name: str) -> str:
    """The token of a class, from its full name: ``<pleural-effusion>``."""
    slug = re.sub(r"[^a-z0-9]+", "-", class_name.casefold()).strip("-")
    return f"<{slug}>"


def initial_vectors(
    model: DiffusionModel, class_names: Sequence[str]
) -> dict[str, tuple[str, Tensor]]:
    """Each class's token with the mean of the vectors of the words of its name."""
    tokenizer = model.pipeline.tokenizer
    table = model.pipeline.text_encoder.get_input_embeddings().weight
    vectors = {}
    for name in class_names:
        ids = tokenizer(name, add_special_tokens=False).input_ids
        vectors[name] = (token_of(name), table[ids].detach().float().mean(dim=0).cpu())
    return vectors


def learned_tokens(model: DiffusionModel) -> LearnedTokens | None:
    """The learned part of the token embedding, where there is one."""
    module = model.pipeline.text_encoder.get_input_embeddings()
    return module if isinstance(module, LearnedTokens) else None


def save_artifact(model: DiffusionModel, directory: Path) -> None:
    """Write what was trained in diffusers' own formats.

    ``pipe.load_lora_weights(directory)`` reads ``pytorch_lora_weights.safetensors``, in whose
    header the alpha stands (without it a loaded adapter with alpha ≠ rank would be wrong);
    ``pipe.load_textual_inversion`` reads each file of ``learned_embeds/``, one a class.
    """
    directory.mkdir(parents=True, exist_ok=True)
    unet = model.pipeline.unet
    if getattr(unet, "peft_config", None):
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
        StableDiffusionPipeline.save_lora_weights(
            directory,
            unet_lora_layers={name: value.contiguous().cpu() for name, value in layers.items()},
            unet_lora_adapter_metadata=unet.peft_config[ADAPTER].to_dict(),
        )
    module = learned_tokens(model)
    if module is not None:
        folder = directory / EMBEDDINGS_FOLDER
        folder.mkdir(exist_ok=True)
        rows = zip(model.tokens.items(), module.learned.detach().cpu(), strict=True)
        for (name, token), vector in rows:
            path = folder / f"{token.strip('<>')}.safetensors"
            save_file({token: vector.clone()}, path, metadata={"class": name})


def load_artifact(model: DiffusionModel, directory: Path) -> None:
    """Put learned tokens and LoRA weights of an artefact into a freshly loaded model.

    A LoRA must already be attached (:func:`attach_lora`) with the artefact's rank: its weights
    are written into that adapter. Loading them through the pipeline would activate a second one,
    and the first, the optimizer's, would get no gradient.

    Raises:
        InputError: The artefact does not fit the model.
    """
    folder = directory / EMBEDDINGS_FOLDER
    if folder.is_dir() and learned_tokens(model) is None:
        attach_tokens(model, read_tokens(folder))
    path = directory / LORA_FILE
    if path.is_file() and getattr(model.pipeline.unet, "peft_config", None):
        set_lora(model, load_file(path))


def read_tokens(folder: Path) -> dict[str, tuple[str, Tensor]]:
    """Class name to token and vector, from a ``learned_embeds`` folder."""
    from safetensors import safe_open

    vectors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            (token,) = file.keys()
            vectors[(file.metadata() or {}).get("class", token)] = (token, file.get_tensor(token))
    return vectors


def set_lora(model: DiffusionModel, weights: Mapping[str, Tensor]) -> None:
    """Write LoRA weights in diffusers' names into the attached adapter.

    Raises:
        InputError: A tensor is missing, unknown or of another shape.
    """
    own = {name.removeprefix(_LORA_PREFIX): value for name, value in weights.items()}
    unet = model.pipeline.unet
    expected = get_peft_model_state_dict(unet)
    state = convert_unet_state_dict_to_peft(own)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
        raise InputError(
            "the LoRA weights do not fit this base model, or another rank",
            fix="set `lora.rank` to that of the earlier stage, and take the same base",
        )
    set_peft_model_state_dict(unet, state, adapter_name=ADAPTER)
