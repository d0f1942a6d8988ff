"""Loading parts of a local model directory through transformers, safetensors only."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.weights import content_digest, quiet_transformers, weight_files
from cas_metric.errors import InputError, MissingDependency, ModelUnavailable

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers

#: Parameters that a checkpoint may lack because inference never reads them.
_UNUSED_PARAMETERS = ("embeddings.mask_token", "vision_model.embeddings.mask_token")


def load_model(cls: Any, directory: Path, **options: Any) -> Any:
    """Load ``cls`` in float32 with SDPA attention from safetensors.

    Args:
        cls: A model class of transformers.
        directory: Where its files are.
        **options: Handed to the class.

    Raises:
        ModelUnavailable: No safetensors weights.
        InputError: The weights cannot be read or do not fill the architecture; transformers
            would only warn and leave the rest random.
    """
    import torch
    from safetensors import SafetensorError

    files = weight_files(directory)
    try:
        with quiet_transformers():
            model, loading = cls.from_pretrained(
                directory,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        names = ", ".join(path.name for path in files)
        raise InputError(
            f"{directory}: {names} cannot be loaded as {cls.__name__}: {error}",
            fix="copy the files again; compare their sha256 with the hub's",
        ) from error
    lacking = sorted(set(loading["missing_keys"]) - set(_UNUSED_PARAMETERS))
    lacking += sorted(str(key) for key in loading["mismatched_keys"])
    if lacking:
        raise InputError(
            f"{directory}: the weights lack {len(lacking)} parameters of {cls.__name__}, "
            f"first {lacking[0]}",
            fix="config.json and model.safetensors must belong to the same model",
        )
    return model


def vision_towers(
    model: Any, directory: Path, features: Callable[[Tensor], Tensor], pooling: str, **how: Any
) -> Towers:
    """The towers of an image-only checkpoint with an image processor of its own.

    Args:
        model: As :func:`load_model` loads it.
        directory: Where its files are.
        features: ``(B, 3, S, S)`` to ``(B, D)``.
        pooling: How ``features`` makes one vector of an image.
        **how: Handed to :func:`~cas_metric.encoders.preprocessing.from_processor`.
    """
    import torch

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import from_processor

    preprocessing = from_processor(load_processor(directory), **how)
    with torch.no_grad():
        dim = features(torch.zeros(1, 3, preprocessing.size, preprocessing.size)).shape[-1]
    return Towers(
        model=model,
        image_features=features,
        text=None,
        dim=dim,
        preprocessing=preprocessing,
        pooling=pooling,
        content=content_digest(directory),
    )


def load_processor(directory: Path) -> Any:
    """The checkpoint's image processor on the PIL backend."""
    from transformers import AutoImageProcessor

    try:
        with quiet_transformers():
            return AutoImageProcessor.from_pretrained(
                directory, backend="pil", local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{directory}: no usable preprocessor_config.json: {error}",
            fix="copy the image processor's configuration of the checkpoint into the directory",
        ) from error


def load_tokenizer(directory: Path, *, ends: bool = True) -> Any:
    """The checkpoint's tokenizer.

    Args:
        directory: Where its files are.
        ends: Whether the family was trained with EOS at the end of a text.

    Raises:
        MissingDependency: SigLIP's tokenizer without sentencepiece; transformers would fall back
            to ``tokenizer.json``, which keeps the punctuation that SigLIP was trained without.
        ModelUnavailable: The files are missing or unreadable.
        InputError: It does not end a text with EOS, where the family was trained with it;
            transformers does not make up for a ``tokenizer.json`` without it.
    """
    from transformers import AutoTokenizer

    settings = directory / "tokenizer_config.json"
    if settings.is_file() and '"SiglipTokenizer"' in settings.read_text(encoding="utf-8"):
        for package, module in (
            ("sentencepiece", "sentencepiece"),
            ("protobuf", "google.protobuf"),
        ):
            if not _installed(module):
                raise MissingDependency(package, purpose="SigLIP's tokenizer")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, ImportError) as error:
        raise ModelUnavailable(
            f"{directory}: no usable tokenizer: {error}",
            fix="copy tokenizer.json (or spiece.model) and tokenizer_config.json of the "
            "checkpoint into the directory",
        ) from error
    if ends and tokenizer("a")["input_ids"][-1:] != [tokenizer.eos_token_id]:
        raise InputError(
            f"{directory}: the tokenizer does not end a text with {tokenizer.eos_token!r}",
            fix="tokenizer.json needs a post-processor that appends it",
        )
    return tokenizer


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is absent
        return False
