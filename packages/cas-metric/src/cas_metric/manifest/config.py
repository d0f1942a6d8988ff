"""``cas.yaml``: what a folder of real images knows about itself.

With it ``cas score gen/ real/`` needs no option: it names the domain, where the probe comes from,
which split this is and how it was made.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FiniteFloat,
    JsonValue,
    ValidationError,
)

from cas_metric.domains.reading import Document, nearest, parse_yaml
from cas_metric.errors import InputError
from cas_metric.files import is_local, place, read_text, write_bytes

CONFIG_NAME: Final = "cas.yaml"


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError("the first number must be below the second")
    return bounds


def _no_truth(value: Any) -> Any:
    """Python takes YAML's ``yes`` and ``true`` for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is expected; yes, no, true and false are none")
    return value


Bound = Annotated[FiniteFloat, BeforeValidator(_no_truth)]


class FolderConfig(BaseModel):
    """The content of a ``cas.yaml``. Paths are absolute here and relative in the file.

    Attributes:
        domain: Name of a domain pack, or the path of one.
        train: Manifest (file or folder) of the real training split, for the probe.
        probe: Saved probe; takes precedence over fitting one on ``train``.
        split: Name of this split, e.g. ``test``.
        root: Folder of the images, where it is not the manifest's own.
        allow_absolute: Says that images lie outside of ``root``. It grants nothing: a folder that
            came from elsewhere must not open the reader's own files to itself. The caller does,
            by ``--allow-root`` or ``allowed_roots``.
        window: Lowest and highest value to show, for images whose values have no fixed range
            (float, deep DICOM without a window of its own). It applies to every image.
        provenance: How the folder was made; any JSON value.

    Examples:
        >>> config = read_folder_config("demo/real/test")
        >>> config.domain, config.split, config.train.name
        ('phantom-chexpert', 'test', 'train')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str | None = None
    train: Path | None = None
    probe: Path | None = None
    split: str | None = None
    root: Path | None = None
    allow_absolute: bool = False
    window: Annotated[tuple[Bound, Bound], AfterValidator(_ascending)] | None = None
    provenance: dict[str, JsonValue] = {}


#: Fields that hold paths relative to the file.
PATHS: Final = ("train", "probe", "root")


def read_folder_config(folder: str | Path, *, offline: bool = False) -> FolderConfig | None:
    """Read the ``cas.yaml`` of a folder; None where there is none.

    Args:
        folder: Where it lies.
        offline: Whether URLs in it are refused.

    Raises:
        InputError: It is no YAML mapping, or has an unknown key or a value of the wrong type, with
            the line; or it names a URL that may not be read.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = write_folder_config(folder, FolderConfig(domain="chexpert", split="test"))
        >>> read_folder_config(folder).domain
        'chexpert'
    """
    path = place(folder) / CONFIG_NAME
    if not path.is_file():
        return None
    values, document = _load_yaml(path)
    try:
        config = FolderConfig.model_validate(values)
    except ValidationError as error:
        raise _explain(error, document) from error
    try:
        if config.domain and ":/" in config.domain:
            place(config.domain, offline=offline, foreign=True)
        return _map_paths(config, lambda value: _resolved(path.parent, value, offline))
    except InputError as error:
        raise InputError(f"{path}: {error.problem}", fix=error.fix) from error


def write_folder_config(folder: str | Path, config: FolderConfig) -> Path:
    """Write ``config`` as the ``cas.yaml`` of ``folder``, with relative paths.

    Returns:
        The path of the file.

    Examples:
        >>> folder = Path("mine")
        >>> folder.mkdir()
        >>> config = FolderConfig(domain="chexpert", train=folder / "train")
        >>> write_folder_config(folder, config).read_text().splitlines()
        ['domain: chexpert', 'train: train']
    """
    path = Path(folder) / CONFIG_NAME
    base = path.parent.resolve()
    relative = _map_paths(config, lambda value: _relative(value, base))
    content = relative.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_bytes(path, text.encode())
    return path


def _resolved(folder: Path, value: Path, offline: bool) -> Path:
    """A path of a cas.yaml: a URL, or relative to its folder; an archive counts as its folder."""
    elsewhere = place(value, offline=offline, foreign=True)
    if not is_local(elsewhere):
        return elsewhere
    if is_local(folder):
        return (folder / value).resolve()
    start, mark, rest = str(folder).rpartition("://")
    joined = start + mark + posixpath.normpath(posixpath.join(rest, value.as_posix()))
    return place(joined, offline=offline, foreign=True)


def _relative(value: Path, base: Path) -> Path:
    if not is_local(value):
        return value
    try:
        return Path(Path(os.path.relpath(value, base)).as_posix())
    except ValueError:  # another drive
        return value


def _map_paths(config: FolderConfig, change: Any) -> FolderConfig:
    """Apply ``change`` to every path of ``config``; a domain counts when it names a file."""
    update: dict[str, Any] = {
        name: change(value) for name in PATHS if (value := getattr(config, name)) is not None
    }
    if config.domain and config.domain.endswith((".yaml", ".yml")):
        update["domain"] = str(change(Path(config.domain)))
    return config.model_copy(update=update)


def _load_yaml(path: Path) -> tuple[Any, Document]:
    """The values in a YAML file, and where they stand.

    ``parse_yaml`` refuses repeated keys, aliases and foreign tags, and leaves every value as text,
    which the fields turn into what they are. Provenance has no fields: its numbers and truth values
    are those of :class:`_JsonLoader`.
    """
    text = read_text(path)
    document = parse_yaml(text, str(path))
    try:
        typed = yaml.load(text, _JsonLoader)  # noqa: S506 - a SafeLoader
        json.dumps(typed, ensure_ascii=False, default=repr).encode()
    except Exception as error:  # explicit tags such as "!!int x" raise nearly anything
        cause = str(error).split("\n")[0]
        raise InputError(f"{path}: a value cannot be read: {cause}", fix="quote it") from error
    values = document.values
    if isinstance(values, dict) and "provenance" in values:
        values = values | {"provenance": typed["provenance"]}
    return values, document


class _JsonLoader(yaml.SafeLoader):
    """Values that JSON has, in the forms that it shares with YAML 1.1; all else is text.

    A date stays what was written, as do the site ``010``, the time ``1:30`` and the answer ``no``,
    which YAML 1.1 takes for 8, 90 and false. A form that YAML 1.1 lacks, such as ``1e-4``, is one
    that the writer sees no need to quote in a text.
    """


_JsonLoader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("null", "|~|null", ("~", "n", "")),
    ("bool", "true|false", "tf"),
    ("int", "-?(0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+][0-9]+)?|-?\.inf|\.nan", "-.0123456789"),
):
    _JsonLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"({_form})\\Z"), list(_first)
    )


def _explain(error: ValidationError, document: Document) -> InputError:
    """The first complaint of pydantic, with its line and the nearest known key."""
    detail = error.errors()[0]
    location = detail["loc"]
    if not location:
        return document.error((), "does not hold `key: value` lines", "see `cas datasets --help`")
    key = str(location[0])
    if detail["type"] == "extra_forbidden":
        known = list(FolderConfig.model_fields)
        fix = nearest(key, known) or f"known keys: {', '.join(known)}"
        return document.error(location, f"unknown key {key!r}", fix.strip())
    where = ".".join(str(part) for part in location)
    return document.error(location, f"{where}: {detail['msg']}", "correct the value")
