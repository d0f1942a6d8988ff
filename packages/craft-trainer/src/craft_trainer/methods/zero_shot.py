"""Zero-shot: the base model as it is, the baseline of every other method."""

from __future__ import annotations

from typing import ClassVar, Literal

from craft_trainer.config.stage import Stage


class ZeroShotStage(Stage):
    """The base model as it is: an artefact without weights, so that it is drawn like the others.

    Examples:
        >>> import yaml
        >>> ZeroShotStage.model_validate(yaml.safe_load("{method: zero_shot}")).title
        'Zero-shot'
    """

    method: Literal["zero_shot"]
    title: ClassVar[str] = "Zero-shot"
