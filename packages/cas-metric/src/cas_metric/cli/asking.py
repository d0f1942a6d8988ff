"""What the verbs share that put questions to a multimodal language model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

from cas_metric.cli.common import console_err
from cas_metric.mllm.asking import Asking as Asking

ASKING: Final = "Asking the model"

Mllm = Annotated[
    str,
    typer.Option(
        help="openai:MODEL, behind any server with OpenAI's chat-completions interface "
        "(CAS_MLLM_BASE_URL, CAS_MLLM_API_KEY); local:DIR or local:OWNER/NAME; or phantom-llava, "
        "the embedded one, which reads nothing but phantoms.",
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


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="Runs, manifests or folders; NAME=PATH to name."),
]
Domain = Annotated[
    str | None,
    typer.Option(
        help="Domain pack (`cas domains list`) or a YAML file. Default: what the sources say.",
        metavar="NAME",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Take only images of this generation seed.", metavar="N", min=0),
]
Cases = Annotated[
    int | None,
    typer.Option(
        help="Take only N randomly drawn cases, the same for all methods.", metavar="N", min=1
    ),
]
DrawSeed = Annotated[
    int,
    typer.Option(help="Seed of what is drawn at random, such as the cases.", metavar="N", min=0),
]
Device = Annotated[
    str,
    typer.Option(
        help="Of a local model: auto, cpu, cuda, cuda:1, mps, …",
        rich_help_panel=ASKING,
        metavar="NAME",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="Of a local model: auto, float32, bfloat16 or float16.",
        rich_help_panel=ASKING,
        metavar="TYPE",
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never use the network.", rich_help_panel=ASKING),
]

PriceIn = Annotated[
    float | None,
    typer.Option(
        help="Price of a million input tokens, to count the cost.",
        rich_help_panel=ASKING,
        metavar="P",
        min=0,
    ),
]
PriceOut = Annotated[
    float | None,
    typer.Option(
        help="Price of a million output tokens.", rich_help_panel=ASKING, metavar="P", min=0
    ),
]

#: Options of every verb that asks, and their defaults; the names are those of :class:`Asking`.
_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "base_url": (BaseUrl, None),
    "concurrency": (Concurrency, 4),
    "requests_per_minute": (RequestsPerMinute, None),
    "repairs": (Repairs, 2),
    "retries": (Retries, 5),
    "timeout": (Timeout, 120.0),
    "max_tokens": (MaxTokens, 1024),
    "temperature": (Temperature, 0.0),
    "longest_side": (LongestSide, 1024),
    "ask_again": (AskAgain, False),
    "cache": (AnswerCache, None),
    "device": (Device, "auto"),
    "dtype": (Dtype, "auto"),
    "offline": (Offline, False),
    "price_in": (PriceIn, None),
    "price_out": (PriceOut, None),
}


def asks(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter ``asking`` is the options of every verb that asks a model.

    ``--mllm`` takes the place of the parameter, the other options come last.
    """
    own = inspect.signature(function, eval_str=True).parameters
    keyword = inspect.Parameter.KEYWORD_ONLY
    mllm = inspect.Parameter("mllm", keyword, annotation=Mllm)
    parameters = [
        mllm if name == "asking" else one.replace(kind=keyword) for name, one in own.items()
    ]
    parameters += [
        inspect.Parameter(name, keyword, annotation=kind, default=default)
        for name, (kind, default) in _OPTIONS.items()
    ]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in _OPTIONS}
        function(asking=Asking(given.pop("mllm"), **chosen), **given)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def say_all(notes: Sequence[str]) -> None:
    """Write notes to stderr, a line each."""
    for note in notes:
        console_err().print(note, soft_wrap=True)
