"""LoRA on the denoiser: attach it, scale it, switch it off, write and read its weights."""

from __future__ import annotations

import json
import re
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
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Lora

#: diffusers declares no types there.
_layouts: Any = state_dict_utils

ADAPTER: Final = "default"
#: What scales an adapter whatever the shapes of its matrices: peft's name, and ours.
_SCALING: Final = {
    "lora_alpha": "alpha",
    "alpha_pattern": "alpha_pattern",
    "use_rslora": "rslora",
}
LORA_FILE: Final = "pytorch_lora_weights.safetensors"


class _Dropout(nn.Dropout):
    """Drops where a gradient flows: trajectories and images are drawn by the whole adapter."""

    def forward(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.p, torch.is_grad_enabled())


def peft_config(lora: Lora, model: DiffusionModel) -> LoraConfig:
    """The adapter as peft knows it.

    Examples:
        >>> import torch
        >>> from craft_trainer.artifact.folder import load_base
        >>> from craft_trainer.config.schema import resolve
        >>> from craft_trainer.config.sections import Lora
        >>> model = load_base(resolve(settings), torch.device("cpu"))
        >>> peft_config(Lora(rank=8, dora=True), model).use_dora
        True
    """
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        init_lora_weights="gaussian",
        target_modules=lora.targets or model.lora_targets,
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        use_rslora=lora.rslora,
    )


def attach_lora(model: DiffusionModel, lora: Lora, *, seed: int) -> None:
    """Add a LoRA adapter to the denoiser and make it the trainable part.

    Its parameters are float32 whatever the dtype of the weights they adapt: in bfloat16 an update
    of 1e-5 is lost to rounding. The initial values depend on ``seed`` alone.

    Raises:
        InputError: ``targets`` names no layer, or one that peft cannot adapt.
    """
    trunk: Any = model.trunk
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            trunk.add_adapter(peft_config(lora, model), adapter_name=ADAPTER)
        except ValueError as error:
            raise InputError(
                f"lora.targets {lora.targets!r}: {error}",
                fix="a regular expression of whole names, such as '.*attn2[.]to_[qkv]'",
            ) from error
    for layer in trunk.modules():
        if isinstance(layer, LoraLayer) and lora.dropout > 0:
            layer.lora_dropout[ADAPTER] = _Dropout(lora.dropout)
            # Of the layer alone: DoRA asks it whether anything is dropped.
            layer.training = True  # type: ignore[attr-defined]  # each is a module as well
    for name, parameter in trunk.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            model.trainable[f"{model.trunk_name}.{name}"] = parameter


def require_patterns(model: DiffusionModel, lora: Lora) -> None:
    """Refuse a pattern that no adapted layer has: its rank, or alpha, would be nowhere.

    Args:
        model: With the adapter attached; the device ``meta`` will do.
        lora: As it was attached.

    Raises:
        InputError: Names the pattern, and some layers.
    """
    layers = [name for name, one in model.trunk.named_modules() if isinstance(one, LoraLayer)]
    for setting in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(lora, setting):
            # As peft looks a layer up.
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in layers):
                some = ", ".join(layers[:: max(1, len(layers) // 3)][:3])
                raise InputError(
                    f"lora.{setting} {pattern!r} is the name of none of the {len(layers)} adapted "
                    "layers",
                    fix=f"a regular expression of whole names, or of their ends, as of {some}",
                )


def has_lora(model: DiffusionModel) -> bool:
    """Whether an adapter is attached."""
    return bool(getattr(model.trunk, "peft_config", None))


def scale_lora(model: DiffusionModel, scale: float) -> None:
    """Set how much of the adapter counts: 1 as trained, 0 not at all, exactly.

    Raises:
        InputError: Something between, of an adapter with norms of its own (DoRA).
    """
    for layer in model.trunk.modules():
        if isinstance(layer, LoraLayer):
            if scale not in (0, 1) and layer.use_dora.get(ADAPTER):
                raise InputError(
                    f"a DoRA adapter has no scale of {scale:g}: its norms count as a whole",
                    fix="take 1, or 0 for the base model",
                )
            # Not `enable_adapters`, which also changes which parameters require gradients, and
            # that a prepared module must not see.
            layer._disable_adapters = scale == 0
            layer.set_scale(ADAPTER, scale or 1.0)


@contextmanager
def base_only(model: DiffusionModel) -> Iterator[None]:
    """Within this block the denoiser is the base model, without a graph."""
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

    Its header carries the alpha, without which a loaded adapter with alpha ≠ rank would be wrong,
    and what else decides its forward. It is for inference: no dropout.
    """
    trunk: Any = model.trunk
    metadata = {**trunk.peft_config[ADAPTER].to_dict(), "lora_dropout": 0.0}
    state = get_peft_model_state_dict(trunk)
    if model.trunk_name == "unet":
        state = _layouts.convert_state_dict_to_diffusers(state)
    layers = {name: value.contiguous().cpu() for name, value in state.items()}
    type(model.pipeline).save_lora_weights(
        directory,
        **{
            f"{model.trunk_name}_lora_layers": layers,
            f"{model.trunk_name}_lora_adapter_metadata": metadata,
        },
    )
    _sort_header(directory / LORA_FILE)


def load_lora(model: DiffusionModel, directory: Path) -> None:
    """Write the weights of an artefact into the adapter that is attached.

    Loading them through the pipeline would activate a second adapter, and the first, the
    optimizer's, would get no gradient.

    Raises:
        InputError: As of :func:`fitting_lora`.
    """
    trunk: Any = model.trunk
    set_peft_model_state_dict(trunk, fitting_lora(model, directory), adapter_name=ADAPTER)


def fitting_lora(model: DiffusionModel, directory: Path) -> dict[str, Tensor]:
    """The weights of an artefact, by their names in the adapter that is attached.

    Args:
        model: With the adapter; the device ``meta`` will do.
        directory: Of the artefact.

    Raises:
        InputError: A tensor is missing, unknown or of another shape, or what scales them differs.
    """
    prefix = f"{model.trunk_name}."
    weights = load_file(directory / LORA_FILE)
    own = {name.removeprefix(prefix): value for name, value in weights.items()}
    trunk: Any = model.trunk
    expected = get_peft_model_state_dict(trunk)
    state: dict[str, Tensor] = _layouts.convert_unet_state_dict_to_peft(own)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
        raise InputError(
            f"the LoRA weights in {directory} do not fit this base model, or another rank",
            fix="set `lora.rank` to that of the earlier stage, and take the same base",
        )
    told, own_config = _header_of(directory, prefix), trunk.peft_config[ADAPTER].to_dict()
    for key, name in _SCALING.items():
        if key in told and told[key] != own_config[key]:
            effect = "otherwise"
            if key == "lora_alpha":
                effect = f"{own_config[key] / told[key]:g} times as much"
            raise InputError(
                f"the LoRA weights in {directory} were trained with {name} {told[key]}, and "
                f"`lora.{name}` is {own_config[key]}: they would count {effect}",
                fix=f"set `lora.{name}` to {told[key]}",
            )
    return state


def _header_of(directory: Path, prefix: str) -> dict[str, Any]:
    """The settings in the header of a file of weights; empty where it has none."""
    with safe_open(directory / LORA_FILE, framework="pt") as file:
        metadata = file.metadata() or {}
    told = json.loads(metadata.get(LORA_ADAPTER_METADATA_KEY, "{}"))
    return {key.removeprefix(prefix): value for key, value in told.items()}


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
