"""Getting a model directory from the hub: cached copy first, then the network, then a clear no.

Nothing here waits for long and nothing half-done is ever used: the listing of a repository is
asked for once with a short timeout before any file is fetched, and a cached snapshot counts only
when every file that loading needs is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cas_metric.errors import ModelUnavailable

#: Seconds to wait for the hub's answer before it counts as unreachable.
TIMEOUT = 8.0

#: Files that the transformers families read. Pickled weights are not among them.
_TRANSFORMERS_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
)
#: What open_clip reads in their place.
_OPENCLIP_FILES = ("open_clip_config.json", "open_clip_model.safetensors")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
#: Every file that loading may read, by name; shards of weights are named by their index.
READ_FILES = frozenset(_TRANSFORMERS_FILES + _OPENCLIP_FILES + _TOKENIZER_FILES)
_VOCABULARIES = (
    *("tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
    *("vocab.json", "vocab.txt"),
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: ``owner/name``.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Snapshot:
    """A repository's files on this machine, and the commit that they are of."""

    directory: Path
    commit: str


def fetch(
    hub_id: str,
    revision: str,
    *,
    offline: bool = False,
    openclip: bool = False,
    extra_files: Sequence[str] = (),
    what: str = "encoder",
    instead: str = "",
) -> Snapshot:
    """Return the files of ``hub_id`` at ``revision``, from the cache or from the hub.

    Args:
        hub_id: ``owner/name``.
        revision: Commit, tag or branch. A cached copy of a branch is used as it is.
        offline: Never use the network; also switched on by ``HF_HUB_OFFLINE=1``.
        openclip: Take open_clip's files of a repository that has both kinds.
        extra_files: Names or patterns to fetch besides those of an encoder, where they exist.
        what: What the message calls the model.
        instead: The embedded encoder that does the same for trying things out.

    Raises:
        ModelUnavailable: Not cached and not to be had; the message says what was tried, what is
            missing and what to do. Nothing is left in the cache.
    """
    from huggingface_hub import constants

    cached = find_cached(hub_id, revision, openclip=openclip)
    if cached is not None:
        return cached
    if offline or constants.HF_HUB_OFFLINE:
        why = "--offline" if offline else "HF_HUB_OFFLINE is set"
        raise _unavailable(
            hub_id, revision, f"the network is not to be used ({why})", what, instead
        )
    try:
        return _download(hub_id, revision, openclip, extra_files)
    except _NoAnswer as error:
        raise _unavailable(
            hub_id, revision, f"the hub did not answer: {error}", what, instead
        ) from error


class _NoAnswer(Exception):
    """The files could not be had, for whatever reason of the network."""


@contextmanager
def no_network() -> Iterator[None]:
    """Let no library ask the hub for anything, whatever it thinks it lacks."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def find_cached(hub_id: str, revision: str, *, openclip: bool = False) -> Snapshot | None:
    """The complete cached copy of a repository, if there is one."""
    repository = _cache_folder(hub_id)
    commit = revision
    if not _COMMIT.fullmatch(revision):
        reference = repository / "refs" / revision
        if not reference.is_file():
            return None
        commit = reference.read_text(encoding="ascii").strip()
    directory = repository / "snapshots" / commit
    if not directory.is_dir() or missing_from(directory, openclip):
        return None
    return Snapshot(directory, commit)


def is_openclip(names: Iterable[str]) -> bool:
    """Whether a directory's files are open_clip's and not transformers'."""
    present = set(names)
    return "open_clip_config.json" in present and "preprocessor_config.json" not in present


def missing_from(directory: Path, openclip: bool = False) -> list[str]:
    """Which files a directory lacks, after an interrupted download for example."""
    names = {path.name for path in directory.iterdir()}
    config = directory / "config.json"
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    # timm's configuration holds the preprocessing itself
    missing = missing_files(names, openclip, processor='"architecture"' not in text)
    has_text = '"text_config"' in text
    if has_text and "tokenizer_config.json" not in names:
        missing.append("tokenizer_config.json")
    if has_text and not names & set(_VOCABULARIES):
        missing.append("tokenizer.json or spiece.model")
    return missing


