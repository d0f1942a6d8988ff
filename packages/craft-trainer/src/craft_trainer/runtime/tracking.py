"""What a tracker is told beside the curves: names, the configuration, sheets of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from accelerate import Accelerator
from PIL import Image

from craft_trainer.config.schema import Config, to_yaml

#: What a tracker calls the name of a run.
_RUN_NAME: Final = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "swanlab": "experiment_name",
    "clearml": "task_name",
}
_TENSORBOARD: Final = "tensorboard"


def begin_tracking(accelerator: Accelerator, config: Config, stage: str) -> None:
    """Open the tracker of a stage, and tell it the configuration.

    TensorBoard's files lie in the folder of the stage; another tracker keeps each stage as a run of
    the project.
    """
    name = config.tracker
    if name == _TENSORBOARD:
        accelerator.init_trackers(stage)
        for tracker in accelerator.trackers:
            tracker.log({"config": f"```yaml\n{to_yaml(config)}```"}, step=0)
        return
    run = f"{config.tracking.run or config.output.name}/{stage}"
    options = {name: {_RUN_NAME[name]: run}} if name in _RUN_NAME else {}
    values = flat(config.model_dump(mode="json"))
    accelerator.init_trackers(config.tracking.project, config=values, init_kwargs=options)


def end_tracking(accelerator: Accelerator) -> None:
    """Close the trackers of a stage, which the next one must not be told to as well.

    accelerate adds those of the next stage to them. Its own `end_training` would also end the group
    of processes.
    """
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers.clear()


def flat(values: Any, key: str = "") -> dict[str, bool | str | float | None]:
    """Nested values by their dotted keys.

    Examples:
        >>> flat({"data": {"train": "a"}, "stages": [{"steps": 3}]})
        {'data.train': 'a', 'stages.0.steps': 3}
    """
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list):
        items = {str(number): value for number, value in enumerate(values)}.items()
    else:
        return {key: values}
    found: dict[str, Any] = {}
    for name, value in items:
        found |= flat(value, f"{key}.{name}" if key else name)
    return found


def track_sheet(accelerator: Accelerator, config: Config, path: Path, step: int) -> None:
    """Give a sheet of images to the tracker, where it takes images."""
    if not config.tracking.images:
        return
    for tracker in accelerator.trackers:
        show = getattr(tracker, "log_images", None)
        if show is None:
            continue
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))[None]
        name = path.stem.split("-")[0]
        options = {"dataformats": "NHWC"} if tracker.name == _TENSORBOARD else {}
        show({f"samples/{name}": pixels}, step=step, **options)
