"""The checklist audit: an external evaluator says which items of its class an image shows.

The evaluator sees the pixels and the items, and nothing else: not the method, not the name of the
class, not the prompt. All items of an image are one question, answered in a form that holds one
verdict an item.

Source: §4.2.7 and Table 3b of the paper; the wording is ours, the paper prints none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

from cas_metric.domains import Domain
from cas_metric.errors import InputError
from cas_metric.mllm.types import Answer, Request

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the rows, in file order; ``patient`` follows where it is known.
COLUMNS: Final = (
    *("id", "method", "seed", "label", "checklist", "attribute", "description"),
    *("verdict", "evidence", "status", "error", "image", "reference"),
)
#: Longest evidence that is kept, in characters; the model is asked for far less.
EVIDENCE: Final = 300

_SYSTEM: Final = """\
You examine one image ({modality}) against a list of visual findings. Nothing is known about where \
the image comes from or what it should show. Judge what can be seen in it, and nothing else.

Give each item one verdict:
- present: the image shows what the item describes. An item may list alternatives, or things that \
only may be there: what is essential in it must be seen, and nothing seen may contradict it.
- absent: what the item describes could be seen in an image like this, and is not there, or \
something contradicts it.
- not assessable: this image cannot tell, for example because the place is out of view, or the \
quality is too low.

Judge every item by itself. Name first, in at most 15 words, what you see that decides it."""

_PROMPT: Final = "Items:\n{items}\n\nJudge the {count} items."


class ItemVerdict(BaseModel):
    """What is said of one item."""

    model_config = ConfigDict(extra="forbid")

    evidence: str = Field(description="what is seen that decides the item, at most 15 words")
    verdict: Literal["present", "absent", "not assessable"]


def audit_request(
    key: str, path: Path, label: str, domain: Domain, *, window: Any = None
) -> Request:
    """The question about one image.

    Args:
        key: The caller's name for it; the evaluator does not see it.
        path: The image.
        label: Class whose checklist is asked.
        domain: The pack that holds the checklist.
        window: Range of stored values to show of images beyond 8 bits.

    Raises:
        InputError: The class has no checklist.
    """
    items = domain.checklist_items(label)
    if not items:
        raise InputError(
            f"class {label!r} of domain {domain.name} has no checklist",
            fix="add one to the domain pack, or leave its images out",
        )
    return Request(
        key=key,
        system=_SYSTEM.format(modality=domain.modality),
        prompt=_PROMPT.format(
            items="\n".join(f"{n}. {item}" for n, item in enumerate(items, start=1)),
            count=len(items),
        ),
        schema=verdict_schema(len(items)),
        images=(path,),
        window=window,
    )


@lru_cache(maxsize=64)
def verdict_schema(count: int) -> type[BaseModel]:
    """Form of an answer on ``count`` items: ``item_1`` … , each given exactly once."""
    fields: dict[str, Any] = {f"item_{n}": (ItemVerdict, ...) for n in range(1, count + 1)}
    return create_model(f"Verdicts{count}", __config__=ConfigDict(extra="forbid"), **fields)


def control_labels(labels: Sequence[str], domain: Domain, seed: int) -> list[str]:
    """For each image another class, whose checklist it should not pass.

    Args:
        labels: ``(N,)`` classes of the images.
        domain: Its classes with a checklist are the choices.
        seed: Of the choice.

    Raises:
        InputError: The domain has no second class with a checklist.
    """
    choices = [name for name in domain.class_names if domain.checklist_text(name)]
    if len(choices) < 2:
        raise InputError(f"domain {domain.name} has no second checklist to compare with")
    rng = np.random.default_rng(seed)
    others = {label: [name for name in choices if name != label] for label in set(labels)}
    return [others[label][int(rng.integers(len(others[label])))] for label in labels]


def audit_requests(table: pd.DataFrame, domain: Domain, checklists: Sequence[str]) -> list[Request]:
    """The questions about all images of a table, in its order.

    Args:
        table: Rows of :class:`cas_metric.mllm.sources.Images`.
        domain: The pack.
        checklists: ``(N,)`` class whose checklist is asked of each image.
    """
    rows = zip(table["path"], checklists, table["window"], strict=True)
    return [
        audit_request(str(n), path, label, domain, window=window)
        for n, (path, label, window) in enumerate(rows)
    ]


def audit_rows(
    table: pd.DataFrame, answers: Sequence[Answer], domain: Domain, checklists: Sequence[str]
) -> pd.DataFrame:
    """One row an item of each image; an image without an answer has rows without verdicts.

    Args:
        table: See :func:`audit_requests`.
        answers: ``(N,)`` its answers.
        domain: The pack.
        checklists: ``(N,)`` see :func:`audit_requests`.

    Returns:
        :data:`COLUMNS` and, where it is known, ``patient``. ``status`` is ``ok``, or how the
        question ended (``rejected``, ``refused``, ``failed``), and ``error`` says why.
    """
    import pandas as pd

    known = [name for name in ("patient",) if (table[name] != "").any()]
    rows = []
    for image, answer, label in zip(table.to_dict("records"), answers, checklists, strict=True):
        same = {name: image[name] for name in ("id", "method", "seed", "label", *known)}
        same |= {"checklist": label, "image": image["image"], "reference": image["reference"]}
        same |= {"status": "ok" if answer.accepted else answer.outcome, "error": answer.reason}
        for number, (attribute, text) in enumerate(domain.checklist(label).items(), start=1):
            found = getattr(answer.value, f"item_{number}") if answer.accepted else None
            rows.append(
                {
                    **same,
                    "attribute": attribute,
                    "description": text,
                    "verdict": found.verdict if found else "",
                    "evidence": _one_line(found.evidence) if found else "",
                }
            )
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *known])
    return frame.assign(seed=frame["seed"].astype("Int64"))


def _one_line(text: str) -> str:
    """Printable text on one line, cut at :data:`EVIDENCE` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= EVIDENCE else f"{line[: EVIDENCE - 1]}…"
