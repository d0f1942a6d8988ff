"""Vision transformers of timm, as pathology models are published. Images only.

``config.json`` is timm's own: ``architecture``, ``pretrained_cfg`` and, where the author saved
them, ``model_args``. Published files often lack arguments that the model card gives in code (SwiGLU
layers, registers, layer scale, the size of the layers); the shapes of the weights say the same, so
they are read there. What no shape tells is in :data:`ARGUMENTS`.

The embedding is what the model's own pooling gives; where it has none (``global_pool: ""``), CLS
token and mean of the patches side by side, as Virchow2's card does.
Sources: https://github.com/huggingface/pytorch-image-models, the model cards.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.encoders.family import EncoderInfo, Family
from cas_metric.encoders.weights import content_digest, weight_files
from cas_metric.errors import InputError, MissingDependency

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import Preprocessing

#: Heads by the width of the tokens, where model cards change an architecture's width.
ARGUMENTS: Final = {("vit_giant_patch14_224", 1536): {"num_heads": 24}}


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with timm's ``config.json``.

    Raises:
        MissingDependency: timm is not installed.
        InputError: The weights do not fit the architecture.
    """
    from safetensors.torch import load_file

    from cas_metric.encoders.model import Towers

    timm = _require_timm()
    weights: dict[str, Tensor] = {}
    for path in weight_files(directory):
        weights |= load_file(path)
    weights = {name.removeprefix("timm_model."): value for name, value in weights.items()}
    weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
    stated = config.get("pretrained_cfg") or config
    architecture = str(config.get("architecture", ""))
    arguments = {**_told_by(weights), **(config.get("model_args") or {})}
    arguments = {**ARGUMENTS.get((architecture, arguments.get("embed_dim", 0)), {}), **arguments}
    arguments["num_classes"] = 0
    if "global_pool" in config:
        arguments["global_pool"] = config["global_pool"]
    arguments = _with_layers(timm, arguments)
    try:
        _require_heads(timm, directory, architecture, arguments)
        model = timm.create_model(architecture, pretrained=False, **arguments)
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise InputError(
            f"{directory}: the weights do not fit timm's {architecture} "
            f"with {_shown(arguments)}: {error}",
            fix="state the model card's arguments as model_args in config.json",
        ) from error

    def image_features(pixels: Tensor) -> Tensor:
        return _pooled(model, model.forward_features(pixels))

    return Towers(
        model=model,
        image_features=image_features,
        text=None,
        dim=model.num_features * (1 if model.global_pool else 2),
        preprocessing=_preprocessing(timm, stated, arguments),
        # Of convolutional networks it is a module, which knows its name.
        pooling=getattr(model.global_pool, "pool_type", model.global_pool)
        or "cls token and mean of the patches",
        content=content_digest(directory),
    )


def _pooled(model: Any, features: Tensor) -> Tensor:
    import torch

    if model.global_pool:
        return model.forward_head(features, pre_logits=True)
    patches = features[:, model.num_prefix_tokens :]
    return torch.cat([features[:, 0], patches.mean(dim=1)], dim=-1)


