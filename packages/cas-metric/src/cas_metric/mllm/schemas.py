"""JSON schemas as structured output wants them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

#: Keywords that say nothing to a model, or that strict modes refuse.
_DROPPED: Final = ("title", "default", "examples")


def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model with closed objects whose keys must all be given.

    That is the form that strict structured output asks for; a key that may be left out becomes one
    that may be null only if its type says so. See
    https://platform.openai.com/docs/guides/structured-outputs.
    """
    return _closed(schema.model_json_schema())


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(item) for key, item in node.items() if key not in _DROPPED}
    for container in ("properties", "$defs"):  # their keys are names, not keywords
        if isinstance(node.get(container), dict):
            closed[container] = {name: _closed(item) for name, item in node[container].items()}
    if isinstance(node.get("properties"), dict):
        closed["required"] = list(node["properties"])
        closed["additionalProperties"] = False
    return closed
