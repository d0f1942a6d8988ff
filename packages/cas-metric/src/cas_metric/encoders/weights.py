"""The files behind an encoder: what is there, whether it may be loaded, and their digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cas_metric.encoders.memory import digest_file, digest_of
from cas_metric.errors import InputError, ModelUnavailable

#: Tokenizer files whose bytes decide a text embedding.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
)
#: Keys of config.json that record how the file was written, not what the model computes.
_BOOKKEEPING = {"transformers_version", "_name_or_path", "torch_dtype", "dtype", "architectures"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` of a model directory; raises :class:`InputError` naming the file."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelUnavailable(
            f"{directory}: no config.json, so this is no model directory in the hub's format",
            fix="point at the directory that holds config.json and model.safetensors",
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds no JSON object")
    return config


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory, every shard of them.

    Where a directory holds both forms, the single file counts: it is what transformers loads.

    Raises:
        ModelUnavailable: Only pickled weights, no weights, or a shard is missing.
        InputError: The index of the shards cannot be read.
    """
    single = directory / "model.safetensors"
    if single.is_file():
        return [single]
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        shards = _shards(index)
        missing = [name for name in shards if not (directory / name).is_file()]
        if missing:
            raise ModelUnavailable(
                f"{directory}: missing {', '.join(missing)}, named in {index.name}",
                fix="copy every shard into the directory",
            )
        return [directory / name for name in shards]
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        raise ModelUnavailable(
            f"{directory}: only pickled weights ({', '.join(pickles)}), which can run code when "
            "they are loaded and are refused",
            fix=f"convert them: `cas encoders convert {directory} --to CONVERTED`, or take a "
            "revision with safetensors",
        )
    raise ModelUnavailable(
        f"{directory}: no model.safetensors", fix="copy the weights into the directory"
    )


def _shards(index: Path) -> list[str]:
    """Names of the files that an index distributes the weights over."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        return sorted({str(name) for name in content["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{index}: is no index of weights: {error}", fix="copy the file again"
        ) from error


def content_digest(directory: Path) -> str:
    """sha256 over weights, configuration and tokenizer of a model directory, as hex."""
    return digest_of(
        {
            "config": _without_bookkeeping(read_config(directory)),
            "weights": [digest_file(path) for path in weight_files(directory)],
            "tokenizer": tokenizer_digests(directory),
        }
    )


def tokenizer_digests(directory: Path) -> dict[str, str]:
    """sha256 of each tokenizer file of a model directory, by name."""
    paths = [directory / name for name in _TOKENIZER_FILES]
    return {path.name: digest_file(path) for path in paths if path.is_file()}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and advice while a model loads."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _without_bookkeeping(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    kept = {key: value for key, value in config.items() if key not in _BOOKKEEPING}
    return {key: _without_bookkeeping(value) for key, value in kept.items()}
