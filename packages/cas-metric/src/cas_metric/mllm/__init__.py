"""Asking multimodal language models for answers of a fixed form.

Every question ends in exactly one :class:`Answer`: accepted, or listed with the reason. Answers
are kept by content, so that a killed run never pays twice.

    model = open_model("openai:gpt-4o")
    with AnswerCache() as cache:
        answers = answer_all(requests, model, cache=cache)
"""

from cas_metric.mllm.answering import answer_all
from cas_metric.mllm.cache import AnswerCache
from cas_metric.mllm.endpoint import Settings
from cas_metric.mllm.opening import open_model
from cas_metric.mllm.types import (
    Answer,
    Conversation,
    Model,
    NoAnswer,
    Options,
    Outcome,
    Price,
    Reply,
    Request,
    Usage,
    usage_of,
)

__all__ = [
    "Answer",
    "AnswerCache",
    "Conversation",
    "Model",
    "NoAnswer",
    "Options",
    "Outcome",
    "Price",
    "Reply",
    "Request",
    "Settings",
    "Usage",
    "answer_all",
    "open_model",
    "usage_of",
]
