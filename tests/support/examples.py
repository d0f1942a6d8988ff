"""The API reference of a package: what its page holds, and the examples that each shows."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parents[2] / "docs" / "api"


def documented(page: str) -> list[str]:
    """Full names of the objects of ``docs/api/PAGE.md``, in order."""
    return re.findall(r"^::: (\S+)$", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.M)


def run_examples(name: str, given: dict[str, Any]) -> None:
    """Run what an object, or a public method of it, shows; fail where that is nothing.

    Args:
        name: Full name of a class or function.
        given: Names that the examples may use besides those of the object's own module.
    """
    module, _, attribute = name.rpartition(".")
    shown = getattr(importlib.import_module(module), attribute)
    tests = [
        test
        for test in doctest.DocTestFinder(exclude_empty=True).find(shown, name)
        if test.examples and "._" not in test.name
    ]
    assert tests, f"{name} shows no example"
    assert not any("Example:\n" in (test.docstring or "") for test in tests), "write Examples:"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        assert not [one.source for one in test.examples if doctest.SKIP in one.options]
        test.globs = {**test.globs, **given}
        told: list[str] = []
        runner.run(test, out=told.append)
        assert not told, "".join(told)