def _told_by(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of a vision transformer that follow from the shapes of its weights."""
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if "blocks.0.mlp.fc1.weight" not in shapes or "patch_embed.proj.weight" not in shapes:
        return {}
    hidden, width = shapes["blocks.0.mlp.fc1.weight"]
    found: dict[str, Any] = {
        "embed_dim": width,
        "depth": 1 + max(int(n.split(".")[1]) for n in shapes if n.startswith("blocks.")),
        "patch_size": shapes["patch_embed.proj.weight"][-1],
        "mlp_ratio": hidden / width,
    }
    if shapes["blocks.0.mlp.fc2.weight"][1] * 2 == hidden:  # half of it gates the other half
        found |= {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
    if "blocks.0.ls1.gamma" in shapes:
        found["init_values"] = 1e-5  # the value is overwritten by the weights
    if "reg_token" in shapes:
        found["reg_tokens"] = shapes["reg_token"][1]
    positions = shapes.get("pos_embed", (0, 0))[1]
    if "cls_token" in shapes and positions:  # a full square has none for the tokens before it
        found["no_embed_class"] = math.isqrt(positions) ** 2 == positions
        before = 0 if found["no_embed_class"] else 1 + found.get("reg_tokens", 0)
        found["img_size"] = math.isqrt(positions - before) * found["patch_size"]
    return found


def _require_heads(
    timm: Any, directory: Path, architecture: str, arguments: dict[str, Any]
) -> None:
    """Refuse weights of another width than the architecture's, unless their heads are stated.

    Any number of heads that divides the width would load, and give other features.
    """
    import torch

    if "embed_dim" not in arguments or "num_heads" in arguments:
        return
    with torch.device("meta"):  # shapes alone
        own = timm.create_model(architecture, pretrained=False, num_classes=0).embed_dim
    if own != arguments["embed_dim"]:
        raise InputError(
            f"{directory}: its weights are {arguments['embed_dim']} wide, timm's {architecture} is "
            f"{own} wide, and no shape tells how many heads they have",
            fix="name their own architecture, or state num_heads as model_args in config.json",
        )


def _with_layers(timm: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same, with layer classes in place of their names."""
    name = arguments.get("mlp_layer")
    if not isinstance(name, str):
        return arguments
    return {**arguments, "mlp_layer": getattr(timm.layers, name)}


def _shown(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key}={getattr(v, '__name__', v)}" for key, v in sorted(arguments.items()))


class TimmTransform:
    """timm's transform of one image, for several; picklable, for worker processes."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, images: list[Image.Image]) -> Tensor:
        """PIL images to ``(B, 3, S, S)`` float32."""
        import torch

        return torch.stack([self.transform(image) for image in images])


def _preprocessing(timm: Any, stated: dict[str, Any], arguments: dict[str, Any]) -> Preprocessing:
    from cas_metric.encoders.preprocessing import Preprocessing

    size = arguments.get("img_size") or stated.get("input_size", (3, 224, 224))[-1]
    size = size if isinstance(size, int) else int(size[-1])
    known = timm.data.resolve_data_config({**stated, "input_size": (3, size, size)}, verbose=False)
    squash = known["crop_mode"] == "squash"
    cropped = known["crop_mode"] == "center" or (squash and known["crop_pct"] == 1.0)
    if not cropped or known["interpolation"] not in ("bicubic", "bilinear"):
        raise InputError(
            f"timm's crop_mode {known['crop_mode']!r} with {known['interpolation']!r} resizing is "
            "not supported",
            fix="crop_mode center or squash, interpolation bicubic or bilinear, in config.json",
        )
    return Preprocessing(
        official_transform=TimmTransform(timm.data.create_transform(**known, is_training=False)),
        size=size,
        geometry="squash" if squash else "crop-rounded",
        shortest_side=size if squash else int(size / known["crop_pct"]),
        interpolation=known["interpolation"],
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
    )


def _is_timm(names: set[str], config: dict[str, Any]) -> bool:
    return "architecture" in config and "model_type" not in config


def _require_timm() -> Any:
    try:
        import timm
        import timm.layers
    except ImportError as error:
        raise MissingDependency("timm", extra="openclip", purpose="encoders of timm") from error
    return timm


FAMILY = Family(
    name="timm",
    load=load,
    model_types=("timm_wrapper",),
    recognises=_is_timm,
    image_only=lambda config: True,
    encoders=(
        EncoderInfo(
            "uni2-h",
            "timm",
            "MahmoodLab/UNI2-h",
            "d517a8dd47902dd7c308b3c36f63bce47e7b9a43",
            "CC-BY-NC-ND-4.0",
            0,
            224,
            0,
            gated=True,
            pickled=True,
            purpose="histology",
        ),
    ),
)
