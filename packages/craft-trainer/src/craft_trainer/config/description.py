"""What can be configured: a JSON schema, and a commented file to begin with.

What a key means is said once, in the ``Attributes`` of its section's docstring.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from cas_metric.errors import InputError
from cas_metric.files import to_json, write_bytes
from craft_trainer.config.schema import Config, parse_config
from craft_trainer.config.stage import Section, method_names, stage_class

#: Name of the schema's file beside a configuration, which editors read.
SCHEMA_FILE: Final = "craft-trainer.schema.json"
_WIDTH: Final = 96
_DEFS: Final = "#/$defs/"


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a configuration, with every method that can be used here.

    Examples:
        >>> schema = json_schema()
        >>> schema["properties"]["seed"]["description"]
        'Decides initial weights, order and noise.'
    """
    schema = Config.model_json_schema()
    parts: dict[str, Any] = schema["$defs"]
    stages = [stage_class(name) for name in method_names()]
    for stage in stages:
        own = stage.model_json_schema()
        parts |= own.pop("$defs", {})
        parts[stage.__name__] = own
    del parts["Stage"]
    schema["properties"]["stages"]["items"] = {
        "oneOf": [{"$ref": _DEFS + stage.__name__} for stage in stages]
    }
    known = {one.__name__: one for one in _sections(Section)}
    for name, part in [("Config", schema), *parts.items()]:
        if name in known:
            _describe(part, known[name])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    for below in section.__subclasses__():
        yield below
        yield from _sections(below)


def _describe(part: dict[str, Any], section: type[BaseModel]) -> None:
    meant = descriptions(section)
    part["description"] = inspect.cleandoc(section.__doc__ or "").split("\n")[0]
    for name, field in part["properties"].items():
        field["description"] = meant.get(name, "")
        if "$ref" in field:  # what stands beside it would hide what it names, in some editors
            field["allOf"] = [{"$ref": field.pop("$ref")}]


def descriptions(section: type[BaseModel]) -> dict[str, str]:
    """Key to its meaning, by the docstrings of a section and of the sections that it extends.

    Examples:
        >>> from craft_trainer.config.sections import Sampling
        >>> descriptions(Sampling)["steps"]
        'T, steps of a trajectory.'
    """
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        _, _, listed = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")
        listed = listed.split("\n\n")[0]
        for name, text in re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", listed, re.M | re.S):
            found[name] = " ".join(text.replace("``", "`").split())
    return found


def commented(values: Mapping[str, Any]) -> str:
    r"""A configuration with every key: those that are given, and the others as comments.

    Args:
        values: Of a configuration.

    Returns:
        YAML, whose first line names the schema for editors.

    Raises:
        InputError: The values are no configuration.

    Examples:
        >>> values = {"output": "runs/a", "base": "phantom-sd", "data": {"train": "data/train"}}
        >>> text = commented({**values, "stages": [{"method": "lora", "epochs": 10}]})
        >>> "# Decides initial weights, order and noise." in text, "\n# seed: 42" in text
        (True, True)
    """
    parse_config(values)
    head = [
        f"# yaml-language-server: $schema=./{SCHEMA_FILE}",
        "# Every key there is; one that is commented out has the value that stands there.",
    ]
    stages = values["stages"]
    own = {name: value for name, value in values.items() if name != "stages"}
    lines = [*head, "", *_lines(Config, own, leave=("stages",)), "", "stages:"]
    for stage in stages:
        first, *rest = _lines(stage_class(stage["method"]), stage, leave=("method",))
        lines += ["", f"  - method: {stage['method']}", *("    " + line for line in (first, *rest))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _lines(
    section: type[BaseModel],
    values: Mapping[str, Any],
    leave: Sequence[str] = (),
    *,
    within: bool = False,
) -> Iterator[str]:
    """Lines of a section; ``within`` one that is a comment as a whole, no key is marked as one."""
    meant = descriptions(section)
    for name, field in section.model_fields.items():
        if name in leave:
            continue
        given, below = name in values, _section_of(field.annotation)
        yield from (f"# {line}" for line in textwrap.wrap(meant.get(name, ""), _WIDTH))
        mark = "" if given or within else "# "
        if below is not None:
            yield f"{mark}{name}:"
            inner = _lines(below, values.get(name) or {}, within=within or not given)
            yield from (f"{mark}  {line}" for line in inner)
            continue
        value = values[name] if given else field.get_default(call_default_factory=True)
        yield f"{mark}{name}: {_inline(value)}"


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, also where it may be left out."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _inline(value: Any) -> str:
    plain = json.loads(json.dumps(value, default=str))
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def beginning(
    methods: Sequence[str], *, base: str, train: str, domain: str | None, output: str
) -> dict[str, Any]:
    """Values of a run to begin with, for methods in their order.

    Examples:
        >>> chosen = ["textual_inversion", "craft"]
        >>> found = beginning(chosen, base="b", train="t", domain=None, output="o")
        >>> found["stages"][1]["prompt"]
        '{token}. {prompt}'
    """
    classes = [stage_class(name) for name in methods]
    learned = any(one.learns == "tokens" for one in classes)
    prompt = "{token}. {prompt}" if learned else "{prompt}"
    stages = [
        {"method": name, **one.first_values}
        | ({} if one.learns == "tokens" else {"prompt": prompt})
        for name, one in zip(methods, classes, strict=True)
    ]
    data = {"train": train} | ({"domain": domain} if domain else {})
    return {"output": output, "base": base, "data": data, "stages": stages}


def write_new(path: Path, values: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write :func:`commented` values, and the schema beside them.

    Raises:
        InputError: The file is there already, or the values are no configuration.

    Examples:
        >>> values = beginning(["lora"], base="b", train="t", domain=None, output="o")
        >>> [file.name for file in write_new(tmp / "run.yaml", values)]
        ['run.yaml', 'craft-trainer.schema.json']
    """
    if path.exists():
        raise InputError(f"{path} is there already", fix="choose another name, or remove it")
    text, schema = commented(values), path.parent / SCHEMA_FILE
    write_bytes(path, text.encode())
    write_bytes(schema, to_json(json_schema()).encode())
    return path, schema
