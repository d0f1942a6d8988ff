"""Asking multimodal language models for answers of a fixed form.

Every question ends in exactly one :class:`Answer`: accepted, or listed with the reason. Answers
are kept by content, so that a killed run never pays twice.

    model = open_model("openai:gpt-4o")
    with AnswerCache() as cache:
        answers = answer_all(requests, model, cache=cache)
"""

from cas_metric.mllm.types import (
    Answer,
    Conversation,
    Model,
    NoAnswer,
    Options,
    Reply,
    Request,
    Usage,
    usage_of,
)

__all__ = [
    "Answer",
    "Conversation",
    "Model",
    "NoAnswer",
    "Options",
    "Reply",
    "Request",
    "Usage",
    "usage_of",
]
