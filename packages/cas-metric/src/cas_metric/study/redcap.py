"""Answers for REDCap, and the codebook that says what every column means.

The codebook is REDCap's data dictionary, so that a project can be made from it and the answers
imported into it; any spreadsheet or statistics program reads both.

Source: the column names of the data dictionary are those that REDCap exports and imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from cas_metric.study.design import Design

if TYPE_CHECKING:
    import pandas as pd

FORM: Final = "reader_study"
DICTIONARY_COLUMNS: Final = (
    "Variable / Field Name",
    "Form Name",
    "Section Header",
    "Field Type",
    "Field Label",
    "Choices, Calculations, OR Slider Labels",
    "Field Note",
    "Text Validation Type OR Show Slider Number",
    "Text Validation Min",
    "Text Validation Max",
    "Identifier?",
    "Branching Logic (Show field only if...)",
    "Required Field?",
    "Custom Alignment",
    "Question Number (surveys only)",
    "Matrix Group Name",
    "Matrix Ranking?",
    "Field Annotation",
)
_KINDS: Final = {"main": 1, "practice": 2, "repeat": 3}
#: Verdict to its code.
VERDICTS: Final = {"ranked": 1, "cannot-judge": 2, "unanswered": 0}


def records(details: pd.DataFrame, ratings: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """One record a rater and case.

    Args:
        details: As :func:`cas_metric.study.results.details` returns them.
        ratings: As :func:`cas_metric.study.results.ratings` returns them.
        methods: In the order of their numbers in the fields' names.

    Returns:
        ``record_id``, what is known of the case, then rank, position and ratings of each method
        under the names of :func:`dictionary`; empty where a method was not shown.
    """
    import pandas as pd

    whole = details.drop_duplicates(["rater", "case_number"]).reset_index(drop=True)
    people = {name: number for number, name in enumerate(dict.fromkeys(whole["rater"]), 1)}
    table = pd.DataFrame(
        {
            "record_id": [
                f"{people[rater]}-{number}"
                for rater, number in zip(whole["rater"], whole["case_number"], strict=True)
            ],
            **{name: whole[name] for name in ("rater", "case_number")},
            "case_key": whole["case"],
            "label": whole["label"],
            "kind": whole["kind"].map(_KINDS),
            "verdict": whole["verdict"].map(VERDICTS),
            **{name: whole[name] for name in ("reason", "note", "seconds", "opened_at")},
            **{name: whole[name] for name in ("submitted_at", "revision")},
        }
    )
    keys = pd.MultiIndex.from_frame(whole[["rater", "case_number"]])
    for number, method in enumerate(methods, 1):
        mine = details[details["method"] == method].set_index(["rater", "case_number"])
        for name in ("rank", "position"):  # Int64: REDCap refuses "2.0" as an integer
            values = mine[name].reindex(keys).astype("Int64")
            table[f"{name}_{number}"] = values.to_numpy(object)
        rated = ratings[ratings["method"] == method]
        for item in sorted(ratings["item"].unique()):
            values = rated[rated["item"] == item].set_index(["rater", "case_number"])["value"]
            table[f"{item}_{number}"] = values.reindex(keys).astype("Int64").to_numpy()
    return table


def dictionary(design: Design, methods: list[str]) -> pd.DataFrame:
    """The codebook of :func:`records`: a REDCap data dictionary."""
    import pandas as pd

    rows = []
    for name, kind, text, choices, check in _fields(design, methods):
        row: dict[str, Any] = dict.fromkeys(DICTIONARY_COLUMNS, "")
        row |= {
            "Variable / Field Name": name,
            "Form Name": FORM,
            "Field Type": kind,
            "Field Label": text,
            "Choices, Calculations, OR Slider Labels": choices,
            "Text Validation Type OR Show Slider Number": check,
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=list(DICTIONARY_COLUMNS))


def _fields(design: Design, methods: list[str]) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, type, label, choices and validation of every field."""
    yield "record_id", "text", "Number of the rater, number of the case in their order", "", ""
    yield "rater", "text", "Name of the rater", "", ""
    yield "case_number", "text", "Place of the case in the rater's order", "", "integer"
    yield "case_key", "text", "Key of the case; a repetition has that of its original", "", ""
    yield "label", "text", "Target diagnosis", "", ""
    kinds = "1, counts | 2, practice, does not count | 3, repetition"
    yield "kind", "radio", "Kind of the case", kinds, ""
    verdicts = "1, judged | 2, cannot be judged | 0, not answered"
    yield "verdict", "radio", "Answer", verdicts, ""
    yield "reason", "text", "Why the case cannot be judged", "", ""
    yield "note", "notes", "Note of the rater", "", ""
    yield "seconds", "text", "Active time on the case, in seconds", "", "number"
    yield "opened_at", "text", "First opened (UTC, ISO 8601)", "", ""
    yield "submitted_at", "text", "Last answered (UTC, ISO 8601)", "", ""
    yield "revision", "text", "How often it was answered", "", "integer"
    tied = "; images that tie share a rank" if design.ties else ""
    for number, method in enumerate(methods, 1):
        yield f"rank_{number}", "text", f"{method}: rank, 1 is best{tied}", "", "integer"
        yield f"position_{number}", "text", f"{method}: place on the page, from 1", "", "integer"
        for question in sorted(design.questions, key=lambda one: one.key):
            choices = " | ".join(f"{value}, {text}" for value, text in question.choices.items())
            yield (
                *(f"{question.key}_{number}", "radio", f"{method}: {question.text}"),
                *(choices, ""),
            )
