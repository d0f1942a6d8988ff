"""Sections of a configuration that all stages share: data, adapter, sampling, critic, tracker."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from craft_trainer.config.stage import Place, Section, Spec


def _regular(pattern: str) -> str:
    """A regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return pattern


#: A regular expression, checked before anything is loaded.
Pattern = Annotated[str, AfterValidator(_regular)]


class Data(Section):
    """Real training images.

    Attributes:
        train: Manifest with images, labels and enriched prompts t_ep.
        domain: Domain pack with classes and checklists; by default what the folder's cas.yaml
            names.
        resolution: Side of the square that images are resized to, in pixels.

    Examples:
        >>> import yaml
        >>> Data.model_validate(yaml.safe_load("{train: data/train, resolution: 64}")).resolution
        64
    """

    train: Place
    domain: Spec | None = None
    resolution: PositiveInt = 512


class Lora(Section):
    """Low-rank adapters of the denoiser, by default of its attention to the text.

    Attributes:
        rank: Of the two matrices of a layer.
        alpha: The adapter counts ``alpha / rank``.
        targets: Regular expression that the whole name of an adapted layer matches; by default
            the attention to the text.
        rank_pattern: Regular expression of layers to their own rank.
        alpha_pattern: The same to their own alpha.
        dropout: Share of a layer's inputs that the adapter does not see, where a gradient flows.
        dora: Learn the norms of the weights beside their direction (DoRA).
        rslora: The adapter counts ``alpha / sqrt(rank)``.

    Examples:
        >>> import yaml
        >>> Lora.model_validate(yaml.safe_load("{rank: 8, alpha: 16, dropout: 0.1}")).rank
        8
    """

    rank: PositiveInt = 32
    alpha: PositiveInt = 32
    targets: Pattern | None = None
    rank_pattern: dict[Pattern, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[Pattern, PositiveInt] = Field(default_factory=dict)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dora: bool = False
    rslora: bool = False


class Sampling(Section):
    """How images are sampled, in training, in validation and by ``craft-trainer generate``.

    Attributes:
        steps: T, steps of a trajectory.
        guidance: Scale of classifier-free guidance; 1 switches it off. A guidance-distilled model
            is told it.
        timestep_spacing: Which timesteps are visited. ``trailing`` begins with pure noise,
            and its last step removes more, so that the reward of the last K steps counts more than
            with ``leading``. Not for flow models.
        sampler: By default DDPM's steps, as the paper's. ``dpmpp_2m_sde``, DPM-Solver++ with noise,
            is of second order and comes far closer to the model's distribution in 20 steps;
            ``dpmpp_2m`` and ``ddim`` step without noise. Not for flow models.
        flow_sampler: How a flow-matching model steps: ``euler`` as pipelines do, or ``ancestral``,
            which draws noise as DDPM does and which ``repeat_mode: renoise`` needs.

    Examples:
        >>> import yaml
        >>> Sampling.model_validate(yaml.safe_load("{steps: 10, guidance: 1}")).timestep_spacing
        'trailing'
    """

    steps: PositiveInt = 20
    guidance: Annotated[float, Field(ge=1)] = 5.0
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    sampler: Literal["ddpm", "ddim", "dpmpp_2m", "dpmpp_2m_sde"] | None = None
    flow_sampler: Literal["euler", "ancestral"] = "euler"


class Critic(Section):
    """The frozen encoder that gives the rewards.

    Attributes:
        encoder: Encoder spec as ``cas encoders`` lists them.
        probe: Saved probe in the critic's space; by default one is fitted on ``data.train``.
        text_policy: How texts beyond the encoder's limit are treated.
        dtype: Of its weights and activations; float32 by default. Embeddings are normalised, and
            rewards computed, in float32.
        checkpointing: Whether its blocks run again in the backward pass: one more forward for far
            less memory.

    Examples:
        >>> import yaml
        >>> Critic.model_validate(yaml.safe_load("{encoder: phantom-medsiglip}")).text_policy
        'truncate'
    """

    encoder: Spec = "medsiglip"
    probe: Place | None = None
    text_policy: Literal["truncate", "chunk-mean", "per-attribute-mean"] = "truncate"
    dtype: Literal["float32", "bfloat16"] | None = None
    checkpointing: bool = False


class Tracking(Section):
    """What the tracker is told beside the curves: the whole configuration, and this.

    Attributes:
        project: Under which it keeps the run; TensorBoard has no projects.
        run: Name of the run; by default that of its folder. Each stage is a run of its own.
        images: Whether the sheets of sampled images go to it, where it takes images.

    Examples:
        >>> import yaml
        >>> Tracking.model_validate(yaml.safe_load("{project: fundus, run: first}")).images
        True
    """

    project: str = "craft-trainer"
    run: str | None = None
    images: bool = True
