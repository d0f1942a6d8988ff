"""Questions to a multimodal language model, its answers, and what can give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from cas_metric.errors import CasError
from cas_metric.images import Window

#: ``accepted``: passed the schema and the check. ``rejected``: the model answered, but never so
#: that it passed. ``refused``: the model declined. ``failed``: no answer came, or an image of the
#: question cannot be read.
Outcome = Literal["accepted", "rejected", "refused", "failed"]

#: Called with how many questions are done, and of how many.
ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question.

    Attributes:
        key: The caller's name for it; :class:`Answer` carries it back.
        system: System prompt.
        prompt: What is asked, after the images.
        schema: What the answer must be. Its JSON schema goes to the model.
        images: Files in the order in which the model sees them. Only pixels are sent, never a
            file's name or metadata.
        captions: One text before each image, e.g. ``Candidate A:``; or none.
        check: Lists what is wrong with an answer of the right form: a closed vocabulary, a word
            limit. The complaints go back to the model. It is no part of the cache's key.
        window: Range of stored values to show of images beyond 8 bits.
        yes_no: Whether the answer is one word, yes or no, and its probability is wanted; see
            :mod:`cas_metric.mllm.yes_no`. The schema is then that of the value.
    """

    key: str
    system: str
    prompt: str
    schema: type[BaseModel]
    images: tuple[Path, ...] = ()
    captions: tuple[str, ...] = ()
    check: Callable[[Any], Sequence[str]] | None = None
    window: Window | None = None
    yes_no: bool = False

    def __post_init__(self) -> None:
        if self.captions and len(self.captions) != len(self.images):
            raise ValueError(f"{len(self.captions)} captions for {len(self.images)} images")


@dataclass(frozen=True)
class Usage:
    """Tokens, as the model counts them; 0 where it does not say."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens
        )


@dataclass(frozen=True)
class Price:
    """What tokens cost, in any currency, for a million of them."""

    input: float
    output: float

    def of(self, usage: Usage) -> float:
        """The cost of ``usage``."""
        spent = usage.input_tokens * self.input + usage.output_tokens * self.output
        return spent / 1e6


@dataclass(frozen=True)
class Answer:
    """How one question ended.

    Attributes:
        key: Of the request.
        outcome: See :data:`Outcome`.
        value: Instance of the request's schema; None unless accepted.
        reason: Why it was not accepted; empty if it was.
        text: What the model said last, as it said it; empty if it never answered.
        attempts: How many answers the model gave: 1, and 1 more for each repair.
        cached: Whether all of them came out of the cache, so that nothing was paid.
        usage: Tokens of the answers that were asked for now; none for cached ones.
        whole_usage: Tokens of all of them, whenever they were asked for.
    """

    key: str
    outcome: Outcome
    value: Any = None
    reason: str = ""
    text: str = ""
    attempts: int = 0
    cached: bool = False
    usage: Usage = field(default_factory=Usage)
    whole_usage: Usage = field(default_factory=Usage)

    @property
    def accepted(self) -> bool:
        """Whether :attr:`value` is there."""
        return self.outcome == "accepted"


@dataclass(frozen=True)
class Options:
    """How questions are put.

    Attributes:
        repairs: How often a faulty answer may be corrected.
        retries: How often a call is repeated that got no answer (429, 5xx, timeout, connection).
        concurrency: Calls at once; a local model takes one.
        requests_per_minute: Calls begun a minute; None for no limit.
        backoff: Seconds before the first repetition; doubled each time, with jitter.
        longest_wait: Most seconds before a repetition, whatever Retry-After says.
        give_up_after: Questions in a row without any answer after which the rest is not asked.
        ask_again: Put the questions again whose cached answers were not accepted.
    """

    repairs: int = 2
    retries: int = 5
    concurrency: int = 4
    requests_per_minute: float | None = None
    backoff: float = 1.0
    longest_wait: float = 120.0
    give_up_after: int = 20
    ask_again: bool = False


@dataclass(frozen=True)
class Turn:
    """An answer that was not accepted, and what was said about it."""

    answer: str
    complaint: str


@dataclass(frozen=True)
class Conversation:
    """A request and what has been said since."""

    request: Request
    turns: tuple[Turn, ...] = ()

    def with_turn(self, answer: str, complaint: str) -> Conversation:
        """The conversation, one turn further on."""
        return Conversation(self.request, (*self.turns, Turn(answer, complaint)))


@dataclass(frozen=True)
class Reply:
    """What a model says.

    Attributes:
        text: The answer.
        refusal: What it said in declining; empty if it did not.
        truncated: Whether it was cut off by the limit of tokens.
        usage: Tokens of this call.
        elsewhere: Field of the response that holds words though there is no answer.
        fault: Why the response holds no message of a model at all; empty if it does.
        foreign: Whether it is not even of the interface, as a page of HTML is.
        shares: Probabilities of yes and of no, where they were asked for and are known.
        shares_from: What they were read off.
    """

    text: str
    refusal: str = ""
    truncated: bool = False
    usage: Usage = field(default_factory=Usage)
    elsewhere: str = ""
    fault: str = ""
    foreign: bool = False
    shares: tuple[float, float] | None = None
    shares_from: Literal["logits", "logprobs"] | None = None


class NoAnswer(CasError):
    """A call that got no answer.

    Args:
        problem: Why.
        retry: Whether the same call may succeed later.
        retry_after: Seconds that the server asks to wait, if it does.
        unreachable: Whether nobody was there to ask.
    """

    def __init__(
        self,
        problem: str,
        *,
        retry: bool,
        retry_after: float | None = None,
        unreachable: bool = False,
    ) -> None:
        super().__init__(problem)
        self.retry = retry
        self.retry_after = retry_after
        self.unreachable = unreachable


class Model(Protocol):
    """A multimodal language model.

    Attributes:
        name: The spec that it was opened with.
        identity: Everything about it that decides its answers, and no secret: part of the cache's
            key and of the provenance.
        concurrent: Whether calls may run at once.
        notes: What a person should hear of, e.g. a setting that the server did not take.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def identity(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def concurrent(self) -> bool: ...  # noqa: D102

    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def reply(self, conversation: Conversation) -> Reply:
        """Answer the last turn of a conversation.

        Raises:
            NoAnswer: This call got none; others may.
            ImageError: An image of the request cannot be read.
            CasError: No call will get one: wrong key, unknown model, spent quota.
        """
        ...


def usage_of(answers: Iterable[Answer]) -> Usage:
    """Tokens of all answers that were asked for now."""
    return sum((answer.usage for answer in answers), Usage())
