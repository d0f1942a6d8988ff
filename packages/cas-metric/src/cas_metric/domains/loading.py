"""Finding and reading domain packs: shipped ones, those in the user's directory, and paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cas_metric.domains.model import Domain
from cas_metric.domains.reading import MAX_BYTES, Document, nearest, parse_yaml
from cas_metric.errors import InputError
from cas_metric.files import is_local, place, read_text

_SUFFIXES = (".yaml", ".yml")
#: Entry points by which a package offers packs; each names a package that holds YAML files.
ENTRY_POINTS = "cas_metric.domains"

#: Keys below which the user chooses the keys.
_FREE_KEYS = ("checklist", "criteria", "labels", "values")


@dataclass(frozen=True)
class DomainSummary:
    """One line of ``cas domains list``.

    Attributes:
        name: Name by which commands call the pack (for a broken one: the file's stem).
        title: Name for people.
        modality: Kind of image.
        classes: Number of classes.
        embedded: Whether its images are phantoms.
        origin: ``shipped``, ``user``, or the package that brings it.
        path: The file.
        problem: Why it cannot be used; empty for a good pack.

    Examples:
        >>> next(one for one in list_domains() if one.name == "phantom-chexpert").embedded
        True
    """

    name: str
    title: str
    modality: str
    classes: int
    embedded: bool
    origin: str
    path: Path
    problem: str = ""


def user_directory() -> Path:
    """Where a user keeps packs of their own.

    ``$CAS_DOMAINS``, else ``$XDG_CONFIG_HOME/cas/domains``, else ``~/.config/cas/domains``.
    """
    if chosen := os.environ.get("CAS_DOMAINS"):
        return Path(chosen).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "cas" / "domains"


def load_domain(spec: str | Path, *, offline: bool = False) -> Domain:
    """Read a domain pack.

    Args:
        spec: Name of a shipped pack, of one in :func:`user_directory` or of one that a package
            offers by an entry point of the group ``cas_metric.domains``, or the path of a
            ``.yaml`` file.
        offline: Whether URLs are refused.

    Raises:
        InputError: Unknown name, or a file that is no valid pack; names line and fix.

    Examples:
        >>> load_domain("chexpert").checklist_items("cardiomegaly")[0]
        'Location: Central chest (Mediastinum/Heart)'
    """
    return _read(find_pack(spec, offline=offline))


def pack_file(spec: str | Path | Domain | None) -> str:
    """Absolute path, or address, of a pack that is given by its file; empty for any other.

    Examples:
        >>> pack_file("chexpert"), Path(pack_file("packs/skin.yaml")).is_absolute()
        ('', True)
    """
    if not isinstance(spec, str | Path) or not _names_file(spec):
        return ""
    path = place(spec)
    return str(path.expanduser().resolve() if is_local(path) else path)


def _names_file(spec: str | Path) -> bool:
    return isinstance(spec, Path) or spec.endswith(_SUFFIXES) or os.sep in spec


def find_pack(spec: str | Path, *, offline: bool = False) -> Path:
    """File of the pack that ``spec`` means, whether or not it is valid.

    Raises:
        InputError: No pack has that name, or two have.
    """
    text = str(spec)
    if _names_file(spec):
        path = place(text, offline=offline).expanduser()
        if not path.is_file():
            raise InputError(
                f"the domain pack {path} does not exist",
                fix="'cas domains new NAME' writes a template; 'cas domains list' shows the others",
            )
        return path
    # Packages are asked last: it takes a while to go through all that is installed.
    named = [path for _, path in _packs() if path.stem == text]
    named = named or [path for _, path in _installed_packs() if path.stem == text]
    if len(named) > 1:
        raise InputError(
            f"two packs are called {text!r}: {named[0]} and {named[1]}",
            fix="rename yours, or pass its path",
        )
    if not named:
        known = [path.stem for _, path in (*_packs(), *_installed_packs())]
        raise InputError(
            f"there is no domain called {text!r}",
            fix=f"{nearest(text, known)}known: {', '.join(known)}; "
            f"a pack of your own is found by its path or in {user_directory()}",
        )
    return named[0]


def list_domains() -> list[DomainSummary]:
    """Every pack that can be called by name; a broken one is listed with its problem.

    Examples:
        >>> [one.name for one in list_domains() if one.origin == "shipped" and not one.embedded]
        ['breakhis', 'chexpert', 'fitzpatrick17k', 'origa']
    """
    return [_summary(origin, path) for origin, path in (*_packs(), *_installed_packs())]


def parse_domain(text: str, source: str = "domain pack") -> Domain:
    """Check the text of a pack.

    Args:
        text: YAML.
        source: Name of the file, for messages.

    Raises:
        InputError: Every problem found, each with its line.

    Examples:
        >>> text = "{name: mine, title: Mine, modality: film, classes: [{name: a}, {name: b}]}"
        >>> parse_domain(text).class_names
        ('a', 'b')
    """
    document = parse_yaml(text, source)
    if not isinstance(document.values, dict):
        raise InputError(
            f"{source} holds no keys, so it is no domain pack",
            fix="'cas domains new NAME' writes a template",
        )
    try:
        return Domain.model_validate(_without_nulls(document.values))
    except ValidationError as error:
        problems = sorted(set(_problems(document, error)))
    raise InputError(
        "\n".join(
            [f"{source} is no valid domain pack:", *(f"  line {n}: {text}" for n, text in problems)]
        ),
        fix="'cas domains show chexpert --yaml' prints a complete example",
    )


def _read(path: Path) -> Domain:
    domain = parse_domain(read_text(path, limit=MAX_BYTES), str(path))
    if path.parent in (_shipped_directory(), user_directory()) and domain.name != path.stem:
        raise InputError(
            f"{path} calls itself {domain.name!r}",
            fix=f"name the file {domain.name}.yaml, or set name: {path.stem}",
        )
    return domain


def _shipped_directory() -> Path:
    return Path(str(resources.files("cas_metric.domains"))) / "packs"


def _packs() -> Iterator[tuple[str, Path]]:
    for origin, directory in (("shipped", _shipped_directory()), ("user", user_directory())):
        yield from ((origin, path) for path in _pack_files(directory))


def _installed_packs() -> Iterator[tuple[str, Path]]:
    """Packs of other packages; a package that cannot be imported offers none."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            directory = Path(str(resources.files(import_module(point.module))))
        except ImportError:
            continue
        origin = point.dist.name if point.dist else point.module
        yield from ((origin, path) for path in _pack_files(directory))


def _pack_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return [p for p in sorted(directory.iterdir()) if p.suffix in _SUFFIXES and p.is_file()]


def _summary(origin: str, path: Path) -> DomainSummary:
    try:
        domain = _read(path)
    except InputError as error:
        return DomainSummary(path.stem, "", "", 0, False, origin, path, error.problem)
    return DomainSummary(
        domain.name,
        domain.title,
        domain.modality,
        len(domain.classes),
        domain.embedded,
        origin,
        path,
    )


def _without_nulls(values: Any, *, free: bool = False) -> Any:
    """The same values without the keys that were left empty, so that defaults hold.

    Args:
        values: Content of a pack.
        free: Whether the keys are the user's own (attributes, labels). Those are never dropped: an
            attribute without its description is a mistake.
    """
    if isinstance(values, dict):
        return {
            key: _without_nulls(item, free=not free and key in _FREE_KEYS)
            for key, item in values.items()
            if free or item is not None
        }
    if isinstance(values, list):
        return [_without_nulls(item) for item in values]
    return "" if values is None else values


def _problems(document: Document, error: ValidationError) -> Iterator[tuple[int, str]]:
    found = [
        (tuple(part for part in item["loc"] if part != "[key]"), item["type"], item["msg"])
        for item in error.errors()
    ]
    for path, kind, message in found:
        inside = any(len(other) > len(path) and other[: len(path)] == path for other, *_ in found)
        # Pydantic counts only the valid entries of a list: "too few" then says nothing new.
        if not (kind == "too_short" and inside):
            yield document.line(path), _explain(path, kind, message)


def _explain(path: Sequence[str | int], kind: str, message: str) -> str:
    """One validation error in the words of the file, not of the library that found it."""
    key = str(path[-1]) if path else "the file"
    where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in path)
    if kind == "extra_forbidden":
        known = _model_at(path[:-1]).model_fields
        return f"unknown key {key!r}: {nearest(key, known)}known keys: {', '.join(known)}"
    if kind == "model_type":
        keys = ", ".join(_model_at(path).model_fields)
        return f"{where} must hold keys, such as {keys}"
    if kind == "too_short":  # "Tuple should have at least 2 items after validation, not 1"
        least = message[message.index("at least") :].replace(" items after validation", "")
        return f"{where} lists too few: {least}"
    words = {
        "missing": f"{where} is missing",
        "string_type": f"{where} must be text",
        "string_too_short": f"{where} is empty",
        "tuple_type": f"{where} must be a list",
        "dict_type": f"{where} must hold keys with a text each",
        "string_pattern_mismatch": f"{where} may hold lower-case letters, digits, dots and hyphens",
    }
    return words.get(kind, f"{where}: {message.removeprefix('Value error, ')}")


def _model_at(path: Sequence[str | int]) -> type[BaseModel]:
    """The model that describes the part of a pack at ``path``."""
    model: type[BaseModel] = Domain
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _inner_model(model.model_fields[part].annotation) or model
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_inner_model, get_args(annotation))), None)
