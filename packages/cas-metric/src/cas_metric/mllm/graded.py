"""The graded audit: how sure an evaluator is that an image shows each item of a checklist.

Every item is a question of its own, answered with yes or no, and the probability of yes is its
score: VQAScore (https://arxiv.org/abs/2404.01291) of the item. As in the audit by verdicts, the
evaluator sees pixels and items, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, Literal

from cas_metric.domains import Domain
from cas_metric.mllm.audit import ItemVerdict, audit_rows
from cas_metric.mllm.types import Answer, Request
from cas_metric.mllm.yes_no import YesNo

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the rows beside those of the audit.
COLUMNS: Final = ("score", "p_yes", "p_no", "source")
#: From this score on an item counts as present: yes is then the likelier of the two words.
PRESENT_FROM: Final = 0.5

_SYSTEM: Final = """\
You examine one image ({modality}). Nothing is known about where it comes from or what it should \
show. Judge what can be seen in it, and nothing else. Answer with one word: yes or no."""
# What differs stands as near to the end as may be: all before it is shared by all questions.
_PROMPT: Final = """\
Does the image show what is described here? Of alternatives, one is enough.
{item}
Answer with one word, yes or no."""


def graded_requests(
    table: pd.DataFrame, domain: Domain, checklists: Sequence[str]
) -> list[Request]:
    """The questions about all items of all images, image after image.

    Args:
        table: Rows of :class:`cas_metric.mllm.sources.Images`.
        domain: The pack.
        checklists: ``(N,)`` class whose checklist is asked of each image.
    """
    rows = zip(table["path"], checklists, table["window"], strict=True)
    return [
        Request(
            key=f"{n}.{k}",
            system=_SYSTEM.format(modality=domain.modality),
            prompt=_PROMPT.format(item=item),
            schema=YesNo,
            images=(path,),
            window=window,
            yes_no=True,
        )
        for n, (path, label, window) in enumerate(rows)
        for k, item in enumerate(domain.checklist_items(label), start=1)
    ]


def graded_rows(
    table: pd.DataFrame, answers: Sequence[Answer], domain: Domain, checklists: Sequence[str]
) -> pd.DataFrame:
    """One row an item of each image, as :func:`cas_metric.mllm.audit.audit_rows` gives them.

    Args:
        table: See :func:`graded_requests`.
        answers: To its questions.
        domain: The pack.
        checklists: ``(N,)`` see :func:`graded_requests`.

    Returns:
        The columns of the audit and :data:`COLUMNS`: ``score`` in [0, 1], P(yes) among the two
        words; ``verdict`` is ``present`` from :data:`PRESENT_FROM` on. Of an item without an
        answer the score is NaN and ``status`` and ``error`` say why.
    """
    waiting = iter(answers)
    per_image = []
    items: list[Answer] = []
    for label in checklists:
        own = [next(waiting) for _ in domain.checklist(label)]
        items += own
        verdicts = {f"item_{n}": _verdict(one) for n, one in enumerate(own, start=1)}
        per_image.append(Answer("", "accepted", value=SimpleNamespace(**verdicts)))
    rows = audit_rows(table, per_image, domain, checklists)
    empty = YesNo(p_yes=float("nan"), p_no=float("nan"), source="answer")
    values = [one.value if one.accepted else empty for one in items]
    return rows.assign(
        status=["ok" if one.accepted else one.outcome for one in items],
        error=[one.reason for one in items],
        score=[value.score for value in values],
        p_yes=[value.p_yes for value in values],
        p_no=[value.p_no for value in values],
        source=[
            value.source if one.accepted else "" for one, value in zip(items, values, strict=True)
        ],
    )


def _verdict(answer: Answer) -> ItemVerdict | None:
    if not answer.accepted:
        return None
    score = answer.value.score
    verdict: Literal["present", "absent"] = "present" if score >= PRESENT_FROM else "absent"
    return ItemVerdict(evidence=f"P(yes) {score:.2f}", verdict=verdict)
