"""Textual inversion: one learned token a class, with the diffusion loss (Gal et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt, model_validator

from cas_metric.errors import InputError
from craft_trainer.config.stage import DenoisingStage, LearningRate, Template

if TYPE_CHECKING:
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.schema import Config
    from craft_trainer.data.dataset import Examples
    from craft_trainer.methods.base import Method, Setup


class TextualInversionStage(DenoisingStage):
    """One learned token a class, with the diffusion loss.

    Attributes:
        vectors_per_token: Vectors that one token stands for.

    Examples:
        >>> import yaml
        >>> text = "{method: textual_inversion, steps: 100, vectors_per_token: 2}"
        >>> TextualInversionStage.model_validate(yaml.safe_load(text)).learns
        'tokens'
    """

    method: Literal["textual_inversion"]
    vectors_per_token: PositiveInt = 1
    learning_rate: LearningRate = 5e-4
    prompt: Template = "a photo of {token}"

    title: ClassVar[str] = "Textual inversion"
    first_values: ClassVar[Mapping[str, Any]] = {"steps": 3000}
    learns: ClassVar[Literal["nothing", "tokens", "lora"]] = "tokens"

    @model_validator(mode="after")
    def _sees_its_token(self) -> TextualInversionStage:
        if "{token}" not in self.prompt:
            raise ValueError("`prompt` lacks {token}, so that nothing would be learned")
        if self.prompt_dropout > 0:
            raise ValueError("prompt_dropout: an empty prompt teaches a token nothing")
        return self

    def require(self, config: Config, family: type[DiffusionModel]) -> None:
        """A family whose pipeline can load learned tokens."""
        if not family.towers:
            raise InputError(
                f"textual inversion is not offered for {family.pipeline_name}: diffusers cannot "
                "load learned tokens into it",
                fix="start with a `lora` stage, and leave {token} out of the prompts",
            )

    def require_examples(self, config: Config, examples: Examples) -> None:
        """Classes that get a token each."""
        from craft_trainer.bases.tokens import require_distinct

        require_distinct(sorted(set(examples.labels)))

    def attach(self, model: DiffusionModel, classes: Sequence[str]) -> None:
        """One token a class; its vectors are trained."""
        from craft_trainer.bases.tokens import attach_tokens, initial_tokens

        tokens = initial_tokens(model, classes, self.vectors_per_token)
        for name, module in attach_tokens(model, tokens).items():
            module.learned.requires_grad_(True)
            model.trainable[name] = module.learned

    def trained_bytes(self, adapter: int, token: int, classes: int) -> int:
        """The vectors of every class's token."""
        return token * self.vectors_per_token * classes

    def build(self, setup: Setup) -> Method:
        """The diffusion loss; what learns is the tokens."""
        from craft_trainer.methods.denoising import Denoising

        return Denoising.of(self, setup.model, setup.latent)
