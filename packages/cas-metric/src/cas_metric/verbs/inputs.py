"""What verbs share on their way from arguments to images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.errors import InputError
from cas_metric.files import place, title

if TYPE_CHECKING:
    from cas_metric.encoders.deferred import DeferredEncoder
    from cas_metric.manifest import Manifest
    from cas_metric.manifest.sources import Source
    from cas_metric.runs import Run
    from cas_metric.runs.folder import Origin


def named_path(argument: str) -> tuple[str, Path]:
    """``NAME=PATH``, or a path, whose own name is then taken."""
    name, path = split_name(argument)
    return name or path_name(path), path


def split_name(argument: str) -> tuple[str, Path]:
    """The name of ``NAME=PATH``, empty without one, and the path; both may be addresses.

    A path that exists, and the query of a URL, may hold an equals sign themselves.
    """
    name, equals, path = argument.partition("=")
    if not equals or "://" in name or Path(argument).exists():
        return "", place(argument)
    return name, place(path)


def path_name(path: Path) -> str:
    """The name of a folder, or of a table without its ending; that of its folder for metadata."""
    from cas_metric.manifest.rows import absolute

    path = absolute(path)  # gen/.. has a name of its own
    if path.is_dir():
        return title(path)
    return title(path.parent) if path.stem.lower() == "metadata" else path.stem


def named_manifests(
    sources: Mapping[str, Source] | Iterable[str], *, offline: bool = False
) -> dict[str, Manifest]:
    """Method to its images.

    Args:
        sources: Name to source, or ``PATH`` or ``NAME=PATH`` each.
        offline: Never use the network.

    Raises:
        InputError: Two methods have one name, or a source cannot be read.
    """
    from cas_metric.manifest.sources import as_manifest

    if isinstance(sources, Mapping):
        return {str(name): as_manifest(source, offline=offline) for name, source in sources.items()}
    found: dict[str, Manifest] = {}
    for argument in sources:
        name, path = named_path(str(argument))
        if name in found:
            raise InputError(f"two methods are called {name!r}", fix="name them: NAME=FOLDER")
        found[name] = as_manifest(path, offline=offline)
    return found


def short_name(source: Source, manifest: Manifest) -> str:
    """What a folder of results is named after: the path that was given, else the images' folder."""
    if isinstance(source, str | os.PathLike):
        return path_name(place(source))
    return title(manifest.root.absolute())


def made_of(verb: str, sources: Sequence[str], mllm: str, **choice: Any) -> Origin:
    """What a language model's answers about ``PATH`` or ``NAME=PATH`` each are made from."""
    from cas_metric.runs.folder import Origin

    paths = [split_name(source)[1] for source in sources]
    return Origin.of_verb(verb, {"sources": paths}, mllm=mllm, **choice)


def load_run(source: str | Path | Run) -> Run:
    """The run, read where a folder is given."""
    from cas_metric.runs import Run

    return source if isinstance(source, Run) else Run.load(source)


def run_name(run: Run) -> str:
    """Where a run lies."""
    return str(run.path) if run.path is not None else "a run in memory"


def run_warnings(runs: Iterable[Run]) -> list[str]:
    """What runs warn of, each once; with their names where it holds for some of them alone."""
    different = {run.path or id(run): run for run in runs}
    told: dict[str, list[str]] = {}
    for run in different.values():
        for warning in run.summary.get("warnings") or ():
            told.setdefault(str(warning), []).append(run_name(run))
    return [
        warning if len(names) == len(different) else f"{', '.join(names)}: {warning}"
        for warning, names in told.items()
    ]


def run_encoder(run: Run, given: str | Path | None, device: str, offline: bool) -> DeferredEncoder:
    """The encoder that a run was scored by, and no other."""
    from cas_metric.encoders import open_encoder

    stated = run.summary["encoder"]
    opened = open_encoder(
        given or stated["name"],
        device=device,
        offline=offline,
        dtype=stated.get("dtype", "float32"),
        text_policy=stated.get("text_policy", "truncate"),
    )
    if opened.fingerprint != stated["fingerprint"]:
        raise InputError(
            f"{opened.name} is not the encoder that the run was scored by ({stated['name']})",
            fix="name that one with --encoder, or score again",
        )
    return opened


def domain_of(*manifests: Manifest | None) -> str:
    """The domain that the first ``cas.yaml`` names; empty without one."""
    configs = (manifest.config for manifest in manifests if manifest is not None)
    return next((config.domain for config in configs if config and config.domain), "")


def domain_title(domain: str) -> str:
    """The name of a domain for people: of a pack in a file, without where it lies.

    Examples:
        >>> domain_title("packs/skin.yaml"), domain_title("phantom-chexpert")
        ('skin', 'phantom-chexpert')
    """
    return Path(domain).stem if domain.endswith((".yaml", ".yml")) else domain


def failure_list(errors: Mapping[str, str]) -> list[dict[str, str]]:
    """Unreadable images as a summary lists them."""
    return [{"image": path, "error": why} for path, why in sorted(errors.items())]
