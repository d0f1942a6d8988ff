"""Pickled checkpoints to directories that load: safetensors beside what came with the pickle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.encoders.hub import missing_from
from cas_metric.encoders.memory import digest_file
from cas_metric.encoders.unpickling import REFUSED
from cas_metric.errors import CasError, InputError, MissingDependency
from cas_metric.files import to_json, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

#: Suffixes of pickled weights.
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt")
#: What is beside the weights: configurations and vocabularies.
_COPIED: Final = (".json", ".txt", ".model")
#: Record of a conversion, in its directory.
RECORD: Final = "conversion.json"
#: Variables that the reader needs; none of them is a secret.
_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "LANG")


@dataclass(frozen=True)
class Conversion:
    """What was made of a pickle.

    Attributes:
        directory: Where it is; a spec of an encoder where nothing is ``missing``.
        sources: sha256 of each pickled file, by name.
        weights: Name of the safetensors file.
        sha256: Of it.
        tensors: How many it holds.
        dropped: Names of entries that were no tensors.
        missing: Files of the checkpoint that an encoder needs beside them: copy them there.
    """

    directory: str
    sources: Mapping[str, str]
    weights: str
    sha256: str
    tensors: int
    dropped: tuple[str, ...]
    missing: tuple[str, ...]


def convert(source: Path, to: Path, *, architecture: str | None = None) -> Conversion:
    """Read pickled weights as tensors only, in a closed-in process, and write safetensors.

    Args:
        source: A file of weights, or a directory with one and its configuration, as
            ``hf download`` makes it.
        to: A directory; made where it does not exist. No weights may be in it.
        architecture: Of timm, for a file without a configuration, e.g.
            ``vit_large_patch14_dinov2``.

    Raises:
        InputError: No pickle there; it wants more than tensors; or ``to`` holds weights already.
        MissingDependency: ``architecture`` without timm.
    """
    pickles = _pickles(source)
    beside = source if source.is_dir() else None
    copied = _beside(beside)
    openclip = any(path.name == "open_clip_config.json" for path in copied)
    weights = to / ("open_clip_model.safetensors" if openclip else "model.safetensors")
    if weights.exists():
        raise InputError(f"{weights} exists", fix="give --to another directory")
    configuration = _timm_configuration(architecture) if architecture else None
    digests = {path.name: digest_file(path, verify=True) for path in pickles}
    report = _read_apart(pickles, weights)
    for path in copied:
        if not (to / path.name).exists():
            shutil.copyfile(path, to / path.name)
    if configuration is not None:
        write_bytes(to / "config.json", to_json(configuration).encode())
    done = Conversion(
        directory=str(to),
        sources=digests,
        weights=weights.name,
        sha256=digest_file(weights, verify=True),
        tensors=report["tensors"],
        dropped=tuple(report["dropped"]),
        missing=tuple(missing_from(to)),
    )
    record = {**asdict(done), "directory": to.name}
    del record["missing"]  # until they are copied
    write_bytes(to / RECORD, to_json(record).encode())
    return done


def tensors_of(source: Path) -> dict[str, Tensor]:
    """Named tensors of one pickled file, read apart as :func:`convert` reads.

    Raises:
        InputError: It wants more than tensors, or is damaged.
    """
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory(prefix="cas-tensors-") as folder:
        weights = Path(folder) / "tensors.safetensors"
        _read_apart([source], weights)
        return load_file(weights)


def _pickles(source: Path) -> list[Path]:
    """The pickled weights of a file or directory; all shards of them."""
    if source.is_file():
        if source.suffix not in PICKLES:
            raise InputError(
                f"{source} is no pickled checkpoint", fix=f"a file ending in {', '.join(PICKLES)}"
            )
        return [source]
    if not source.is_dir():
        raise InputError(f"no such file or directory: {source}", fix="check the path")
    found = sorted(path for path in source.iterdir() if path.suffix in PICKLES and path.is_file())
    shards = [path for path in found if "-of-" in path.name]
    if len(found) != 1 and len(shards) != len(found):
        raise InputError(
            f"{source} holds {len(found)} pickled files: {', '.join(p.name for p in found[:8])}",
            fix="give the file itself",
        )
    if not found:
        raise InputError(f"{source} holds no pickled weights", fix=f"one of {', '.join(PICKLES)}")
    return found


def _beside(directory: Path | None) -> list[Path]:
    """Configuration and vocabulary files; an index of pickled shards is of no use any more."""
    if directory is None:
        return []
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_file() and path.suffix in _COPIED and not path.name.endswith(".index.json")
    ]


def _read_apart(pickles: list[Path], weights: Path) -> dict[str, Any]:
    """Run :mod:`cas_metric.encoders.unpickling`; its report."""
    weights.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=weights.parent) as folder:
        output = Path(folder).resolve() / "tensors"
        command = [sys.executable, "-m", "cas_metric.encoders.unpickling", str(output)]
        done = subprocess.run(  # noqa: S603 - this very interpreter, no shell
            [*command, *(str(path.resolve()) for path in pickles)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=_environment(),
        )
        names = ", ".join(str(path) for path in pickles)
        if done.returncode == REFUSED:
            reason = json.loads(done.stdout.splitlines()[-1])["refused"]
            raise InputError(
                f"{names}: refused, because it holds more than tensors or is damaged: {reason}",
                fix="ask its author for safetensors, or for a file that holds the weights alone",
            )
        if done.returncode != 0:
            raise CasError(
                f"{names}: reading it ended with status {done.returncode}: "
                f"{(done.stderr.strip().splitlines() or ['no message'])[-1]}",
                fix="the file asks for more memory or time than its size explains, or is damaged",
            )
        output.replace(weights)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _environment() -> dict[str, str]:
    """What the reader sees of this process's environment: no token, no proxy."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return {**kept, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _timm_configuration(architecture: str) -> dict[str, Any]:
    """``config.json`` for weights of one of timm's architectures.

    Raises:
        InputError: timm has no such architecture.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingDependency("timm", extra="openclip", purpose="--architecture") from error
    if not timm.is_model(architecture):
        raise InputError(f"timm has no architecture {architecture!r}", fix="see timm.list_models()")
    stated = timm.get_pretrained_cfg(architecture)
    return {
        "architecture": architecture,
        "num_classes": 0,
        "pretrained_cfg": stated.to_dict(remove_source=True) if stated else {},
    }
