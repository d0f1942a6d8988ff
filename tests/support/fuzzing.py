"""Malformed files for property tests.

``CAS_FUZZ_EXAMPLES=10000 pytest …`` runs them at length.
"""

from __future__ import annotations

import os

from hypothesis import strategies as st

#: Examples a property.
FUZZ = int(os.environ.get("CAS_FUZZ_EXAMPLES", "200"))

#: Snippets that mean something to YAML or CSV.
_YAML = (
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a",
    "*a",
    "!!int ",
    "!x ",
    "'",
    "#",
    "|",
    ">",
    "~",
    "<<: ",
)
_OTHER = ("", '"', "null", "\t", "\n", "\r", "  ", ",", ",,", "…", "../", "\0", "é", "%", "?", "-1")
_EDITS = ("drop", "double", "swap", "indent", "insert", "cut", "replace")


@st.composite
def garbled(draw: st.DrawFn, text: str) -> str:
    """``text`` after one to four edits: lines dropped, doubled, swapped, indented or changed."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        if not lines:
            break
        i = draw(st.integers(0, len(lines) - 1))
        j = draw(st.integers(0, len(lines) - 1))
        edit = draw(
            st.sampled_from(["drop", "double", "swap", "indent", "insert", "cut", "replace"])
        )
        if edit == "drop":
            del lines[i]
        elif edit == "double":
            lines.insert(j, lines[i])
        elif edit == "swap":
            lines[i], lines[j] = lines[j], lines[i]
        elif edit == "indent":
            lines[i] = draw(st.sampled_from([" ", "  ", "\t"])) + lines[i]
        else:
            lines[i] = _changed(draw, lines[i], edit)
    return "\n".join(lines) + draw(st.sampled_from(["\n", ""]))


def _changed(draw: st.DrawFn, line: str, edit: str) -> str:
    at = draw(st.integers(0, len(line)))
    end = at if edit == "insert" else draw(st.integers(at, len(line)))
    new = "" if edit == "cut" else draw(st.sampled_from(_YAML + _OTHER) | st.text(max_size=5))
    return line[:at] + new + line[end:]
