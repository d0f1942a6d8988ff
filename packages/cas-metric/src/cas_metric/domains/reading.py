"""YAML with line numbers: text to plain values, and where in the file each of them stands.

No object is ever constructed from the file: the node tree is walked, scalars stay text, and types
are given by the model that reads them. So a class called ``No`` is not the boolean false, and a
tag can do nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from cas_metric.errors import InputError

#: No pack is longer: the largest shipped one has 20 classes and 15 kB.
MAX_BYTES = 1_000_000

#: No file of this package nests deeper than seven levels.
MAX_DEPTH = 20

#: Plain scalars that mean "nothing given", besides the empty one.
_NULLS = {"", "~", "null"}


@dataclass
class Document:
    """Values of a YAML file and the line (from 1) of each, by its path of keys and indices."""

    source: str
    values: Any = None
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def line(self, path: Sequence[str | int]) -> int:
        """Line of the value at ``path``, or of the nearest thing around it that the file holds."""
        for end in range(len(path), -1, -1):
            if tuple(path[:end]) in self.lines:
                return self.lines[tuple(path[:end])]
        return 1

    def error(self, path: Sequence[str | int], problem: str, fix: str = "") -> InputError:
        """An error that names file, line and key."""
        return InputError(f"{self.source}, line {self.line(path)}: {problem}", fix=fix)


def parse_yaml(text: str, source: str) -> Document:
    """Parse one YAML document.

    Args:
        text: The document.
        source: Name of the file, for messages.

    Raises:
        InputError: Not YAML, more than one document, a repeated key, a tag or an alias. The
            message names the line.
    """
    document = Document(source)
    try:
        _check_events(text, source)
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None:
            document.values = _convert(root, (), document)
    except yaml.MarkedYAMLError as error:
        where = _line(error.problem_mark or error.context_mark)
        raise InputError(
            f"{source}{where}: not valid YAML: {error.problem or error.context}",
            fix="check indentation, quotes and colons there; text that holds ': ' needs quotes",
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {error}") from None
    return document


def _line(mark: Any) -> str:
    """``, line 7`` for a mark of PyYAML, which may be None."""
    return f", line {mark.line + 1}" if mark else ""


def _check_events(text: str, source: str) -> None:
    """Refuse what a small file could use to become a huge one: aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(
                f"{source}{_line(event.start_mark)}: a YAML alias (*name) is not allowed",
                fix="write the text out where it is needed",
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(
                f"{source}{_line(event.start_mark)}: nested more than {MAX_DEPTH} deep",
                fix="check the brackets and the indentation there",
            )


def _convert(node: yaml.Node, path: tuple[str | int, ...], document: Document) -> Any:
    document.lines[path] = node.start_mark.line + 1
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.count("/"):
        raise document.error(path, f"the tag {node.tag} is not allowed", "write plain text")
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*path, i), document) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return None if _is_null(node) else node.value


def _is_null(node: yaml.ScalarNode) -> bool:
    """Whether a scalar stands for nothing: quoted or block text never does."""
    return node.style is None and node.value.lower() in _NULLS


def _convert_mapping(
    node: yaml.MappingNode, path: tuple[str | int, ...], document: Document
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            document.lines[path] = key_node.start_mark.line + 1
            raise document.error(path, "a key must be text")
        key = key_node.value
        line = key_node.start_mark.line + 1
        if key in values:
            first = document.lines[(*path, key)]
            document.lines[(*path, key)] = line
            raise document.error(
                (*path, key),
                f"the key {key!r} is already given in line {first}",
                "remove one of the two",
            )
        values[key] = _convert(value_node, (*path, key), document)
        document.lines[(*path, key)] = line
    return values


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? `` for the most similar known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""
