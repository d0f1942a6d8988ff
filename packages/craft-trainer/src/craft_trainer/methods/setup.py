"""From a stage of the configuration to its method."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError
from cas_metric.scoring.probe import Probe
from craft_trainer.bases import DiffusionModel
from craft_trainer.config.schema import Config, CraftStage, DpoStage, LoraStage, Stage
from craft_trainer.data.examples import Examples
from craft_trainer.diffusion.forward import ForwardProcess
from craft_trainer.methods import Craft, Denoising, Dpo, Method
from craft_trainer.rewards.cam import ClinicalAlignmentModule, Targets
from craft_trainer.rewards.targets import prepare_targets
from craft_trainer.training.ranks import on_main


def build_method(
    config: Config,
    stage: Stage,
    model: DiffusionModel,
    latent: Sequence[int],
    examples: Examples,
    cache: EmbeddingCache,
    accelerator: Accelerator,
) -> Method:
    """The method of a stage.

    Args:
        config: Of the run.
        stage: One of its stages.
        model: As the stage starts from it, with its trainable part attached.
        latent: ``(C, h, w)`` of a latent.
        examples: Training images.
        cache: Store of embeddings.
        accelerator: The processes; what the critic sees before training is computed by one.
    """
    forward = model.forward_process(latent)
    if isinstance(stage, CraftStage):
        return _craft(config, stage, model, latent, forward, examples, cache, accelerator)
    if isinstance(stage, DpoStage):
        start = {name: value.detach().clone() for name, value in model.trainable.items()}
        return Dpo(model, forward, stage.beta, start if stage.reference == "start" else None)
    return Denoising(model, forward, stage.kl_to_base if isinstance(stage, LoraStage) else 0.0)


def _craft(
    config: Config,
    stage: CraftStage,
    model: DiffusionModel,
    latent: Sequence[int],
    forward: ForwardProcess,
    examples: Examples,
    cache: EmbeddingCache,
    accelerator: Accelerator,
) -> Craft:
    sampler = model.sampler(config.sampling, latent)
    if stage.repeat_mode == "renoise" and getattr(sampler, "kind", None) == "euler":
        raise InputError(
            "repeat_mode: renoise draws the last noise of a trajectory anew, and Euler steps of a "
            "flow model draw none",
            fix="set sampling.flow_sampler: ancestral, or repeat_mode: resample",
        )
    critic = load_encoder(
        config.critic.encoder,
        device=str(accelerator.device),
        offline=config.offline,
        text_policy=config.critic.text_policy,
    )
    weights = stage.rewards.weights()

    def prepare() -> tuple[Targets, Probe | None]:
        targets, probe = prepare_targets(examples, critic, cache, weights, config.critic.probe)
        return targets.to("cpu"), probe

    targets, probe = on_main(accelerator, prepare)
    return Craft(
        model=model,
        forward=forward,
        sampler=sampler,
        cam=ClinicalAlignmentModule(critic, probe, weights),
        targets=targets.to(critic.device),
        guidance=model.guidance(config.sampling.guidance, stage.unconditional_gradient),
        stage=stage,
    )
