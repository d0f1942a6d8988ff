"""The helper that holds a walk in the documentation against a run finds both kinds of faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.walk import check_walk, disorder, named_steps

import cas_metric.errors as errors

PAGE = """# A page

## The walk

Before the list `not.counted`.

1. First `errors.InputError.make` and
   `errors.other`, which continues.
2. Then `errors.first_again`.

After it `not.counted`.

## Next

1. `not.counted`
"""


def test_names_are_those_of_the_numbered_list(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert named_steps(page, "## The walk") == [
        "errors.InputError.make", "errors.other", "errors.first_again"
    ]  # fmt: skip
    with pytest.raises(AssertionError, match="no heading"):
        named_steps(page, "## Elsewhere")


def test_disorder_names_what_was_not_called_and_what_came_too_early() -> None:
    assert disorder(["a", "b", "c"], ["a", "x", "b", "c"]) == []
    assert disorder(["a", "b"], ["b"]) == ["a is not called"]
    assert disorder(["a", "b"], ["b", "a"]) == ["b is called before a"]


def test_a_walk_is_held_against_the_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# T\n\n## W\n\n1. `errors.CasError.__init__`\n2. `errors.PreflightError.__init__`\n"
    )

    def job() -> None:
        errors.InputError("wrong", fix="mend")
        errors.PreflightError(["wrong"], fix="mend")

    check_walk(page, "## W", "cas_metric", job)
    with pytest.raises(AssertionError, match="is not called"):
        check_walk(page, "## W", "cas_metric", lambda: None)
