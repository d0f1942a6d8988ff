"""Models of open_clip; needs the extra ``cas-metric[openclip]``.

They come from a directory or hub repository with ``open_clip_config.json``, or from a built-in
architecture and a file of weights. A text tower of transformers (BiomedCLIP's is BERT) would ask
the hub for its configuration: those known are in :data:`TEXT_CONFIGS`, and nothing is asked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.encoders.family import EncoderInfo, Family
from cas_metric.encoders.memory import digest_file, digest_of
from cas_metric.encoders.weights import quiet_transformers, tokenizer_digests
from cas_metric.errors import InputError, MissingDependency, ModelUnavailable

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import Preprocessing

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
_DEFAULT_CONTEXT = 77
#: What open_clip's published configurations say of the way to the model input.
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
#: Configurations of text towers by the name that open_clip would ask the hub for: BERT base, whose
#: sizes are the defaults of its class.
TEXT_CONFIGS: Final[dict[str, dict[str, Any]]] = {
    name: {"model_type": "bert"}
    for name in (
        "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext",
        "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract",
        "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext",
        "bert-base-uncased",
    )
}


def hub_repository(spec: str) -> str:
    """The hub repository behind ``MODEL/TAG``, e.g. ``ViT-B-32/laion2b_s34b_b79k``.

    Raises:
        InputError: No such model or tag, or one that is only published as a pickle elsewhere.
    """
    open_clip = _require_open_clip()
    model, _, tag = spec.rpartition("/")
    known = open_clip.list_pretrained_tags_by_model(model)
    if tag not in known:
        raise InputError(
            f"open_clip has no {spec!r}",
            fix=f"tags of {model}: {', '.join(known)}"
            if known
            else "openclip:MODEL/TAG with names of open_clip.list_pretrained()",
        )
    repository, _, file = open_clip.get_pretrained_cfg(model, tag)["hf_hub"].rpartition("/")
    if not repository or file:
        raise InputError(
            f"open_clip publishes {spec!r} only as a pickled file, which is not loaded",
            fix="convert it to safetensors and give openclip:MODEL@weights.safetensors",
        )
    return repository


def load_directory(directory: Path, config: dict[str, Any] | None = None) -> Towers:
    """Load a directory with ``open_clip_config.json`` and ``open_clip_model.safetensors``."""
    open_clip = _require_open_clip()
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise ModelUnavailable(
            f"{directory}: no {WEIGHTS}; pickled weights are not loaded",
            fix="copy the safetensors file of the repository into the directory, or convert the "
            f"pickle: `cas encoders convert {directory} --to DIR`",
        )
    name = f"local-dir:{directory}"
    return _towers(
        open_clip, name, weights, _stated_preprocessing(directory), tokenizer_digests(directory)
    )


def _stated_preprocessing(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {**content["preprocess_cfg"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read, or states no preprocess_cfg: {error}",
            fix="copy the file of the checkpoint again",
        ) from error


def load_file(model: str, weights: Path) -> Towers:
    """Load open_clip's built-in architecture ``model`` with the weights of one file."""
    open_clip = _require_open_clip()
    if model not in open_clip.list_models():
        raise InputError(
            f"open_clip has no architecture {model!r}", fix="see open_clip.list_models()"
        )
    if weights.suffix != ".safetensors":
        raise InputError(f"{weights}: only safetensors files are loaded")
    if not weights.is_file():
        raise ModelUnavailable(f"{weights}: no such file", fix="check the path after the @")
    return _towers(open_clip, model, weights, _published_preprocessing(open_clip, model), {})


@dataclass(frozen=True)
class OpenClipTokenizer:
    """open_clip's tokenizers: its own byte-pair encoding, or one of transformers behind it."""

    tokenizer: Any
    limit: int

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each whole text, special tokens included."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return [len(self.tokenizer.encode(text)) + 2 for text in texts]
        cleaned = [self.tokenizer.clean_fn(text) for text in texts]
        return [len(ids) for ids in inner(cleaned, truncation=False, verbose=False)["input_ids"]]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """``(N, limit)`` int64, cut so that the end-of-text token stays."""
        return self.tokenizer(list(texts), context_length=self.limit)

    def tokens(self, text: str) -> list[str]:
        """The tokens that the model sees of ``text``, padding left out."""
        ids = self.encode([text])[0][: self.count([text])[0]].tolist()
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return list(inner.convert_ids_to_tokens(ids))
        return [self.tokenizer.decoder[token] for token in ids]

    def describe(self) -> dict[str, Any]:
        """What the fingerprint records."""
        return {"limit": self.limit, "padding": "max_length", "by": "open_clip"}


@dataclass(frozen=True)
class OpenClipTransform:
    """open_clip's transform of one image, for several; picklable, for worker processes."""

    transform: Any

    def __call__(self, images: list[Image.Image]) -> Tensor:
        """PIL images to ``(B, 3, S, S)`` float32."""
        import torch

        return torch.stack([self.transform(image) for image in images])


