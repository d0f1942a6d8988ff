"""Whom to ask, and how: from a spec and its settings to answers and what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cas_metric.errors import InputError
from cas_metric.mllm.answering import answer_all
from cas_metric.mllm.cache import AnswerCache
from cas_metric.mllm.endpoint import Settings
from cas_metric.mllm.opening import open_model
from cas_metric.mllm.types import Answer, Options, Price, Request, usage_of


@dataclass(frozen=True)
class Asking:
    """Whom to ask, and how.

    Attributes:
        spec: The model, as :func:`cas_metric.mllm.open_model` takes it.
        base_url: Address of its server, in place of the environment's.
        concurrency: Questions in flight at once.
        requests_per_minute: Most questions begun in a minute.
        repairs: How often an answer of the wrong form is sent back.
        retries: How often a call is repeated that got no answer.
        timeout: Seconds for one answer of a server.
        max_tokens: Longest answer.
        temperature: 0 takes the most likely answer.
        longest_side: Larger images are scaled down to this many pixels.
        ask_again: Put questions again whose cached answers were no use.
        cache: Directory of the answers, or ``none``.
        device: Of a local model.
        dtype: Of a local model.
        offline: Never ask the hub for a local model.
        price_in: Price of a million input tokens, where it is known.
        price_out: The same of output tokens.

    Raises:
        InputError: One price of two is given.
    """

    spec: str
    base_url: str | None = None
    concurrency: int = 4
    requests_per_minute: float | None = None
    repairs: int = 2
    retries: int = 5
    timeout: float = 120.0
    max_tokens: int = 1024
    temperature: float = 0.0
    longest_side: int = 1024
    ask_again: bool = False
    cache: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        if (self.price_in is None) != (self.price_out is None):
            raise InputError(
                "one price of two is given", fix="give both --price-in and --price-out"
            )

    @property
    def price(self) -> Price | None:
        """What tokens cost; None where it is not known."""
        if self.price_in is None or self.price_out is None:
            return None
        return Price(self.price_in, self.price_out)


@dataclass(frozen=True)
class Asked:
    """Answers, who gave them, and what that took.

    Attributes:
        answers: One a request, in order.
        model: Identity of the model.
        notes: What the model's server did not take.
        timing: Seconds, calls, tokens and what they cost; differs from run to run.
    """

    answers: Sequence[Answer]
    model: dict[str, Any]
    notes: tuple[str, ...]
    timing: dict[str, Any]


def put_questions(
    requests: Sequence[Request], asking: Asking, progress: Callable[[int, int], None] | None = None
) -> Asked:
    """Put all questions and count what was paid.

    Args:
        requests: The questions.
        asking: Whom to ask.
        progress: Told after every answer.

    Raises:
        CasError: See :func:`cas_metric.mllm.answer_all` and :func:`cas_metric.mllm.open_model`.
    """
    started = time.perf_counter()
    options = Options(
        repairs=asking.repairs,
        retries=asking.retries,
        concurrency=asking.concurrency,
        requests_per_minute=asking.requests_per_minute,
        ask_again=asking.ask_again,
    )
    # Where answers cannot be kept, no model has to be opened.
    with AnswerCache(asking.cache) as cache:
        model = open_model(
            asking.spec,
            Settings(
                temperature=asking.temperature,
                max_tokens=asking.max_tokens,
                longest_side=asking.longest_side,
                timeout=asking.timeout,
            ),
            base_url=asking.base_url,
            device=asking.device,
            dtype=asking.dtype,
            offline=asking.offline,
        )
        answers = answer_all(requests, model, cache=cache, options=options, progress=progress)
    notes = tuple(getattr(model, "notes", ()))
    usage = usage_of(answers)
    timing = {
        "seconds": round(time.perf_counter() - started, 3),
        "questions": len(answers),
        "from_cache": sum(answer.cached for answer in answers),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost": asking.price.of(usage) if asking.price else None,
    }
    identity = {"spec": asking.spec, **model.identity}
    return Asked(answers, identity, notes, timing)
