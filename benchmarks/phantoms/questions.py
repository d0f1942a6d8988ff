"""What phantom-llava is asked and what is true: questions of the packages' own wording.

Each question is a :class:`cas_metric.mllm.Request`, built by the code that will put it, and each
answer the JSON (or the one word) that its schema wants, made from the specification of the drawing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cas_metric.domains import Domain
from cas_metric.domains import load_domain as read_domain
from cas_metric.mllm import Request
from cas_metric.mllm.audit import audit_request
from cas_metric.mllm.graded import graded_requests
from cas_metric.mllm.judge import Case, Cases, judge_requests
from cas_metric.mllm.report import report_requests
from cas_metric.phantoms import DOMAINS, failures, generator, renderer
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.facts import NORMAL, facts, summary
from craft_trainer.enrichment.checklists import attributes_of, questions_for_checklists
from craft_trainer.enrichment.questions import question

#: Packs and questions are asked for thousands of times.
load_domain = cache(read_domain)

#: Stands for an image wherever only the words of a question are wanted.
ANY = Path("image.png")
#: Damage of a picture whose finding is right, and its range.
DAMAGE = {"blur": (0.3, 0.8), "noise": (0.3, 0.8), "low_contrast": (0.45, 0.9)}


@dataclass(frozen=True)
class Picture:
    """A drawing and its truth.

    Attributes:
        pixels: ``(64, 64, 3)`` uint8; None where only the truth is wanted.
        spec: What is drawn.
        drawn: Class of the sign that is seen; none where the sign was taken out.
        damaged: Whether pixels were spoilt.
    """

    pixels: np.ndarray | None
    spec: FindingSpec
    drawn: str | None
    damaged: bool = False


def picture(domain: str, label: str, kind: str, *numbers: int, drawn: bool = True) -> Picture:
    """A phantom, ``kind`` being faithful, missing or damaged; numbers as for ``generator``."""
    artist = renderer(domain)
    rng = generator(domain, label, *numbers)
    spec = artist.sample(label, rng)
    if kind == "missing" and artist.remove_finding(spec) != spec:
        bare = artist.remove_finding(spec)
        return Picture(artist.render(bare) if drawn else None, bare, NORMAL.get(domain))
    if kind == "damaged" and not drawn:
        return Picture(None, spec, label, damaged=True)
    if kind == "damaged":
        name = str(rng.choice(list(DAMAGE)))
        made = failures.FAILURES[name](artist, spec, rng, float(rng.uniform(*DAMAGE[name])))
        return Picture(made.image, spec, label, damaged=True)
    return Picture(artist.render(spec) if drawn else None, spec, label)


# -- questions ------------------------------------------------------------------------------------


def _table(count: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"path": [ANY] * count, "window": [None] * count})


@cache
def describe(domain: str, label: str, *, shown: bool = True) -> Request:
    """Stage 1: the facts of the pack's prompt schema."""
    schema = load_domain(domain).prompt_schema
    assert schema is not None
    return question("", label, schema, ANY if shown else None)


@cache
def audit(domain: str, checklist: str) -> Request:
    """Every item of a checklist at once."""
    return audit_request("", ANY, checklist, load_domain(domain))


@cache
def graded(domain: str, checklist: str) -> list[Request]:
    """Each item by itself, answered with yes or no."""
    return graded_requests(_table(), load_domain(domain), [checklist])


@cache
def report(domain: str) -> Request:
    """Findings and impression."""
    return report_requests(_table(), load_domain(domain))[0]


@cache
def draft(domain: str) -> dict[str, Request]:
    """The checklists of a pack that has lost them, by class."""
    pack = load_domain(domain)
    bare = [item.model_copy(update={"checklist": {}}) for item in pack.classes]
    requests = questions_for_checklists(pack.model_copy(update={"classes": tuple(bare)}))
    return {request.key: request for request in requests}


