"""What every family of base models has, and what each answers in its own way.

A family is one file: a subclass of :class:`DiffusionModel`. It lies in ``craft_trainer/bases``,
named after its pipeline (``FluxPipeline``: ``flux.py``), or another package offers it as an entry
point of the group ``craft_trainer.bases`` with that name.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from cas_metric.errors import InputError
from craft_trainer.config.extensions import extension, extension_names
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.forward_process import ForwardProcess
from craft_trainer.diffusion.prefix import FastPrefix, Solver
from craft_trainer.diffusion.sampling import Guidance, Scheduler, UnconditionalGradient

#: Where families come from.
BASES = "craft_trainer.bases"


class TextTower(NamedTuple):
    """A text encoder whose token embedding can learn, and where the pipeline keeps it.

    Attributes:
        name: Key of its vectors in a file of learned tokens; empty where there is one tower.
        tokenizer: Attribute of the pipeline.
        encoder: Attribute of the pipeline.
        pooled: Whether the pipeline also uses its state at the end of a prompt.
    """

    name: str
    tokenizer: str
    encoder: str
    pooled: bool = False


@dataclass
class DiffusionModel(ABC):
    """A frozen latent diffusion pipeline and the parts of it that are trained.

    Attributes:
        pipeline: As diffusers loads it.
        tokens: Class name to its learned token.
        trainable: Parameters by name: LoRA matrices of the denoiser, or learned token vectors.
        embedded_guidance: Scale that a guidance-distilled model is told.

    Examples:
        >>> import torch
        >>> from craft_trainer.config.schema import resolve
        >>> from craft_trainer.artifact.folder import load_base
        >>> model = load_base(resolve(settings), torch.device("cpu"))
        >>> model.latent_shape(64), model.count_tokens("a chest film") < model.token_limit
        ((8, 16, 16), True)
    """

    pipeline: Any  # diffusers declares none of a pipeline's parts to type checkers
    tokens: dict[str, str] = field(default_factory=dict)
    trainable: dict[str, nn.Parameter] = field(default_factory=dict)
    embedded_guidance: float = 1.0

    #: Class name of the pipelines that this family is for.
    pipeline_name: ClassVar[str]
    #: Attribute of the pipeline that holds the denoiser; also the prefix of LoRA names.
    trunk_name: ClassVar[str]
    #: Text encoders that textual inversion teaches; empty where diffusers cannot load the result.
    towers: ClassVar[tuple[TextTower, ...]] = ()
    #: Whether guidance takes an unconditional prediction; a guidance-distilled model is told it.
    unconditional_branch: ClassVar[bool] = True
    #: Tokens that the pipeline lets the text encoders read together.
    text_tokens: ClassVar[int] = 77
    #: Tokenizer of the encoder that reads the most of a prompt, and how many tokens the pipeline
    #: lets it read; None where the tokenizer says so. A pipeline without it has the first one.
    reader: ClassVar[tuple[str, int | None]] = ("tokenizer", None)
    #: Whether a trajectory is one of DDPM's betas, which other solvers of them can follow.
    noise_schedule: ClassVar[bool] = True
    #: Lines of Python that let plain diffusers step as here, and lines of arguments of its call.
    pipeline_steps: ClassVar[tuple[str, ...]] = ()
    pipeline_options: ClassVar[tuple[str, ...]] = ()

    @property
    def trunk(self) -> nn.Module:
        """The denoiser: a UNet or a transformer."""
        trunk: nn.Module = getattr(self.pipeline, self.trunk_name)
        return trunk

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        return next(self.trunk.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the frozen weights of denoiser and text encoders."""
        return next(p for p in self.trunk.parameters() if not p.requires_grad).dtype

    @property
    def condition_sizes(self) -> tuple[int, int]:
        """Width of the vector of a token, and of the pooled one; 0 where there is none."""
        settings: Any = self.trunk.config
        return int(settings.joint_attention_dim), int(settings.pooled_projection_dim)

    @classmethod
    def draws_noise(cls, sampling: Sampling) -> bool:
        """Whether steps of a trajectory draw noise, which repeats can draw anew."""
        return True

    @property
    @abstractmethod
    def lora_targets(self) -> str:
        """Regular expression of the layers that get an adapter."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """C of a latent."""

    @property
    @abstractmethod
    def latent_multiple(self) -> int:
        """What the side of a latent must be a multiple of."""

    @abstractmethod
    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The prediction for ``(B, C, h, w)`` latents, in their dtype.

        The denoiser computes in its own dtype; the steps between its calls stay in that of the
        latents. ``timestep`` is a scalar or ``(B,)``.
        """

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Float32 conditions of ``N`` prompts; gradients flow to learned tokens."""

    def unconditional(self) -> Conditions:
        """What guidance leads away from: the encoding of the empty prompt."""
        return self.encode_prompts([""])

    @torch.no_grad()
    def guidance(self, scale: float, gradient: UnconditionalGradient = "full") -> Guidance:
        """Classifier-free guidance of a trajectory."""
        return Guidance(scale, self.unconditional(), gradient)

    @abstractmethod
    def forward_process(self, latent: Sequence[int]) -> ForwardProcess:
        """The process that the model was trained to reverse, for ``(C, h, w)`` latents."""

    @abstractmethod
    def sampler(self, sampling: Sampling, latent: Sequence[int]) -> Scheduler:
        """The steps of a trajectory of ``(C, h, w)`` latents."""

    def fast_prefix(self, solver: Solver | None, steps: int) -> FastPrefix | None:
        """A solver of few steps, where one is named; see :attr:`noise_schedule`."""
        config = dict(self.pipeline.scheduler.config)
        return None if solver is None else FastPrefix(config, steps, self.device, solver)

    @property
    def text_encoders(self) -> list[nn.Module]:
        """Those that the pipeline has."""
        parts = self.pipeline.components
        named = [part for name, part in parts.items() if name.startswith("text_encoder")]
        return [part for part in named if part is not None]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within this block the text encoders are on the device of the denoiser.

        They stay where they were before: once all texts of a stage are encoded, that is the CPU.
        """
        homes = [next(part.parameters()).device for part in self.text_encoders]
        for part in self.text_encoders:
            part.to(self.device)
        try:
            yield
        finally:
            for part, home in zip(self.text_encoders, homes, strict=True):
                part.to(home)

    def put_texts_away(self) -> None:
        """Move the text encoders off the device; :meth:`reading` brings them back for a while."""
        for part in self.text_encoders:
            part.to("cpu")

    @classmethod
    def reading_tokenizer(cls, tokenizers: Mapping[str, Any]) -> tuple[Any, int]:
        """The tokenizer that counts, of a pipeline's by name, and the longest prompt in tokens."""
        name, limit = cls.reader
        if tokenizers.get(name) is None:
            name, limit = "tokenizer", None
        return tokenizers[name], limit or int(tokenizers[name].model_max_length)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the whole prompt with its special tokens, before anything is cut.

        A learned token counts as many as it has vectors.
        """
        tokenizer, _ = self.reading_tokenizer(self.pipeline.components)
        if self.tokens:
            prompt = self.pipeline.maybe_convert_prompt(prompt, tokenizer)
        return len(tokenizer(prompt, truncation=False, verbose=False).input_ids)

    @property
    def token_limit(self) -> int:
        """Longest prompt in tokens, special tokens included."""
        return self.reading_tokenizer(self.pipeline.components)[1]

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] to ``(B, 2C, h, w)`` mean and log-variance of the latents."""
        vae = self.pipeline.vae
        pixels = images.to(self.device, vae.dtype) * 2 - 1
        moments: Tensor = vae.encode(pixels).latent_dist.parameters
        return moments

    def latents_of(self, moments: Tensor, noise: Tensor) -> Tensor:
        """``(B, C, h, w)`` scaled latents drawn from ``moments`` with standard normal ``noise``."""
        mean, log_variance = moments.chunk(2, dim=1)
        drawn = mean + (0.5 * log_variance.clamp(-30, 20)).exp() * noise
        shift, scale = self.latent_levels
        return (drawn - shift) * scale

    def decode(self, latents: Tensor) -> Tensor:
        """``(B, C, h, w)`` scaled latents to ``(B, 3, H, W)`` images in [0, 1]; gradients flow.

        The clamp is part of what an image is: a saturated pixel has no gradient.
        """
        vae = self.pipeline.vae
        shift, scale = self.latent_levels
        decoded: Tensor = vae.decode(latents.to(vae.dtype) / scale + shift).sample
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    @property
    def latent_levels(self) -> tuple[float | Tensor, float | Tensor]:
        """What the denoiser's latents are of the VAE's: less the first, times the second."""
        settings = self.pipeline.vae.config
        return getattr(settings, "shift_factor", None) or 0.0, settings.scaling_factor

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """``(C, h, w)`` of a latent of a square image.

        Raises:
            InputError: The side is no multiple of what the denoiser and the VAE divide it by.
        """
        factor = self.pipeline.vae_scale_factor
        if resolution % (factor * self.latent_multiple):
            raise InputError(
                f"data.resolution {resolution} does not suit the base model",
                fix=f"take a multiple of {factor * self.latent_multiple}",
            )
        side = resolution // factor
        return self.latent_channels, side, side


def family_of(pipeline_name: str) -> type[DiffusionModel]:
    """The family of a diffusers pipeline.

    Args:
        pipeline_name: Its class, e.g. ``StableDiffusionPipeline``.

    Raises:
        InputError: It is not trained here; those that are trained are named.

    Examples:
        >>> family_of("FluxPipeline").__name__
        'Flux'
    """
    found: type[DiffusionModel] | None = extension(BASES, _name_of(pipeline_name), _family_in)
    if found is None:
        known = ", ".join(extension_names(BASES, _family_in))
        raise InputError(f"the base model is a {pipeline_name}", fix=f"take one of: {known}")
    return found


def _name_of(pipeline_name: str) -> str:
    """``StableDiffusionXLPipeline`` to ``stable_diffusion_xl``."""
    name = pipeline_name.removesuffix("Pipeline")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _family_in(module: Any, name: str) -> type[DiffusionModel] | None:
    """The family of a file: the class whose pipeline has the file's name."""
    for value in vars(module).values():
        if not (isinstance(value, type) and issubclass(value, DiffusionModel)):
            continue
        if _name_of(getattr(value, "pipeline_name", "")) == name:
            return value
    return None
