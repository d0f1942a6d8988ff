"""Whether a run meets a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.gating.rules import FAIL, PASS, UNDECIDED, Decision
from cas_metric.verbs.inputs import load_run
from cas_metric.verbs.result import Result

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.gating.policy import Policy
    from cas_metric.runs import Run

#: Exit codes of the command. Neither 2 (wrong input) nor 3 (some images failed) is a verdict.
EXIT_CODES: Final = {PASS: 0, FAIL: 1, UNDECIDED: 5}
#: Name of the JUnit file that a result saves.
JUNIT: Final = "junit.xml"


@dataclass(frozen=True, eq=False)
class GateResult(Result):
    """What a gate decided.

    Attributes:
        verdict: ``pass``, ``fail`` or ``undecided``.
        decisions: What became of each rule.
    """

    verdict: str = UNDECIDED
    decisions: tuple[Decision, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 for pass, 1 for fail, 5 for undecided."""
        return EXIT_CODES[self.verdict]


def gate(
    run: str | Path | Run, policy: str | Path | Policy, *, baseline: str | Path | Run | None = None
) -> GateResult:
    """Hold a run against a policy.

    Args:
        run: Folder of `cas score`, or the run.
        policy: YAML file, or the policy; see :mod:`cas_metric.gating.policy`.
        baseline: Run that ``against: baseline`` means, in place of the policy's.

    Returns:
        A result named ``gate``; saved, it writes ``gate.json``, ``gate.csv``, ``gate.md`` (a
        summary for a pull request) and ``junit.xml``.

    Raises:
        InputError: A run or the policy cannot be read, or a rule speaks of what is not there.

    Examples:
        >>> import cas_metric
        >>> from pathlib import Path
        >>> _ = Path("policy.yaml").write_text("rules: [{metric: cas, at_least: -1}]")
        >>> cas_metric.gate("demo/run", "policy.yaml").verdict
        'pass'
    """
    import pandas as pd

    from cas_metric.gating.junit import junit_xml
    from cas_metric.gating.policy import Policy, read_policy
    from cas_metric.gating.rules import decide, overall
    from cas_metric.runs.folder import Origin

    rules = policy if isinstance(policy, Policy) else read_policy(policy)
    ours = load_run(run)
    base = baseline if baseline is not None else rules.baseline
    needed = any(rule.against == "baseline" for rule in rules.rules)
    theirs = load_run(base) if base is not None and needed else None
    references = {"real": ours.real, "floor": ours.floor}
    if theirs is not None:
        _require_same_encoder(ours, theirs)
        references["baseline"] = _as_methods_of(ours.rows, theirs)
    decisions = tuple(decide(rules, _with_calibrated(ours), references))
    verdict = overall(decisions)
    name = ours.path.name if ours.path is not None else "run"
    summary: dict[str, Any] = {
        "verdict": verdict,
        "exit_code": EXIT_CODES[verdict],
        "run": str(ours.path or "in memory"),
        "baseline": str(theirs.path or "in memory") if theirs else None,
        "confidence": rules.confidence,
        "embedded_world": bool(ours.summary.get("embedded_world")),
        "decisions": [asdict(one) for one in decisions],
    }
    return GateResult(
        "gate",
        summary,
        _markdown(name, summary, decisions),
        {"gate": pd.DataFrame(summary["decisions"])},
        (partial(_write_junit, junit_xml(name, decisions)),),
        warnings=_warnings(ours, theirs),
        files=(JUNIT,),
        origin=Origin.of_verb(
            "gate", {"run": ours.path, "policy": policy, "baseline": theirs and theirs.path}
        ),
        verdict=verdict,
        decisions=decisions,
    )


def _with_calibrated(run: Run) -> pd.DataFrame:
    """The rows, with the ranks and the alignment of cas-v2 where the run has them."""
    calibrated = getattr(run, "calibrated", None)
    if calibrated is None or len(calibrated) != len(run.rows):
        return run.rows
    names = [name for name in calibrated if name.startswith("rank_") or name == "alignment"]
    return run.rows.assign(**{name: calibrated[name].to_numpy() for name in names})


def _warnings(ours: Run, theirs: Run | None) -> tuple[str, ...]:
    """Those of the run, and of its baseline, which are said to be the baseline's."""
    own = tuple(ours.summary.get("warnings") or ())
    other = tuple((theirs.summary.get("warnings") if theirs is not None else None) or ())
    return own + tuple(f"baseline: {text}" for text in other)


def _require_same_encoder(ours: Run, theirs: Run) -> None:
    names = [run.summary["encoder"].get("name") for run in (ours, theirs)]
    if ours.summary["encoder"]["fingerprint"] != theirs.summary["encoder"]["fingerprint"]:
        raise InputError(
            f"the run was scored by {names[0]}, its baseline by another {names[1]}",
            fix="score both with the same encoder, revision, dtype and text policy",
        )


def _as_methods_of(rows: pd.DataFrame, base: Run) -> pd.DataFrame:
    """The baseline's rows: of the methods of the run, or the one that it has."""
    ours, theirs = (sorted(set(table["method"].astype(str))) for table in (rows, base.rows))
    if ours == theirs or len(theirs) == 1:
        return _with_calibrated(base)
    raise InputError(
        f"the baseline holds the methods {', '.join(theirs)}, the run {', '.join(ours)}",
        fix="gate against a run of one method, or of the same methods",
    )


def _write_junit(content: bytes, folder: Path) -> None:
    from cas_metric.files import write_bytes

    write_bytes(folder / JUNIT, content)


def _markdown(name: str, summary: dict[str, Any], decisions: Sequence[Decision]) -> str:
    """The summary for a pull request."""
    from cas_metric.gating.junit import title
    from cas_metric.statistics.rounding import bracketed, fixed

    counts = [sum(one.verdict == word for one in decisions) for word in (PASS, FAIL, UNDECIDED)]
    lines = [
        f"# Gate: {summary['verdict']}",
        "",
        f"{name}: {counts[0]} passed, {counts[1]} failed, {counts[2]} undecided"
        + (f"; baseline {summary['baseline']}" if summary["baseline"] else "")
        + ".",
        "",
        "| verdict | rule | method | estimate | interval | limit | cases |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for one in decisions:
        bounds = one.reason or bracketed((one.low, one.high))
        cells = (one.verdict, title(one), one.method, fixed(one.estimate), bounds)
        figures = (*cells, fixed(one.limit), one.clusters)
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in figures) + " |")
    lines += [
        "",
        f"Of runs that meet every rule at most {1 - summary['confidence']:.1%} fail. Undecided: "
        "the interval holds the limit; more cases, or a margin, decide it.",
    ]
    if summary["embedded_world"]:
        lines += ["", "Phantom images: drawings, not medical data."]
    return "\n".join(lines) + "\n"
