"""What works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from cas_metric.errors import CasError
from cas_metric.verbs.result import Result


def doctor(cache: str | None = None) -> Result:
    """Versions, devices, the embedding cache, optional packages, and encoders that are at hand.

    Nothing is loaded, downloaded or changed.

    Args:
        cache: Directory of the embedding cache; by default the usual one.

    Examples:
        >>> doctor().summary["encoders"]["phantom-siglip"]
        'embedded'
    """
    from cas_metric.embedding.cache import NO_CACHE
    from cas_metric.files import cache_directory

    directory = cache_directory() if cache in (None, NO_CACHE) else cache
    findings = {
        "versions": _versions(),
        "devices": _devices(),
        "cache": _cache(str(directory)),
        "extras": _extras(),
        "encoders": _encoders(),
    }
    return Result("doctor", findings, _text(findings))


def _versions() -> dict[str, str]:
    core = sorted(_requirement(line) for line in requires("cas-metric") or [] if ";" not in line)
    found = {"python": platform.python_version(), "cas-metric": version("cas-metric")}
    for name in core:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing: pip install cas-metric again"
    return found


def _requirement(line: str) -> str:
    """The distribution that a requirement such as ``numpy>=2.0`` is about."""
    from packaging.requirements import Requirement

    return Requirement(line).name


def _devices() -> list[str]:
    import torch

    found = [f"cpu ({os.cpu_count()} processors, torch uses {torch.get_num_threads()})"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        found.append(f"cuda:{index} ({properties.name}, {memory:.0f} GiB)")
    if torch.backends.mps.is_available():
        found.append("mps (Apple GPU)")
    return found


def _cache(directory: str) -> dict[str, Any]:
    """Where embeddings are kept; a store is only looked into, never made."""
    from cas_metric.embedding.cache import STORE, EmbeddingCache

    path = Path(directory).expanduser()
    found: dict[str, Any] = {"directory": str(path), "entries": 0, "megabytes": 0.0, "problem": ""}
    found["free_gigabytes"] = round(shutil.disk_usage(_existing(path)).free / 1e9, 1)
    if (path / STORE).is_dir():
        try:
            with EmbeddingCache(path) as cache:
                found["entries"] = len(cache)
                found["megabytes"] = round(cache.size / 1e6, 1)
        except CasError as error:
            found["problem"] = str(error)
    return found


def _existing(path: Path) -> Path:
    """The nearest folder above that exists: what a new one would be made on."""
    while not path.exists():
        path = path.parent
    return path


def _extras() -> dict[str, dict[str, str]]:
    """By extra of cas-metric, its packages and what is installed of them."""
    from packaging.requirements import Requirement

    found: dict[str, dict[str, str]] = {}
    for line in requires("cas-metric") or []:
        requirement = Requirement(line)
        marker = str(requirement.marker or "")
        if "extra ==" not in marker:
            continue
        extra = marker.split("extra ==")[1].strip().strip("\"'")
        try:
            state = version(requirement.name)
        except PackageNotFoundError:
            state = ""
        found.setdefault(extra, {})[requirement.name] = state
    return found


def _encoders() -> dict[str, str]:
    """By alias, whether its files are here: ``embedded``, ``downloaded`` or ``not here``."""
    from cas_metric.encoders.hub import find_cached
    from cas_metric.encoders.registry import list_encoders

    found = {}
    for info in list_encoders():
        if info.embedded:
            found[info.alias] = "embedded"
        elif find_cached(info.hub_id, info.revision) is not None:
            found[info.alias] = "downloaded"
        else:
            found[info.alias] = "not here"
    return found


def _text(findings: Mapping[str, Any]) -> str:
    """A block of lines for each finding."""
    cache = findings["cache"]
    told = (
        f"{cache['directory']}: {cache['entries']} embeddings, {cache['megabytes']} MB; "
        f"{cache['free_gigabytes']} GB free on its disk"
    )
    blocks = {
        "versions": [
            ", ".join(f"{name} {number}" for name, number in findings["versions"].items())
        ],
        "devices": findings["devices"],
        "cache": [line for line in (told, cache["problem"]) if line],
        "extras": [_extra_line(*item) for item in findings["extras"].items()],
        "encoders": [f"{alias}: {state}" for alias, state in findings["encoders"].items()],
    }
    parts = ["\n".join([name, *(f"  {line}" for line in lines)]) for name, lines in blocks.items()]
    if "not here" in findings["encoders"].values():
        parts.append(
            "Encoders that are not here are downloaded on first use; without a network, give "
            "--encoder a local directory in the hub's format."
        )
    return "\n\n".join(parts)


def _extra_line(extra: str, packages: Mapping[str, str]) -> str:
    lacking = [name for name, state in packages.items() if not state]
    if lacking:
        return f"{extra}: pip install 'cas-metric[{extra}]' (lacks {', '.join(lacking)})"
    return f"{extra}: " + ", ".join(f"{name} {state}" for name, state in packages.items())