def missing_files(
    names: Iterable[str], openclip: bool = False, *, processor: bool = True
) -> list[str]:
    """Which files a repository's listing lacks before an encoder can be loaded from it.

    Args:
        names: Of its files.
        openclip: Whether open_clip's files are asked for where it has both kinds.
        processor: Whether the configuration of an image processor is needed.
    """
    present = set(names)
    if openclip or is_openclip(present):
        return [name for name in _OPENCLIP_FILES if name not in present]
    missing = [] if "config.json" in present else ["config.json"]
    if processor and not present & {"preprocessor_config.json", "processor_config.json"}:
        missing.append("preprocessor_config.json")
    if "model.safetensors" in present:
        return missing
    shards = [name for name in present if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    if "model.safetensors.index.json" not in present or not shards:
        return [*missing, "model.safetensors"]
    if len(shards) < int(shards[0].split("-of-")[1].split(".")[0]):
        missing.append("some shards of model.safetensors")
    return missing


def _download(hub_id: str, revision: str, openclip: bool, extra_files: Sequence[str]) -> Snapshot:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/{hub_id}"
    try:
        info = HfApi().model_info(hub_id, revision=revision, timeout=TIMEOUT)
        names = [file.rfilename for file in info.siblings or []]
        missing = missing_files(names, openclip, processor=info.library_name != "timm")
        if missing:
            raise ModelUnavailable(
                f"{hub_id} at {revision} lacks {', '.join(missing)}; only safetensors weights "
                "are loaded, because pickled ones can run code",
                fix=f"`hf download {hub_id} --revision {revision} --local-dir DIR`, then "
                "`cas encoders convert DIR --to CONVERTED`, and give CONVERTED as the encoder",
            )
        wanted = _OPENCLIP_FILES if openclip or is_openclip(names) else _TRANSFORMERS_FILES
        directory = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=[*wanted, *_TOKENIZER_FILES, *extra_files],
            etag_timeout=TIMEOUT,
        )
    except ModelUnavailable:
        raise
    except GatedRepoError as error:
        raise ModelUnavailable(
            f"{hub_id} is gated: the hub gives it only to accounts that accepted its licence",
            fix=f"accept the terms at {page}, then `hf auth login`; or "
            f"{_local_copy(hub_id, revision)}",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelUnavailable(
            f"{hub_id} has no revision {revision}", fix="pass revision='main' (--revision main)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(
            f"the hub has no repository {hub_id}, or it is private",
            fix="check the id; for a private one `hf auth login`",
        ) from error
    except Exception as error:
        # The hub's client raises errors of whichever HTTP library it is built on; each means that
        # the files could not be had, and a user can do the same about each.
        raise _NoAnswer(error) from error
    return Snapshot(Path(directory), Path(directory).name)


def _cache_folder(hub_id: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"


def _unavailable(
    hub_id: str, revision: str, reason: str, what: str, instead: str
) -> ModelUnavailable:
    snapshots = _cache_folder(hub_id) / "snapshots"
    held = [path for path in snapshots.glob("*") if path.is_dir()]
    lacking = "configuration, processor, tokenizer and safetensors weights"
    if held:
        lines = [f"{path.name[:12]}: {', '.join(missing_from(path)) or 'nothing'}" for path in held]
        lacking = f"{lacking}; of cached revisions, {'; '.join(lines)}"
    embedded = f"`{instead}` is embedded and needs no download, for trying things out"
    return ModelUnavailable(
        f"cannot load the {what} {hub_id} at revision {revision}\n"
        f"  tried: the cache {snapshots.parent}; https://huggingface.co/{hub_id}: {reason}\n"
        f"  missing: {lacking}",
        fix=f"{_local_copy(hub_id, revision)}. With --offline or HF_HUB_OFFLINE=1 the hub is not "
        f"asked at all. {embedded if instead else ''}".rstrip(". "),
    )


def _local_copy(hub_id: str, revision: str) -> str:
    return (
        "on a machine with a network run "
        f"`hf download {hub_id} --revision {revision} --local-dir DIR`, "
        "copy DIR here and give its path in place of the name"
    )
