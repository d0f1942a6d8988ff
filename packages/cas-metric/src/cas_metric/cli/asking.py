"""What the verbs share that put questions to a multimodal language model."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cas_metric.cli.common import CountProgress, console_err

if TYPE_CHECKING:
    from cas_metric.mllm import Answer, Request

ASKING: Final = "Asking the model"

Mllm = Annotated[
    str,
    typer.Option(
        help="openai:MODEL, behind any server with OpenAI's chat-completions interface "
        "(CAS_MLLM_BASE_URL, CAS_MLLM_API_KEY), or local:DIR or local:OWNER/NAME.",
        rich_help_panel=ASKING,
        metavar="SPEC",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of the server, e.g. http://localhost:8000/v1, in place of the environment's.",
        rich_help_panel=ASKING,
        metavar="URL",
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(help="Questions in flight at once.", rich_help_panel=ASKING, metavar="N", min=1),
]
RequestsPerMinute = Annotated[
    float | None,
    typer.Option(
        help="Most questions begun in a minute.", rich_help_panel=ASKING, metavar="N", min=0.1
    ),
]
Repairs = Annotated[
    int,
    typer.Option(
        help="How often an answer of the wrong form is sent back with what is wrong with it.",
        rich_help_panel=ASKING,
        metavar="N",
        min=0,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        help="Seconds for one answer of a server.", rich_help_panel=ASKING, metavar="S", min=0.1
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        help="How often a call is repeated that got no answer (429, 5xx, timeout, connection).",
        rich_help_panel=ASKING,
        metavar="N",
        min=0,
    ),
]
MaxTokens = Annotated[
    int,
    typer.Option(help="Longest answer, in tokens.", rich_help_panel=ASKING, metavar="N", min=1),
]
Temperature = Annotated[
    float,
    typer.Option(
        help="0 takes the most likely answer. Local models always do.",
        rich_help_panel=ASKING,
        metavar="T",
        min=0,
    ),
]
LongestSide = Annotated[
    int,
    typer.Option(
        help="Larger images are scaled down to this many pixels.",
        rich_help_panel=ASKING,
        metavar="N",
        min=16,
    ),
]
AskAgain = Annotated[
    bool,
    typer.Option(
        "--ask-again",
        help="Put the questions again whose cached answers were refusals or of the wrong form.",
        rich_help_panel=ASKING,
    ),
]
AnswerCache = Annotated[
    str | None,
    typer.Option(
        help="Directory of the answers, or none. Default: CAS_CACHE, else ~/.cache/cas-metric. "
        "An interrupted run continues from it.",
        rich_help_panel=ASKING,
        metavar="DIR",
    ),
]


@dataclass(frozen=True)
class Asking:
    """Whom to ask, and how; the options above."""

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


@dataclass(frozen=True)
class Asked:
    """Answers, who gave them, and what that took.

    Attributes:
        answers: One a request, in order.
        model: Identity of the model.
        notes: What the model's server did not take.
        timing: Seconds, calls and tokens; differs from run to run.
    """

    answers: Sequence[Answer]
    model: dict[str, Any]
    notes: tuple[str, ...]
    timing: dict[str, Any]


def put_questions(requests: Sequence[Request], asking: Asking, what: str) -> Asked:
    """Put all questions, with a progress bar, and count what was paid.

    Args:
        requests: The questions.
        asking: Whom to ask.
        what: What is counted, e.g. ``images``.

    Raises:
        CasError: See :func:`cas_metric.mllm.answer_all` and :func:`cas_metric.mllm.open_model`.
    """
    from cas_metric.mllm import AnswerCache, Options, Settings, answer_all, open_model, usage_of

    started = time.perf_counter()
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
    options = Options(
        repairs=asking.repairs,
        retries=asking.retries,
        concurrency=asking.concurrency,
        requests_per_minute=asking.requests_per_minute,
        ask_again=asking.ask_again,
    )
    with AnswerCache(asking.cache) as cache, CountProgress(what) as bar:
        answers = answer_all(requests, model, cache=cache, options=options, progress=bar)
    notes = tuple(getattr(model, "notes", ()))
    say_all(notes)
    usage = usage_of(answers)
    timing = {
        "seconds": round(time.perf_counter() - started, 3),
        "questions": len(answers),
        "from_cache": sum(answer.cached for answer in answers),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }
    identity = {"spec": asking.spec, **model.identity}
    return Asked(answers, identity, notes, timing)


def say_all(notes: Sequence[str]) -> None:
    """Write notes to stderr, a line each."""
    for note in notes:
        console_err().print(note, markup=False, soft_wrap=True)


def provenance(roots: dict[str, str]) -> dict[str, Any]:
    """Command line, versions, and where the images of each source lie."""
    from importlib.metadata import version

    packages = ("cas-metric", "numpy", "pandas", "pillow", "pydantic", "scipy")
    return {
        "command": ["cas", *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "inputs": {source: {"root": root} for source, root in roots.items()},
    }