def _towers(
    open_clip: Any,
    name: str,
    weights: Path,
    preprocess: dict[str, Any],
    tokenizer_files: dict[str, str],
) -> Towers:
    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.text import TextTower

    config = open_clip.get_model_config(name)
    try:
        with _text_tower(config, weights) as changed:
            model = open_clip.create_model(
                name,
                pretrained=None if name.startswith("local-dir:") else str(weights),
                load_weights=True,
                pretrained_image=False,
                pretrained_text=False,
                **changed,
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"{weights}: does not fit the architecture {name}: {error}",
            fix="name the architecture that the weights were trained with",
        ) from error

    def text_features(ids: Tensor) -> Tensor:
        return model.encode_text(ids.to(next(model.parameters()).device))

    limit = config["text_cfg"].get("context_length", _DEFAULT_CONTEXT)
    tokenizer = _load_tokenizer(open_clip, name, config["text_cfg"], weights.parent)
    return Towers(
        model=model,
        image_features=model.encode_image,
        text=TextTower(OpenClipTokenizer(tokenizer, limit), text_features),
        dim=config["embed_dim"],
        preprocessing=_preprocessing(model, preprocess),
        pooling="open_clip",
        content=digest_of(
            {
                "weights": digest_file(weights),
                "config": config,
                "tokenizer": tokenizer_files or _vocabulary_digest(tokenizer),
            }
        ),
    )


@contextmanager
def _text_tower(config: dict[str, Any], weights: Path) -> Iterator[dict[str, Any]]:
    """Arguments that let a text tower of transformers find its configuration on this machine."""
    text = config.get("text_cfg") or {}
    name = text.get("hf_model_name")
    if not name:
        yield {}
        return
    if name not in TEXT_CONFIGS:
        raise ModelUnavailable(
            f"{weights}: its text tower is {name}, whose configuration is not known here",
            fix=f"known: {', '.join(sorted(TEXT_CONFIGS))}",
        )
    with tempfile.TemporaryDirectory(prefix="cas-text-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(TEXT_CONFIGS[name]), encoding="utf-8")
        yield {"text_cfg": {**text, "hf_model_name": folder, "hf_model_pretrained": False}}


def _load_tokenizer(open_clip: Any, name: str, text: dict[str, Any], directory: Path) -> Any:
    """The tokenizer of an architecture; one of transformers from beside the weights if there."""
    beside = text.get("hf_tokenizer_name") and (directory / "tokenizer_config.json").is_file()
    try:
        with quiet_transformers():
            if not beside:
                return open_clip.get_tokenizer(name)
            return open_clip.tokenizer.HFTokenizer(
                str(directory),
                context_length=text.get("context_length", _DEFAULT_CONTEXT),
                tokenizer_mode=text.get("tokenizer_mode"),
                **text.get("tokenizer_kwargs", {}),
            )
    except Exception as error:  # whatever the tokenizer's own loader raises for absent files
        raise ModelUnavailable(
            f"the tokenizer of open_clip's {name} cannot be had: {str(error).splitlines()[0]}",
            fix="copy the tokenizer's files of the checkpoint beside its weights",
        ) from error


def _vocabulary_digest(tokenizer: Any) -> str:
    """sha256 of a tokenizer of transformers that came from elsewhere; empty for open_clip's own."""
    inner = getattr(tokenizer, "tokenizer", None)
    return digest_of(sorted(inner.get_vocab().items())) if inner is not None else ""


def _published_preprocessing(open_clip: Any, model: str) -> dict[str, Any]:
    """How all published weights of an architecture are preprocessed; open_clip's default if none.

    Weights given as a file do not say; where published ones disagree nobody can know.
    """
    tags = open_clip.list_pretrained_tags_by_model(model)
    published = [
        {key: open_clip.get_pretrained_cfg(model, tag)[key] for key in _PREPROCESSING}
        for tag in tags
    ]
    if not published:
        default = open_clip.transform.PreprocessCfg()
        return {key: getattr(default, key) for key in _PREPROCESSING}
    if any(other != published[0] for other in published):
        raise InputError(
            f"published weights of {model} are preprocessed in different ways, and a file of "
            "weights does not say in which",
            fix="use a directory with open_clip_config.json beside the weights",
        )
    return published[0]


def _preprocessing(model: Any, config: dict[str, Any]) -> Preprocessing:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from cas_metric.encoders.preprocessing import Preprocessing

    height, width = model.visual.image_size
    if height != width or config.get("resize_mode", "shortest") == "longest":
        raise InputError("open_clip models with other than square, filled inputs are not supported")
    known = {
        key: config[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in config
    }
    settings = PreprocessCfg(size=height, **known)
    return Preprocessing(
        official_transform=OpenClipTransform(image_transform_v2(settings, is_train=False)),
        size=height,
        geometry="squash" if settings.resize_mode == "squash" else "crop-rounded",
        shortest_side=height,
        interpolation=settings.interpolation,
        mean=tuple(settings.mean),
        std=tuple(settings.std),
    )


def _require_open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingDependency(
            "open_clip_torch", extra="openclip", purpose="openclip: encoders"
        ) from error
    return open_clip


def _is_openclip(names: set[str], config: dict[str, Any]) -> bool:
    return CONFIG in names and "preprocessor_config.json" not in names


FAMILY = Family(
    name="openclip",
    load=load_directory,
    recognises=_is_openclip,
    encoders=(
        EncoderInfo(
            "biomedclip",
            "openclip",
            "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "9f341de24bfb00180f1b847274256e9b65a3a32e",
            "MIT",
            256,
            224,
            784,
            pickled=True,
            purpose="reads whole checklists",
        ),
        EncoderInfo(
            "dermlip",
            "openclip",
            "redlessone/DermLIP_ViT-B-16",
            "main",
            "see its card",
            77,
            224,
            0,
            purpose="dermatology",
        ),
    ),
)
