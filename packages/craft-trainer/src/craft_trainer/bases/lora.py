"""LoRA on the denoiser: attach it, scale it, switch it off, write and read its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils import state_dict_utils
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from craft_trainer.bases.base import DiffusionModel

#: diffusers declares no types there.
_layouts: Any = state_dict_utils

ADAPTER: Final = "default"
LORA_FILE: Final = "pytorch_lora_weights.safetensors"


def attach_lora(model: DiffusionModel, *, rank: int, alpha: int, seed: int) -> None:
    """Add a LoRA adapter to the family's target layers and make it the trainable part.

    Its parameters are float32 whatever the dtype of the weights they adapt: in bfloat16 an update
    of 1e-5 is lost to rounding. The initial values depend on ``seed`` alone.
    """
    trunk: Any = model.trunk
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk.add_adapter(
            LoraConfig(
                r=rank,
                lora_alpha=alpha,
                init_lora_weights="gaussian",
                target_modules=model.lora_targets,
            ),
            adapter_name=ADAPTER,
        )
    for name, parameter in trunk.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            model.trainable[f"{model.trunk_name}.{name}"] = parameter


def has_lora(model: DiffusionModel) -> bool:
    """Whether an adapter is attached."""
    return bool(getattr(model.trunk, "peft_config", None))


def scale_lora(model: DiffusionModel, scale: float) -> None:
    """Set how much of the adapter counts: 1 as trained, 0 not at all, exactly."""
    for layer in model.trunk.modules():
        if isinstance(layer, LoraLayer):
            layer.set_scale(ADAPTER, scale)


@contextmanager
def base_only(model: DiffusionModel) -> Iterator[None]:
    """Within this block the denoiser is the base model, without a graph.

    The scale is set to 0 rather than the adapter disabled: peft's switch also changes which
    parameters require gradients, which a prepared module must not see.
    """
    scale_lora(model, 0.0)
    try:
        with torch.no_grad():
            yield
    finally:
        scale_lora(model, 1.0)


@contextmanager
def with_weights(model: DiffusionModel, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within this block the trained parameters have other values, without a graph.

    To be left before a graph is built: the block changes what the parameters point to.
    """
    own = {name: parameter.data for name, parameter in model.trainable.items()}
    for name, parameter in model.trainable.items():
        parameter.data = weights[name]
    try:
        with torch.no_grad():
            yield
    finally:
        for name, parameter in model.trainable.items():
            parameter.data = own[name]


def save_lora(model: DiffusionModel, directory: Path) -> None:
    """Write ``pytorch_lora_weights.safetensors`` as ``pipe.load_lora_weights`` reads it.

    Its header carries the alpha, without which a loaded adapter with alpha ≠ rank would be wrong.
    """
    trunk: Any = model.trunk
    state = get_peft_model_state_dict(trunk)
    if model.trunk_name == "unet":
        state = _layouts.convert_state_dict_to_diffusers(state)
    layers = {name: value.contiguous().cpu() for name, value in state.items()}
    type(model.pipeline).save_lora_weights(
        directory,
        **{
            f"{model.trunk_name}_lora_layers": layers,
            f"{model.trunk_name}_lora_adapter_metadata": trunk.peft_config[ADAPTER].to_dict(),
        },
    )
    _sort_header(directory / LORA_FILE)


def load_lora(model: DiffusionModel, directory: Path) -> None:
    """Write the weights of an artefact into the adapter that is attached.

    Loading them through the pipeline would activate a second adapter, and the first, the
    optimizer's, would get no gradient.

    Raises:
        InputError: A tensor is missing, unknown or of another shape, or the alpha is another.
    """
    prefix = f"{model.trunk_name}."
    weights = load_file(directory / LORA_FILE)
    own = {name.removeprefix(prefix): value for name, value in weights.items()}
    trunk: Any = model.trunk
    expected = get_peft_model_state_dict(trunk)
    state = _layouts.convert_unet_state_dict_to_peft(own)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
        raise InputError(
            f"the LoRA weights in {directory} do not fit this base model, or another rank",
            fix="set `lora.rank` to that of the earlier stage, and take the same base",
        )
    alpha, own_alpha = _alpha_of(directory, prefix), trunk.peft_config[ADAPTER].lora_alpha
    if alpha not in (None, own_alpha):
        raise InputError(
            f"the LoRA weights in {directory} were trained with alpha {alpha}, and `lora.alpha` is "
            f"{own_alpha}: they would count {own_alpha / alpha:g} times as much",
            fix=f"set `lora.alpha` to {alpha}",
        )
    set_peft_model_state_dict(trunk, state, adapter_name=ADAPTER)


def _alpha_of(directory: Path, prefix: str) -> int | None:
    """The alpha in the header of a file of weights; None where it has none."""
    with safe_open(directory / LORA_FILE, framework="pt") as file:
        metadata = file.metadata() or {}
    told = json.loads(metadata.get(LORA_ADAPTER_METADATA_KEY, "{}"))
    alpha: int | None = told.get(f"{prefix}lora_alpha")
    return alpha


def _sort_header(path: Path) -> None:
    """Give equal weights equal bytes.

    safetensors keeps the header's metadata in a hash map, so that two entries come in either
    order, by chance: files of equal weights would differ.
    """
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight bytes
    # Written anew: safetensors leaves a file that only its owner can read.
    write_bytes(path, len(text).to_bytes(8, "little") + text + content[8 + size :])
