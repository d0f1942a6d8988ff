"""Questions with one form of answer, for tests of how models are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cas_metric.mllm import Answer, AnswerCache, Options, Request, Settings, answer_all, open_model

KEY = "sk-secret-0123456789"
#: Quick where nothing else is tested.
QUICK = Options(backoff=0.001, longest_wait=0.01, retries=2)


class Verdict(BaseModel):
    """What the questions of these tests ask for."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["yes", "no"]
    why: str = ""


GOOD = {"verdict": "yes", "why": "round"}


def request(key: str = "a", **changes: Any) -> Request:
    return Request(
        **{
            "key": key,
            "system": "You judge.",
            "prompt": f"question {key}",
            "schema": Verdict,
            **changes,
        }
    )


def ask(requests: list[Request], **changes: Any) -> list[Answer]:
    settings = changes.pop("settings", Settings(timeout=5))
    options = changes.pop("options", QUICK)
    return answer_all(requests, open_model("openai:m", settings), options=options, **changes)


def store_files(store: AnswerCache) -> list[Path]:
    return sorted(store.path.rglob("*.json"))
