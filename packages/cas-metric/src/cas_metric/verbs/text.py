"""Lists for people: the first few, and how many more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

#: Of these many the names are told.
_SHOWN: Final = 3


def first_few(names: Sequence[str], separator: str = ", ") -> str:
    """The first names, and how many more there are.

    Examples:
        >>> first_few(["a", "b"]), first_few(["a", "b", "c", "d", "e"])
        ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more


def listed(names: str | Sequence[str]) -> list[str]:
    """Names as a list; a text alone is one name, not its letters.

    Examples:
        >>> listed("sex"), listed(("sex", "age"))
        (['sex'], ['sex', 'age'])
    """
    return [names] if isinstance(names, str) else list(names)


def failures_line(failures: Mapping[str, str]) -> str:
    """How many images were left out, and of the first few the reason.

    Examples:
        >>> failures_line({"a.png": "damaged"})
        '1 image could not be read and was left out: a.png: damaged.'
    """
    # Most reasons begin with the file.
    reasons = [
        why if why.startswith(image) else f"{image}: {why}" for image, why in failures.items()
    ]
    told = first_few(reasons, "; ")
    one = len(failures) == 1
    count = "1 image" if one else f"{len(failures)} images"
    return f"{count} could not be read and {'was' if one else 'were'} left out: {told}."
