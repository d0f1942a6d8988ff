"""What a tracker is told beside the curves: names, the configuration, sheets of images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from accelerate import Accelerator
from PIL import Image

from cas_metric.errors import CasError
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


@contextmanager
def tracking(accelerator: Accelerator, config: Config, stage: str) -> Iterator[None]:
    """The tracker of a stage, open within.

    Raises:
        CasError: It cannot write; another error that ends the stage is told as it is.
    """
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        # TensorBoard's thread keeps what it met, and the next line that is logged raises it.
        if not issubclass(failed.exc_type, OSError):
            before(failed)

    threading.excepthook = hook
    try:
        with _writing(config):
            _begin(accelerator, config, stage)
        yield
        with _writing(config):
            _end(accelerator)
    finally:
        with suppress(Exception):  # of an error that is told already, or one that never opened
            _end(accelerator)
        accelerator.trackers.clear()
        threading.excepthook = before


@contextmanager
def _writing(config: Config) -> Iterator[None]:
    """Name a tracker that meets a full disk, or no network."""
    try:
        yield
    except OSError as error:
        raise CasError(
            f"the tracker {config.tracker} cannot write: {error.strerror or error}",
            fix="free space, or set tracker: none, and run the same command again",
        ) from error


def track(accelerator: Accelerator, config: Config, values: Mapping[str, float], step: int) -> None:
    """Give the tracker what a step logged. CasError where it cannot write."""
    with _writing(config):
        accelerator.log(dict(values), step=step)


def _begin(accelerator: Accelerator, config: Config, stage: str) -> None:
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


def _end(accelerator: Accelerator) -> None:
    """Close the trackers of a stage, which the next one must not be told to as well.

    accelerate adds those of the next stage to them. Its own `end_training` would also end the group
    of processes.
    """
    while accelerator.trackers:
        accelerator.trackers.pop().finish()


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
    """Give a sheet of images to the tracker, where it takes images. CasError as of `track`."""
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
        with _writing(config):
            show({f"samples/{name}": pixels}, step=step, **options)
