"""What is asked about an image, and the prompt that is made of the answer (Appendix B).

The pack's :class:`~cas_metric.domains.PromptSchema` alone says what an answer must be: here it is
put into the forms that a model needs. A label is a value in the system prompt, in quotes; one that
reads like an instruction can persuade a model, but no answer gets past the schema for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, WithJsonSchema, create_model

from cas_metric.domains import PromptField, PromptSchema
from cas_metric.images import Window
from cas_metric.mllm import Request
from cas_metric.mllm.dialect import whole_system

#: What is asked after the image, and without one.
DESCRIBE: Final = "Describe this image."
DESCRIBE_LABEL: Final = "Describe a typical image with this label."


class Description(BaseModel):
    """An answer. Its keys are the fields of the schema; what they hold is judged by the schema."""

    model_config = ConfigDict(extra="allow")


def question(
    key: str,
    label: str,
    schema: PromptSchema,
    image: Path | None,
    *,
    window: Window | None = None,
) -> Request:
    """The question about one image.

    Args:
        key: Of the row.
        label: Canonical class name: the constraint that suppresses diagnoses of the model's own.
        schema: Of the domain.
        image: The file; None asks for a description by the label alone.
        window: For images beyond 8 bits.
    """
    return Request(
        key=key,
        system=schema.instructions(label, shown=image is not None),
        prompt=DESCRIBE_LABEL if image is None else DESCRIBE,
        images=() if image is None else (image,),
        window=window,
        schema=description_model(schema, label),
        check=lambda answer: schema.validate(fields_of(answer), label),
    )


def enriched_prompt(schema: PromptSchema, answer: BaseModel, label: str) -> str:
    """t_ep of an accepted answer: the pack's template, filled in."""
    return schema.render(fields_of(answer), label)


def fields_of(answer: BaseModel) -> dict[str, Any]:
    """The keys that an answer gives. Null is how structured output leaves a key out."""
    return {name: value for name, value in answer.model_dump().items() if value is not None}


def description_model(schema: PromptSchema, label: str) -> type[BaseModel]:
    """A model whose JSON schema holds the closed vocabularies of the class ``label``."""
    fields: dict[str, Any] = {
        field.name: (
            Annotated[Any, WithJsonSchema(_json_schema(field, schema.allowed(field.name, label)))],
            None,
        )
        for field in schema.fields
    }
    return create_model("Description", __base__=Description, **fields)


def digest(questions: Mapping[str, Request]) -> str:
    """sha256, as hex, of everything that is asked for each label: the version of the prompts."""
    return hashlib.sha256(json.dumps(wording(questions), sort_keys=True).encode()).hexdigest()


def wording(questions: Mapping[str, Request]) -> dict[str, Any]:
    """System prompt, prompt and JSON schema by label."""
    return {
        label: {
            "system": whole_system(request),
            "prompt": request.prompt,
            "schema": request.schema.model_json_schema(),
        }
        for label, request in sorted(questions.items())
    }


def _json_schema(field: PromptField, allowed: tuple[str, ...]) -> dict[str, Any]:
    """A field as JSON schema: lists as arrays, so that a server can enforce the vocabulary."""
    word = {"type": "string", "enum": list(allowed)} if allowed else {"type": "string"}
    value: dict[str, Any] = {"type": "array", "items": word} if field.kind == "list" else word
    if not field.required:
        value = {"anyOf": [value, {"type": "null"}]}
    return {**value, "description": field.hint} if field.hint else value
