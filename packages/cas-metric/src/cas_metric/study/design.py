"""What is asked of raters, decided when a study is created and never changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from cas_metric.errors import InputError

#: How images are shown: all of a case to be ranked, two of them, or one at a time.
RANK: Final = "rank"
PAIRS: Final = "pairs"
SINGLE: Final = "single"
LAYOUTS: Final = (RANK, PAIRS, SINGLE)
#: Key of the real-or-synthetic question in tables.
REAL_ITEM: Final = "real"
#: Points of a Likert item.
MIN_POINTS: Final = 2
MAX_POINTS: Final = 9
#: Between a case and its repetition lie at least so many others, where the study is long enough.
GAP: Final = 10


@dataclass(frozen=True)
class Question:
    """One question on one image.

    Attributes:
        key: Name in forms and tables.
        text: What raters read.
        choices: Value to what is written on its button, in the order of the buttons.
    """

    key: str
    text: str
    choices: Mapping[int, str]


@dataclass(frozen=True)
class Design:
    """How a study asks.

    Attributes:
        layout: One of :data:`LAYOUTS`.
        ties: Whether images may share a rank.
        points: Points of the Likert items, 0 for none.
        items: What is rated: one Likert item each.
        ask_real: Whether each image is called real or synthetic.
        repeats: Cases that every rater meets twice.

    Raises:
        InputError: The parts do not go together.

    Examples:
        >>> [question.text for question in Design(points=5, items=("Realism",)).questions]
        ['Realism']
    """

    layout: str = RANK
    ties: bool = False
    points: int = 0
    items: tuple[str, ...] = ()
    ask_real: bool = False
    repeats: int = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InputError(
                f"there is no layout {self.layout!r}", fix=f"choose {', '.join(LAYOUTS)}"
            )
        if self.points and not MIN_POINTS <= self.points <= MAX_POINTS:
            raise InputError(
                f"a scale of {self.points} points", fix=f"use {MIN_POINTS} to {MAX_POINTS}"
            )
        if self.points and not self.items:
            raise InputError(
                "there is nothing to rate on a scale", fix="list criteria in the study.yaml"
            )
        if self.layout == SINGLE and not self.questions:
            raise InputError(
                "single images have no order, so that nothing would be asked",
                fix="add --likert POINTS or --ask-real",
            )

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked of every image beside its rank."""
        scale = {value: str(value) for value in range(1, self.points + 1)}
        likert = [
            Question(f"item{k}", text, scale)
            for k, text in enumerate(self.items if self.points else (), 1)
        ]
        real = [Question(REAL_ITEM, "Real or synthetic?", {1: "Real", 0: "Synthetic"})]
        return (*likert, *(real if self.ask_real else ()))

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "items": list(self.items)}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Design:
        """The design among a study's settings; studies of older versions rank strictly."""
        found: Mapping[str, Any] = settings.get("design", {})
        return cls(**{**found, "items": tuple(found.get("items", ()))})


def competition_ranks(ranks: Mapping[int, int]) -> dict[int, int]:
    """Ranks of tied images: one more than how many are better (1, 1, 3).

    >>> competition_ranks({1: 2, 2: 2, 3: 5})
    {1: 1, 2: 1, 3: 3}
    """
    given: Sequence[int] = list(ranks.values())
    return {place: 1 + sum(other < rank for other in given) for place, rank in ranks.items()}
