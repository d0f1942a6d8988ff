"""A fixture for the test suites of those who train generators: ``assert_aligned(run, policy)``.

pytest finds it by an entry point of the group ``pytest11``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cas_metric.gating import Policy
    from cas_metric.runs import Run
    from cas_metric.verbs.gate import GateResult


def check_aligned(
    run: str | Path | Run,
    policy: str | Path | Policy,
    *,
    baseline: str | Path | Run | None = None,
    undecided: str = "skip",
) -> GateResult:
    """Fail the test where a run violates a policy, and skip it where the images do not tell.

    Args:
        run: Folder of `cas score`, or the run.
        policy: YAML file, or the policy.
        baseline: In place of the policy's.
        undecided: ``skip``, ``fail`` or ``pass``.

    Returns:
        What the gate decided.

    Raises:
        ValueError: ``undecided`` is another word.
    """
    from cas_metric.verbs.gate import gate

    if undecided not in ("skip", "fail", "pass"):
        raise ValueError(f"undecided={undecided!r}: one of skip, fail, pass")
    result = gate(run, policy, baseline=baseline)
    told = undecided if result.verdict == "undecided" else result.verdict
    if told == "fail":
        pytest.fail(result.text, pytrace=False)
    if told == "skip":
        pytest.skip(result.text)
    return result


@pytest.fixture
def assert_aligned() -> Callable[..., GateResult]:
    """:func:`check_aligned`, as a fixture."""
    return check_aligned
