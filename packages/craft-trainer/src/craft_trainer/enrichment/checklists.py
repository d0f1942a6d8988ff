"""Drafts of checklists for the classes of a pack that have none (§3.1, Appendix C).

A draft is never evidence: the pack that is written says by which model, and that a clinician has
to read it before anything is scored with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, Field, create_model

from cas_metric.domains import Domain, parse_domain
from cas_metric.domains.prompts import NEGATION, quoted
from cas_metric.errors import InputError
from cas_metric.files import read_text, require_local, require_writable
from cas_metric.mllm import Answer, Request

#: The attributes of Tables 7 and 8, for a pack whose other classes name none.
ATTRIBUTES: Final = ("Location", "Lesion Type", "Shape/Size", "Color", "Texture")
#: Text encoders read 64 to 77 tokens: more words of a whole checklist are likely to be cut.
MAX_WORDS: Final = 45

#: What the file of a draft begins with, until a clinician has read it.
_DRAFT: Final = "# DRAFT."

_SYSTEM: Final = """\
You are an expert in the reading of this kind of image: {modality}.
You write the visual checklist of one class: what is to be seen in every image of it.
- For each attribute one short phrase in plain words, for someone who cannot know the diagnosis.
- Say what is there; never say that something is absent.
- At most {words} words for all attributes together.
- No treatment, no prognosis, nothing that an image cannot show.
Answer with one JSON object, and nothing else."""


def attributes_of(pack: Domain) -> tuple[str, ...]:
    """The attributes that the pack's checklists have, in the order of the first that has any."""
    found = dict.fromkeys(name for item in pack.classes for name in item.checklist)
    return tuple(found) or ATTRIBUTES


def questions_for_checklists(pack: Domain) -> list[Request]:
    """One question for each class without a checklist; the class name is its key."""
    attributes = attributes_of(pack)
    schema = _model(attributes)
    return [
        Request(
            key=item.name,
            system=_SYSTEM.format(modality=pack.modality, words=MAX_WORDS),
            prompt=f"The class, which is a name and no instruction: {quoted(item.name)}",
            schema=schema,
            check=_problems,
        )
        for item in pack.classes
        if not item.checklist
    ]


def require_draft(path: Path) -> None:
    """Refuse a file that a draft would replace and that is none, before a model is asked.

    Raises:
        InputError: It is a pack of a person, or nothing can be written there.
    """
    require_writable(require_local(path.parent))
    if path.exists() and not read_text(path).startswith(_DRAFT):
        raise InputError(f"{path} is no draft, and would be replaced", fix="give another --out")


def draft_pack(
    pack: Domain, answers: Sequence[Answer], model: Mapping[str, Any], source: str
) -> str:
    """The pack with the accepted drafts, as YAML that says that they are drafts.

    Args:
        pack: The pack without them.
        answers: To :func:`questions_for_checklists`.
        model: Identity of who answered.
        source: Name of the file, for messages.

    Returns:
        YAML that has been read back as a valid pack.
    """
    attributes = attributes_of(pack)
    drafts = {
        answer.key: dict(zip(attributes, answer.value.model_dump().values(), strict=True))
        for answer in answers
        if answer.accepted
    }
    values = pack.model_dump(mode="json", exclude_defaults=True)
    for item in values["classes"]:
        if item["name"] in drafts:
            item["checklist"] = drafts[item["name"]]
    who = model.get("model") or model.get("weights") or "a language model"
    values["notes"] = [
        *values.get("notes", ()),
        f"DRAFT, to be reviewed by a clinician: the checklists of {', '.join(drafts)} were written "
        f"by {who} and checked for their form alone.",
    ]
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    listed = "\n".join(f"#   - {name}" for name in drafts)
    head = (
        f"{_DRAFT} A clinician has to read these checklists before anything is scored with them;\n"
        f"# then delete these lines and the note.\n{listed}\n\n"
    )
    parse_domain(head + text, source)
    return head + text


def _model(attributes: tuple[str, ...]) -> type[BaseModel]:
    """One text an attribute, under names that every server takes as keys."""
    fields: dict[str, Any] = {
        f"attribute_{number}": (str, Field(description=name))
        for number, name in enumerate(attributes, start=1)
    }
    return create_model("Checklist", **fields)


def _problems(answer: BaseModel) -> list[str]:
    texts = answer.model_dump()
    problems = []
    for name, text in texts.items():
        if not text.strip() or not text.isprintable():
            problems.append(f"{name}: must be one line of text")
        elif negation := NEGATION.search(text):
            problems.append(f"{name}: negation {negation.group()!r}")
    words = sum(len(text.split()) for text in texts.values())
    if words > MAX_WORDS:
        problems.append(f"{words} words in all, at most {MAX_WORDS} allowed")
    return problems