@cache
def judge(domain: str, label: str, count: int) -> Request:
    """A ranking of ``count`` candidates."""
    methods = tuple(f"m{n}" for n in range(count))
    found = Cases(methods, (Case("", label, "", tuple(range(count))),))
    orders = np.arange(count)[None, None]
    return judge_requests(found, _table(count), load_domain(domain), orders)[0]


# -- answers --------------------------------------------------------------------------------------


def described(one: Picture) -> dict[str, Any]:
    """The true answer to :func:`describe`."""
    return dict(facts(_as_drawn(one)))


def audited(one: Picture, domain: str, checklist: str) -> dict[str, Any]:
    """The true answer to :func:`audit`: an item is there if it is one of what is drawn."""
    pack = load_domain(domain)
    seen = f"shows {one.drawn.lower()}" if one.drawn else "shows nothing of the kind"
    return {
        f"item_{n}": {"evidence": seen, "verdict": "present" if there else "absent"}
        for n, there in enumerate(items_present(pack, one.drawn, checklist), start=1)
    }


def items_present(pack: Domain, drawn: str | None, checklist: str) -> list[bool]:
    """Whether each item of a class's checklist is one of the class that is drawn."""
    own = set(pack.checklist_items(drawn)) if drawn else set()
    return [item in own for item in pack.checklist_items(checklist)]


def reported(one: Picture) -> dict[str, Any]:
    """The true answer to :func:`report`."""
    return {"findings": summary(_as_drawn(one)), "impression": one.drawn or "nothing of the kind"}


def _as_drawn(one: Picture) -> FindingSpec:
    """A picture without its sign is described as that of a normal one."""
    import dataclasses

    return dataclasses.replace(one.spec, label=one.drawn) if one.drawn else one.spec


def drafted(domain: str, label: str) -> dict[str, str]:
    """The checklist of the pack, as the answer to :func:`draft`."""
    pack = load_domain(domain)
    checklist = pack.checklist(label)
    return {f"attribute_{n}": checklist[name] for n, name in enumerate(attributes_of(pack), 1)}


def ranked(qualities: Sequence[int]) -> dict[str, list[str]]:
    """The true answer to :func:`judge`: letters by falling quality."""
    order = sorted(range(len(qualities)), key=lambda place: -qualities[place])
    return {"ranking": ["ABCDEFGH"[place] for place in order]}


def quality(one: Picture, label: str) -> int:
    """2: the sign that was asked for; 1: that in a damaged picture; 0: another one or none."""
    return 0 if one.drawn != label else 1 if one.damaged else 2


# -- words ----------------------------------------------------------------------------------------


def dumped(answer: Mapping[str, Any]) -> str:
    """An answer as it is said."""
    return json.dumps(answer, ensure_ascii=False)


def frames(answer: Mapping[str, Any]) -> list[str]:
    """What stands around the values of an answer: braces, keys, quotes."""
    return [part for part in dumped(_blank(answer)).split("@@") if part]


def _blank(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _blank(item) for key, item in value.items()}
    return [_blank(item) for item in value] if isinstance(value, list) else "@@"


@cache
def pairs() -> tuple[tuple[str, str], ...]:
    """Every domain and class."""
    return tuple((domain, label) for domain in DOMAINS for label in renderer(domain).classes)


def examples() -> Iterator[tuple[Request, str]]:
    """Questions and answers that hold all words and forms; the tokenizer is made from them."""
    for domain, label in pairs():
        drafts = draft(domain)
        yield drafts[label], dumped(drafted(domain, label))
        for number in range(60):
            kind = "missing" if number < 2 else "faithful"
            one = picture(domain, label, kind, 9, number, drawn=False)
            yield report(domain), dumped(reported(one))
            yield audit(domain, label), dumped(audited(one, domain, label))
            if number >= 2:
                yield describe(domain, label), dumped(described(one))
        yield describe(domain, label, shown=False), ""
        for request in graded(domain, label):
            yield request, "yes"
            yield request, "no"
        for count in (2, 3):
            yield judge(domain, label, count), dumped(ranked(range(count)))
