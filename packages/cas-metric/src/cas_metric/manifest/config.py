"""``cas.yaml``: what a folder of real images knows about itself.

With it ``cas score gen/ real/`` needs no option: it names the domain, where the probe comes from,
which split this is and how it was made.
"""

from __future__ import annotations

import datetime
import difflib
import json
import os
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cas_metric.errors import InputError
from cas_metric.manifest.text import read_text

CONFIG_NAME: Final = "cas.yaml"


class FolderConfig(BaseModel):
    """The content of a ``cas.yaml``. Paths are absolute here and relative in the file.

    Attributes:
        domain: Name of a domain pack, or the path of one.
        train: Manifest (file or folder) of the real training split, for the probe.
        probe: Saved probe; takes precedence over fitting one on ``train``.
        split: Name of this split, e.g. ``test``.
        root: Folder of the images, where it is not the manifest's own.
        allow_absolute: Whether images may lie outside of ``root``: absolute paths, links.
        provenance: How the folder was made; any JSON value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str | None = None
    train: Path | None = None
    probe: Path | None = None
    split: str | None = None
    root: Path | None = None
    allow_absolute: bool = False
    provenance: dict[str, JsonValue] = {}


#: Fields that hold paths relative to the file.
PATHS: Final = ("train", "probe", "root")


def read_folder_config(folder: str | Path) -> FolderConfig | None:
    """Read the ``cas.yaml`` of a folder; None where there is none.

    Raises:
        InputError: It is no YAML mapping, or has an unknown key or a value of the wrong type. The
            message gives the line.
    """
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        return None
    data, lines = _load_yaml(path)
    try:
        config = FolderConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(path, error, lines) from error
    return _map_paths(config, lambda value: (path.parent / value).resolve())


def write_folder_config(folder: str | Path, config: FolderConfig) -> Path:
    """Write ``config`` as the ``cas.yaml`` of ``folder``, with relative paths.

    Returns:
        The path of the file.
    """
    path = Path(folder) / CONFIG_NAME
    base = path.parent.resolve()
    relative = _map_paths(config, lambda value: _relative(value, base))
    content = relative.model_dump(mode="json", exclude_defaults=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _relative(value: Path, base: Path) -> Path:
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


def _load_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file, and the line of each of its keys."""
    text = read_text(path)
    fix = "see the documentation of cas.yaml; every `cas datasets` verb writes one"
    try:
        if any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{path}: YAML aliases are not read", fix="write the value out")
        node = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not readable as YAML: {error.problem}", fix=fix) from error
    except InputError:
        raise
    except Exception as error:  # explicit tags such as "!!int x" raise nearly anything
        cause = str(error).split("\n")[0]
        raise InputError(f"{path}: not readable as YAML: {cause}", fix=fix) from error
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: does not hold `key: value` lines", fix=fix)
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if key.value in lines:
            line = key.start_mark.line + 1
            raise InputError(f"{path}, line {line}: {key.value!r} is given twice", fix="keep one")
        lines[key.value] = key.start_mark.line + 1
    return _plain(path, data), lines


def _plain(path: Path, data: dict[Any, Any]) -> dict[str, Any]:
    """YAML's dates as text; text that no file can hold refused."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item) for item in value]
        return value.isoformat() if isinstance(value, datetime.date) else value

    plain = convert(data)
    try:
        json.dumps(plain, ensure_ascii=False, default=repr).encode()
    except (UnicodeEncodeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}", fix="use plain text and numbers") from error
    return plain


def _explain(path: Path, error: ValidationError, lines: dict[str, int]) -> InputError:
    """The first complaint of pydantic, with the line and the nearest known key."""
    detail = error.errors()[0]
    key = str(detail["loc"][0]) if detail["loc"] else ""
    where = f"{path}, line {lines[key]}" if key in lines else str(path)
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        known = list(FolderConfig.model_fields)
        near = difflib.get_close_matches(key, known, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return InputError(f"{where}: unknown key {key!r}", fix=fix)
    return InputError(f"{where}: {key}: {detail['msg']}", fix="correct the value")
