"""Checkpoints: one safetensors file each, written as a whole or not at all.

A checkpoint holds the trained parameters and the optimizer's moments. Order and noise are
functions of the step, so that a run that continues from one is bit for bit the run that was never
interrupted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cas_metric.errors import InputError
from cas_metric.files import write_bytes

#: Where an identity keeps the settings of the base model; earlier versions kept none.
BASE_SETTINGS: Final = "base_settings"
_PATTERN: Final = re.compile(r"step-(\d+)\.safetensors")
_METADATA: Final = "craft_trainer"
_PARAMETER: Final = "parameter/"
_OPTIMIZER: Final = "optimizer/"
_STATE: Final = "state/"


def save_checkpoint(
    folder: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
    keep: int,
    *,
    processes: int = 1,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the state after ``step`` steps, then remove all but the latest ``keep``.

    ``processes`` says how many took the steps, ``state`` what else a resumed run needs.

    Raises:
        CasError: It cannot be written; earlier checkpoints stay as they are.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters.items():
        tensors[_PARAMETER + name] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{key}/{name}"] = value.cpu().contiguous()
            else:
                numbers.setdefault(name, {})[key] = value
    for name, value in (state or {}).items():
        tensors[_STATE + name] = value.detach().cpu().contiguous()
    told = {"step": step, "identity": identity, "processes": processes}
    told |= {"numbers": numbers, "groups": [_numbers(one) for one in optimizer.param_groups]}
    metadata = {_METADATA: json.dumps(told, sort_keys=True)}
    path = folder / name_of(step)
    write_bytes(path, save(tensors, metadata))
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def _numbers(group: Mapping[str, Any]) -> dict[str, float]:
    """What an optimizer keeps of a group of parameters: Prodigy its own step size."""
    kept = {name: value for name, value in group.items() if name not in ("params", "lr")}
    values = {n: v.item() if isinstance(v, Tensor) and v.ndim == 0 else v for n, v in kept.items()}
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def name_of(step: int) -> str:
    """File name of the checkpoint after ``step`` steps."""
    return f"step-{step:07d}.safetensors"


def step_of(path: Path) -> int:
    """How many steps a checkpoint of :func:`checkpoints` stands after."""
    found = _PATTERN.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _PATTERN.fullmatch(path.name))


def restore(
    path: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
    *,
    processes: int | None = None,
) -> int:
    """Put a checkpoint back into parameters and optimizer.

    Args:
        path: One of :func:`checkpoints`.
        parameters: What is trained, by name.
        optimizer: Theirs.
        identity: Settings that it must have been made with.
        processes: How many take the steps that follow; None where none does.

    Returns:
        The number of steps already taken.

    Raises:
        InputError: It is damaged, was made with other settings, by another model, or by another
            number of processes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no checkpoint: {error}", fix="remove it") from error
    require_same(metadata["identity"], identity, path)
    before = metadata.get("processes", processes)
    if processes is not None and before != processes:
        raise InputError(
            f"{path} was made by {before} process{'es' if before != 1 else ''}, and this run has "
            f"{processes}: each step would take other images than the steps before it",
            fix=f"launch {before}, or choose another `output`",
        )
    if {name for name in tensors if name.startswith(_PARAMETER)} != {
        _PARAMETER + name for name in parameters
    }:
        raise InputError(f"{path} holds other parameters than this model trains", fix="remove it")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[_PARAMETER + name])
            state = optimizer.state[parameter]
            for full, value in tensors.items():
                kind, _, rest = full.removeprefix(_OPTIMIZER).partition("/")
                if full.startswith(_OPTIMIZER) and rest == name:
                    # Adam keeps its step counter on the CPU.
                    state[kind] = value if value.ndim == 0 else value.to(parameter.device)
            state.update(metadata.get("numbers", {}).get(name, {}))
    for group, values in zip(optimizer.param_groups, metadata.get("groups", ()), strict=False):
        group.update(values)
    return int(metadata["step"])


def state_of(path: Path) -> dict[str, Tensor]:
    """The ``state`` that :func:`save_checkpoint` was given, of a file that :func:`restore` took."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(_STATE)]  # noqa: SIM118 - no dict
        return {name.removeprefix(_STATE): file.get_tensor(name) for name in names}


def require_same(
    stored: Mapping[str, Any], now: Mapping[str, Any], path: Path, option: str = "`output`"
) -> None:
    """Refuse to mix settings within one run, or one folder; ``option`` names another.

    Raises:
        InputError: Names every setting that differs.
    """
    if lines := differences(stored, now):
        raise InputError(
            f"{path} was made with other settings: " + "; ".join(lines),
            fix=f"use those settings, or another {option}",
        )


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Every setting that differs, with both values."""
    before, after = _flat(stored), _flat(json.loads(json.dumps(now)))
    # A setting that an earlier version did not know was off, and one of the base model unknown.
    unknown = before.keys() ^ after.keys()
    return [
        f"{key}: {before.get(key)} then, {after.get(key)} now"
        for key in sorted(before | after)
        if before.get(key) != after.get(key)
        and not (key in unknown and not before.get(key) and not after.get(key))
        and not (key in unknown and BASE_SETTINGS in key.split("."))
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
