"""LoRA: low-rank matrices in the denoiser's attention to the text, with the diffusion loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat

from craft_trainer.config.stage import DenoisingStage

if TYPE_CHECKING:
    from craft_trainer.methods.base import Method, Setup


class LoraStage(DenoisingStage):
    """LoRA with the diffusion loss.

    Attributes:
        kl_to_base: Weight of the mean squared difference between the predictions with and without
            the adapter, on the latents of the diffusion loss. For a Gaussian step it is the KL
            divergence to the base model up to a factor that depends on the timestep.

    Examples:
        >>> import yaml
        >>> text = "{method: lora, epochs: 10, learning_rate: 0.0001, kl_to_base: 0.1}"
        >>> LoraStage.model_validate(yaml.safe_load(text)).kl_to_base
        0.1
    """

    method: Literal["lora"]
    kl_to_base: NonNegativeFloat = 0.0

    title: ClassVar[str] = "LoRA"

    def build(self, setup: Setup) -> Method:
        """The diffusion loss, and the distance to the base model."""
        from craft_trainer.methods.denoising import Denoising

        return Denoising.of(self, setup.model, setup.latent, self.kl_to_base)

    def forwards_per_image(self, differentiated: float, branches: int, steps: int) -> float:
        """One differentiated prediction, and one of the base model where the KL term counts."""
        return differentiated + float(self.kl_to_base > 0)
