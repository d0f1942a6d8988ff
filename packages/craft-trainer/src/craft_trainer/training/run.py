"""A run as a whole: what ``craft-trainer train`` and ``craft_trainer.train`` call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from craft_trainer.config.schema import Config, resolve
from craft_trainer.runtime import Progress, silent
from craft_trainer.runtime.journal import Journal
from craft_trainer.runtime.ranks import is_first
from craft_trainer.training.trainer import train_stages

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        artifact: Folder of the last stage's weights and model card; :func:`craft_trainer.load` and
            :func:`craft_trainer.generate` take it.
        config: What was run, every default spelt out.
        first: Whether this is the process that speaks for all.

    Examples:
        >>> trained.stages[0].name, trained.artifact.parent == trained.stages[0]
        ('1-lora', True)
        >>> trained.curves()["step"].tolist()
        [1, 2]
    """

    artifact: Path
    config: Config
    first: bool = True

    def __fspath__(self) -> str:
        return str(self.artifact)

    @property
    def output(self) -> Path:
        """Folder of the run."""
        return self.config.output

    @property
    def stages(self) -> tuple[Path, ...]:
        """Folder of each stage."""
        return tuple(
            self.output / f"{number}-{stage.method}"
            for number, stage in enumerate(self.config.stages, start=1)
        )

    def curves(self, stage: int = -1) -> pd.DataFrame:
        """What every step of a stage logged; the last stage's by default."""
        import pandas as pd

        return pd.DataFrame(Journal(self.stages[stage] / "metrics.jsonl").rows())

    def _repr_markdown_(self) -> str:
        return (self.artifact / "README.md").read_text(encoding="utf-8")


def train(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    progress: Progress = silent,
    cache: str | Path | None = None,
    **overrides: Any,
) -> Trained:
    """Adapt a base model, one stage after the other; an interrupted run continues.

    Args:
        config: A configuration, its values, or the YAML file that holds them.
        progress: Told after every step.
        cache: Folder of the embedding store; ``"none"`` for a temporary one.
        overrides: Values in place of the configuration's; a dotted key reaches within:
            ``**{"stages.0.learning_rate": 1e-4}``.

    Returns:
        The run, which knows its artefact and its curves.

    Raises:
        InputError: The configuration or the data must be corrected.
        ModelUnavailable: A model cannot be had here.
        StoppedByGuard: A guard ended a stage; its best weights are its artefact.

    Examples:
        >>> import craft_trainer
        >>> run = craft_trainer.train(settings, output=tmp / "run", cache="none")
        >>> sorted(file.name for file in run.artifact.glob("*.safetensors"))
        ['pytorch_lora_weights.safetensors']
        >>> len(run.curves())
        2
    """
    settings, first = resolve(config, **overrides), is_first()
    artifact = train_stages(settings, progress=progress if first else silent, cache=cache)
    return Trained(artifact, settings, first)
