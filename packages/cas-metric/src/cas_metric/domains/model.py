"""What a domain pack holds once it has been read and checked."""

from __future__ import annotations

import difflib
import re
import string
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from cas_metric.domains.prompts import PromptSchema
from cas_metric.errors import InputError

#: How t_c is put together (ours: the paper does not print the string).
CHECKLIST_TEMPLATE = "{condition}. {attributes}"

#: Fields of a checklist template; both must occur.
_TEMPLATE_FIELDS = {"condition", "attributes"}


#: What ``cas domains new`` leaves to fill in.
PLACEHOLDER = "…"


def _filled_in(text: str) -> str:
    if text == PLACEHOLDER:
        raise ValueError(f"still holds the {PLACEHOLDER} of the template: fill it in")
    if not text.isprintable():
        raise ValueError("holds a line break or another control character")
    return text


Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_filled_in)
]
"""One line of text, not empty, without control characters."""

Symmetry = Literal["mirror", "rotate90", "invert"]
"""What turns a plausible picture into another one: see :attr:`Domain.symmetries`."""


def normalise(label: str) -> str:
    """The form in which labels are compared: case, hyphens, underscores and runs of space go.

    Letters that Unicode writes in two forms are one.
    """
    composed = unicodedata.normalize("NFC", label)
    return " ".join(re.sub(r"[-_\s]+", " ", composed).split()).casefold()


class DomainClass(BaseModel):
    """One class of a domain.

    Attributes:
        name: Its name in every table.
        synonyms: Other spellings in which data sets label it: codes, folder names.
        checklist: Attribute to visual description, in table order (§3.1, Tables 7-10); may be
            empty, and then CCS cannot be computed for the class.
        report_terms: Words by which a report speaks of it, beside name and synonyms; read by
            ``cas audit --report`` alone.

    Examples:
        >>> DomainClass(name="Edema", synonyms=("oedema",)).spellings
        ('Edema', 'oedema')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    synonyms: tuple[Line, ...] = ()
    checklist: Mapping[Line, Line] = Field(default_factory=dict)
    report_terms: tuple[Line, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


class RankingCriteria(BaseModel):
    """By what a judge ranks images of a domain (Appendix E).

    Attributes:
        role: Whom the judge is asked to be.
        criteria: Criterion to what it means in this modality, most important first.

    Examples:
        >>> from cas_metric.domains import load_domain
        >>> list(load_domain("chexpert").ranking.criteria)[0]
        'Diagnostic accuracy'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Line
    criteria: Annotated[Mapping[Line, Line], Field(min_length=1)]


class Domain(BaseModel):
    """A modality with its classes. Immutable; read by :func:`cas_metric.domains.load_domain`.

    Attributes:
        name: Short name by which commands call it: lower case, digits, dots and hyphens.
        title: Name for people.
        modality: What kind of image it is, e.g. ``chest radiograph``.
        source: Where classes and checklists come from (attribution).
        license: Licence of that text.
        embedded: Whether its images are phantoms, drawings that are never medical data.
        notes: What was repaired or chosen when the pack was written.
        classes: At least two, in the order in which tables list them.
        checklist_template: Assembly of t_c from ``{condition}`` and ``{attributes}``.
        prompt_schema: Form of an enriched prompt (Appendix B), where the domain has one.
        ranking: Criteria of ``cas judge``; general ones hold where there are none.
        symmetries: What leaves a picture of this domain a plausible one: ``mirror``, ``rotate90``
            (quarter turns), ``invert`` (negative). ``cas memorization`` looks for copies altered
            so by its hashes too.

    Examples:
        >>> from cas_metric.domains import load_domain
        >>> domain = load_domain("phantom-chexpert")
        >>> domain.canonical("pleural_effusion"), domain.index("Pleural Effusion")
        ('Pleural Effusion', 3)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=64)]
    title: Line
    modality: Line
    source: Line = "not stated"
    license: Line = "not stated"
    embedded: bool = False
    notes: tuple[Line, ...] = ()
    classes: Annotated[tuple[DomainClass, ...], Field(min_length=2)]
    checklist_template: Line = CHECKLIST_TEMPLATE
    prompt_schema: PromptSchema | None = None
    ranking: RankingCriteria | None = None
    symmetries: tuple[Symmetry, ...] = ()

    @field_validator("symmetries")
    @classmethod
    def _no_symmetry_twice(cls, symmetries: tuple[Symmetry, ...]) -> tuple[Symmetry, ...]:
        if len(set(symmetries)) < len(symmetries):
            raise ValueError("names one of them twice")
        return symmetries

    @field_validator("checklist_template")
    @classmethod
    def _names_both_fields(cls, template: str) -> str:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        if fields != _TEMPLATE_FIELDS:
            raise ValueError("must hold {condition} and {attributes}, and no other field")
        return template

    @field_validator("classes")
    @classmethod
    def _labels_are_unambiguous(cls, classes: tuple[DomainClass, ...]) -> tuple[DomainClass, ...]:
        owner: dict[str, str] = {}
        for spelling, name in _spellings(classes):
            key = normalise(spelling)
            if not key:
                raise ValueError(f"{spelling!r} holds no letter or digit")
            if owner.setdefault(key, name) != name:
                raise ValueError(f"{spelling!r} stands for both {owner[key]!r} and {name!r}")
        names = [normalise(item.name) for item in classes]
        twice = next((item.name for item in classes if names.count(normalise(item.name)) > 1), None)
        if twice is not None:
            raise ValueError(f"class {twice!r} is listed twice")
        return classes

    @model_validator(mode="after")
    def _schema_speaks_of_its_classes(self) -> Domain:
        for label in self.prompt_schema.labels if self.prompt_schema else ():
            if label not in self.class_names:
                raise ValueError(
                    f"prompt_schema.labels names {label!r}, which is not a class of this domain"
                )
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in file order."""
        return tuple(item.name for item in self.classes)

    @cached_property
    def _by_spelling(self) -> dict[str, DomainClass]:
        return {normalise(spelling): item for item in self.classes for spelling in item.spellings}

    def canonical(self, label: str) -> str:
        """Name of the class that ``label`` means, whatever its case, hyphens or synonym.

        Raises:
            InputError: No class goes by that name; the message names the nearest.
        """
        return self._class(label).name

    def index(self, label: str) -> int:
        """Position of the class of ``label`` in :attr:`class_names`."""
        return self.class_names.index(self.canonical(label))

    def checklist_text(self, label: str) -> str:
        """t_c of the class: ``Condition. Attribute: description; …`` in table order.

        Empty for a class without a checklist.
        """
        item = self._class(label)
        if not item.checklist:
            return ""
        return self.checklist_template.format(
            condition=item.name, attributes="; ".join(self.checklist_items(label))
        )

    def checklist(self, label: str) -> Mapping[str, str]:
        """Attribute to description of the class, in table order; empty where it has none."""
        return self._class(label).checklist

    def checklist_items(self, label: str) -> tuple[str, ...]:
        """One ``Attribute: description`` an item, in table order."""
        return tuple(f"{key}: {text}" for key, text in self.checklist(label).items())

    def _class(self, label: str) -> DomainClass:
        known = self._by_spelling
        key = normalise(str(label))
        if key in known:
            return known[key]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"did you mean {known[near[0]].name!r}? " if near else ""
        raise InputError(
            f"label {label!r} is no class of domain {self.name!r}",
            fix=f"{hint}its classes are: {', '.join(self.class_names)}",
        )


def _spellings(classes: tuple[DomainClass, ...]) -> Iterator[tuple[str, str]]:
    for item in classes:
        for spelling in item.spellings:
            yield spelling, item.name
