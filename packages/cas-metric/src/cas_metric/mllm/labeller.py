"""What a report says of the classes of a domain: present, uncertain, denied, or nothing.

Rules, and no model: words of a class, as the pack spells them, and around each the cues that deny
or doubt it, as in NegEx (Chapman et al., *J Biomed Inform* 34, 2001,
https://doi.org/10.1006/jbin.2001.1029) and the CheXpert labeller (Irvin et al. 2019,
https://arxiv.org/abs/1901.07031), whose rule for the normal class is taken: it holds where no other
class is present or uncertain. Clinical reports of a hospital deserve a labeller made for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal

from cas_metric.domains import Domain
from cas_metric.domains.model import normalise

Status = Literal["present", "uncertain", "denied", "not mentioned"]
#: What a class counts in :func:`support`.
WEIGHTS: Final[Mapping[Status, float]] = {"present": 1.0, "uncertain": 0.5}
#: Spellings of a class that means that nothing is found.
NORMAL: Final = frozenset(
    ("normal", "no finding", "no findings", "healthy", "unremarkable", "negative")
)
_ORDER: Final[tuple[Status, ...]] = ("not mentioned", "denied", "uncertain", "present")

_SEEN: Final = r"(?:seen|present|identified|evident|visible)"
#: A cue does not reach across these.
_CLAUSE = re.compile(
    r"[.;:!?\n]+|\b(?:but|however|although|though|except|apart from|despite|while|whereas)\b|"
    # Unless a list of what is denied ends there: ", effusion or pneumothorax is seen".
    rf",(?![^,;.]*\bn?or\b[^,;.]*\b(?:{_SEEN}|noted)\b)(?="
    r"[^,;.]*\b(?:is|are|was|were|shows?|demonstrates?|there|consistent|compatible)\b|"
    r"(?! and\b)[^,;.:!?\n]*\b(?:present|seen|noted)\s*(?:[.;:!?\n]|$))",
    re.IGNORECASE,
)
#: A denial before these does not reach what follows: "no effusion and a large heart".
_RESUMED = re.compile(r"\band (?:an?|the)\b|, with\b", re.IGNORECASE)
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|nor|neither|without|absence of|free of|negative for|lack of|rather than|"
    r"unlikely to (?:be|represent|reflect)|(?:rules?|ruled|ruling) out|excludes?|resolved)\b"
    rf"(?! (?:only|exclude|rule|(?:longer )?{_SEEN}\b|"
    r"(?:(?:interval|significant) )*(?:change|increase|decrease)\b))",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    rf"^[^,]*\b(?:(?:is|are|was|were|(?:has|have) been) (?:absent|excluded|ruled out)|"
    rf"(?:not|no longer|not been) {_SEEN}|unlikely(?! to (?:represent|reflect))|"
    r"(?:has|have) resolved|absent)\b",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|may|might|could|likely|suspicio\w+|suspected|suggest\w*|"
    r"questionable|equivocal|versus|vs|differential|(?:cannot|can not|not) (?:be |been )?"
    r"(?:excluded?|ruled? out)|cannot exclude|rule out)\b",
    re.IGNORECASE,
)


def read_report(findings: str, impression: str, domain: Domain) -> dict[str, Status]:
    """What a report says of each class, in the order of the domain.

    An impression that is a class's name, whole, says that it is present. Of several mentions the
    surest counts.

    Args:
        findings: What is seen.
        impression: What it is taken for.
        domain: Its classes, their spellings and terms of reports.

    Examples:
        >>> from cas_metric.domains import load_domain
        >>> chest = load_domain("chexpert")
        >>> read_report("Patchy consolidation. No pleural effusion.", "", chest)["Pneumonia"]
        'present'
        >>> read_report("No effusion; the heart is enlarged.", "", chest)["Pleural Effusion"]
        'denied'
    """
    said: dict[str, Status] = dict.fromkeys(domain.class_names, "not mentioned")
    for label, status in _mentions(f"{findings}\n{impression}", domain):
        said[label] = max(said[label], status, key=_ORDER.index)
    whole = {normalise(text): item.name for item in domain.classes for text in item.spellings}
    named = whole.get(normalise(impression.strip().rstrip(".")))
    if named:
        said[named] = "present"
    normal = _normal(domain)
    if normal and said[normal] != "present":
        others = {status for label, status in said.items() if label != normal}
        denied = said[normal] == "denied" or others & set(WEIGHTS)
        said[normal] = "denied" if denied else "present"
    return said


def support(said: Mapping[str, Status], label: str) -> float:
    """How far a report supports a label, in [0, 1].

    What it says of the label (present 1, uncertain 0.5, else 0), shared with the other classes
    that it names.

    Examples:
        >>> support({"Pneumonia": "present", "Edema": "present", "Mass": "denied"}, "Pneumonia")
        0.5
    """
    weights = {name: WEIGHTS.get(status, 0.0) for name, status in said.items()}
    return weights[label] / max(1.0, sum(weights.values()))


def _normal(domain: Domain) -> str | None:
    """The class that means that nothing is found, where the domain has one."""
    for item in domain.classes:
        if NORMAL & {normalise(text) for text in item.spellings}:
            return item.name
    return None


def _mentions(text: str, domain: Domain) -> Iterator[tuple[str, Status]]:
    """Each class that is spoken of, and how."""
    normal = _normal(domain)
    for clause in filter(None, map(str.strip, _CLAUSE.split(text))):
        found = _found(clause, domain)
        # A name such as "No Finding" is no denial of what follows it.
        masked = clause
        for start, end, _ in found:
            masked = masked[:start] + "_" * (end - start) + masked[end:]
        for start, end, label in found:
            before = masked[:start]
            if label == normal:  # in no list with what is denied: "no effusion, normal chest"
                before = re.split(r",|\band\b", before)[-1]
            yield label, _status(before, masked[end:])


def _status(before: str, after: str) -> Status:
    if _DOUBTED.search(before) or _DOUBTED.search(after):
        return "uncertain"
    if _DENIED_BEFORE.search(_RESUMED.split(before)[-1]) or _DENIED_AFTER.search(after):
        return "denied"
    return "present"


def _found(clause: str, domain: Domain) -> list[tuple[int, int, str]]:
    """Where terms stand, the longest of overlapping ones: ``non-glaucoma`` is no glaucoma."""
    hits = [
        (match.start(), match.end(), label)
        for label, pattern in _patterns(domain.model_dump_json())
        for match in pattern.finditer(clause)
    ]
    kept: list[tuple[int, int, str]] = []
    for hit in sorted(hits, key=lambda one: (one[0] - one[1], one[0])):
        if all(hit[1] <= start or hit[0] >= end for start, end, _ in kept):
            kept.append(hit)
    return sorted(kept)


@lru_cache(maxsize=16)
def _patterns(dumped: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """One pattern a class; of a normal class only terms that are more than one word.

    ``normal heart size`` says nothing of the image as a whole.
    """
    domain = Domain.model_validate_json(dumped)
    normal = _normal(domain)
    made = []
    for item in domain.classes:
        terms = {normalise(text) for text in (*item.spellings, *item.report_terms)}
        if item.name == normal:
            terms = {text for text in terms if " " in text}
        words = [_plural("[-_\\s]+".join(map(re.escape, text.split()))) for text in sorted(terms)]
        words.sort(key=len, reverse=True)
        if words:
            made.append((item.name, re.compile(rf"\b(?:{'|'.join(words)})\b", re.I)))
    return tuple(made)


def _plural(pattern: str) -> str:
    """The pattern of a term in singular or plural."""
    return f"{pattern[:-1]}(?:y|ies)" if pattern.endswith("y") else f"{pattern}(?:e?s)?"
