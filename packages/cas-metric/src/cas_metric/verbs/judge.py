"""A multimodal language model ranks the images of several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.mllm.asking import Asked, Asking, put_questions
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.report.preference import draw_figures
from cas_metric.runs.folder import result_folder
from cas_metric.runs.provenance import provenance
from cas_metric.statistics.preference_table import analyse, correlate_with, score_table
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number, percent, told_p
from cas_metric.verbs.audit import PACKAGES
from cas_metric.verbs.inputs import made_of
from cas_metric.verbs.preference import mean_cas
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import FolderResult

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.mllm.judge import Cases
    from cas_metric.mllm.sources import Images
    from cas_metric.statistics.preference import Rankings

MODEL: Final = "bradley-terry"
#: Penalty on the scores where a method always wins, and they would be infinite without one.
RIDGE: Final = 0.01
#: Fewest methods of a correlation.
_CORRELATED: Final = 3


def judge(
    sources: Sequence[str],
    mllm: str | Asking,
    *,
    domain: str | None = None,
    seed: int | None = None,
    cases: int | None = None,
    permutations: int = 2,
    draw_seed: int = BOOTSTRAP_SEED,
    cas: str | Path | None = None,
    resamples: int = RESAMPLES,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Have a multimodal language model rank the images that methods made of the same cases.

    Args:
        sources: Runs, manifests or folders, ``PATH`` or ``NAME=PATH`` each.
        mllm: The model, as :func:`cas_metric.mllm.open_model` takes it, or with everything that
            decides how it is asked.
        domain: Criteria and classes; by default what the sources say.
        seed: Only images of this generation seed.
        cases: Judge only so many randomly drawn cases.
        permutations: Orders in which each case is shown.
        draw_seed: Seed of the drawn cases and of the orders.
        cas: Table with ``method`` and ``cas`` to correlate; by default the mean CAS of the sources
            where all are runs.
        resamples: Random arrangements of the permutation tests.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told after every answer.

    Returns:
        Tables ``rankings`` (which ``preference`` reads) and ``questions``, and in the summary
        scores, places and repeatability. Saved by default into ``judge``.

    Raises:
        InputError: Sources that cannot be read, or no domain.
        ModelUnavailable: The model cannot be had.

    Examples:
        >>> sets = ["good=demo/generated/faithful", "bad=demo/generated/wrong"]
        >>> result = judge(sets, "openai:my-model", cases=6)  # the server of CAS_MLLM_BASE_URL
        >>> result.summary["preference"]["top1"]["good"]["estimate"]
        1.0
    """
    from cas_metric.mllm.judge import (
        balanced_orders,
        find_cases,
        judge_requests,
        judge_rows,
        sample_cases,
    )
    from cas_metric.mllm.sources import read_images

    asking = mllm if isinstance(mllm, Asking) else Asking(mllm)
    images = read_images(sources, domain=domain, seed=seed, offline=asking.offline)
    origin = made_of("judge", sources, asking.spec, seed=seed)
    folder = result_folder(out, Path("judge"), origin)
    found = sample_cases(find_cases(images.table), cases, draw_seed)
    known = known_cas(images, found, Path(cas) if cas is not None else None)
    orders = balanced_orders(len(found.methods), len(found.cases), permutations, draw_seed)
    requests = judge_requests(found, images.table, images.domain, orders)
    asked = put_questions(requests, asking, counting(progress, "rankings"))
    rankings, questions = judge_rows(found, orders, asked.answers, asking.spec)
    summary = judge_summary(
        (images, found),
        (rankings, questions),
        asked,
        known,
        {"permutations": permutations, "draw_seed": draw_seed, "resamples": resamples},
    )
    summary["provenance"]["origin"] = origin.as_dict()
    text = judge_markdown(summary)
    return FolderResult(
        "judge",
        summary,
        text,
        {"rankings": rankings, "questions": questions},
        (partial(_write_rest, summary, text),),
        {f"{one['case']}, order {one['permutation']}": one["error"] for one in summary["failures"]},
        notes=tuple(summary["notes"]),
        folder=folder,
        closing="Rankings: {folder}/rankings.csv (for `cas preference`)",
    )


def known_cas(images: Images, found: Cases, table: Path | None) -> tuple[dict[str, float], str]:
    """Mean CAS of each method and where it comes from: the table, else the runs.

    Empty where nothing was given and not every method has scores; the mean is taken over the cases
    that are judged.

    Raises:
        InputError: The table cannot be read, has several rows of one method, or holds fewer than
            three of the methods.
    """
    if table is not None:
        known = mean_cas(table, str(table))
        if sum(name in known for name in found.methods) < _CORRELATED:
            raise InputError(
                f"{table} holds fewer than {_CORRELATED} of the methods; a correlation needs them",
                fix=f"name the methods alike: {', '.join(found.methods)}",
            )
        return known, str(table)
    rows = images.table.loc[[row for case in found.cases for row in case.images]]
    means = rows.groupby("method")["cas"].mean()
    if len(found.methods) < _CORRELATED or means.isna().any():
        return {}, ""
    return {str(name): float(value) for name, value in means.items()}, "the runs"


def judge_summary(
    judged: tuple[Images, Cases],
    tables: tuple[pd.DataFrame, pd.DataFrame],
    asked: Asked,
    cas: tuple[Mapping[str, float], str],
    settings: Mapping[str, int],
) -> dict[str, Any]:
    """Content of ``summary.json``.

    Args:
        judged: The images and their cases.
        tables: Rankings and questions of :func:`cas_metric.mllm.judge.judge_rows`.
        asked: Who ranked.
        cas: Of :func:`known_cas`.
        settings: ``permutations``, ``draw_seed`` and ``resamples``.
    """
    from cas_metric.mllm.judge import GENERAL
    from cas_metric.statistics.preference import parse_rankings

    (images, found), (rankings, questions) = judged, tables
    domain = images.domain
    criteria = domain.ranking or GENERAL
    failed = questions[questions["status"] != "ok"]
    summary: dict[str, Any] = {
        "kind": "judge",
        "domain": domain.name,
        "title": domain.title,
        "embedded_world": domain.embedded,
        "judge": asked.model,
        "role": criteria.role,
        "criteria": dict(criteria.criteria),
        "settings": {**settings, "seed": BOOTSTRAP_SEED, "level": CONFIDENCE},
        "methods": list(found.methods),
        "n_cases": len(found.cases),
        "n_questions": len(questions),
        "failures": failed[["case", "permutation", "status", "error"]].to_dict("records"),
        "notes": [*images.notes, *found.notes, *asked.notes],
        "preference": None,
        "repeatability": None,
        "places": None,
        "shown": None,
        "provenance": provenance("judge", PACKAGES, images.inputs),
        "timing": asked.timing,
    }
    if len(rankings):
        draw = {"resamples": settings["resamples"], "seed": BOOTSTRAP_SEED}
        summary |= _figures(parse_rankings(rankings), cas, draw)
    return summary


def _figures(
    parsed: Rankings, cas: tuple[Mapping[str, float], str], draw: dict[str, int]
) -> dict[str, Any]:
    """Everything that is computed from the rankings."""
    from cas_metric.mllm.judge import letters
    from cas_metric.statistics.repeatability import places, repeatability, shown_counts

    scores = _scores(parsed, draw)
    known, source = cas
    if sum(name in known for name in scores["scores"]) >= _CORRELATED:
        try:
            scores["correlation"] = correlate_with(scores, known, source)
        except InputError as error:  # equal scores correlate with nothing
            scores["warnings"].append(f"no correlation with CAS: {error.problem}")
    again = repeatability(parsed)
    return {
        "preference": scores,
        "repeatability": None if again is None else _plain(again),
        "places": {letters(k)[-1]: _plain(place) for k, place in places(parsed).items()},
        "shown": shown_counts(parsed),
    }


def _scores(parsed: Rankings, draw: dict[str, int]) -> dict[str, Any]:
    """Preference scores; penalised where they would be infinite, which a warning says."""
    try:
        return analyse(parsed, MODEL, 0.0, draw)
    except InputError as error:
        scores = analyse(parsed, MODEL, RIDGE, draw)
        warning = f"{error.problem}; the scores below are penalised (ridge {RIDGE})"
        return {**scores, "warnings": [warning, *scores["warnings"]]}


def _plain(found: Any) -> dict[str, Any]:
    """A named tuple whose values may be intervals, as plain values."""
    values = found._asdict().items()
    return {k: v._asdict() if hasattr(v, "_asdict") else v for k, v in values}


def _write_rest(summary: Mapping[str, Any], text: str, folder: Path) -> None:
    """The text and the figures."""
    write_bytes(folder / "judge.md", text.encode())
    if summary["preference"] is not None:
        draw_figures(folder, summary["preference"])
        _draw_places(folder, summary["places"])


def _draw_places(folder: Path, found: Mapping[str, Any]) -> None:
    from cas_metric.report import figures
    from cas_metric.statistics.uncertainty import Interval

    rates = {f"shown as {letter}": Interval(**one["rate"]) for letter, one in found.items()}
    figures.save_figure(figures.top1(rates, chance=1 / len(rates)), folder / "places")


# -- text -----------------------------------------------------------------------------------------


def judge_markdown(summary: Mapping[str, Any]) -> str:
    """Scores, places and repeatability as Markdown."""
    parts = [PHANTOM_NOTICE] if summary["embedded_world"] else []
    parts += [f"# Ranking judge on {summary['domain']}", _opening(summary)]
    scores = summary["preference"]
    if scores is None:
        parts.append("No question got a ranking; questions.csv says why.")
        return "\n\n".join(parts) + "\n"
    parts += [f"**Warning.** {warning}" for warning in scores["warnings"]]
    parts += [f"## Preference\n\n{score_table(scores)}", _places(summary), _repeatability(summary)]
    if "correlation" in scores:
        from cas_metric.statistics.correlation_table import coefficient_table

        table = coefficient_table(scores["correlation"]["coefficients"])
        parts.append(f"## CAS against preference\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _opening(summary: Mapping[str, Any]) -> str:
    failed = len(summary["failures"])
    without = f"; {failed} got no ranking, see questions.csv" if failed else ""
    criteria = "; ".join(f"{name} ({text})" for name, text in summary["criteria"].items())
    orders = summary["settings"]["permutations"]
    return (
        f"{summary['n_cases']} cases, each in {orders} order{'s' if orders > 1 else ''}, ranked by "
        f"{summary['judge']['spec']} as {summary['role']}{without}. Criteria: {criteria}. "
        "Bradley-Terry log-scores, 95% intervals over cases. A language model is no "
        "clinician."
    )


def _places(summary: Mapping[str, Any]) -> str:
    found, bias = summary["places"], summary["preference"]["position_bias"]
    chance = 1 / len(found)
    lines = []
    for letter, one in found.items():
        rate = one["rate"]
        bounds = f"[{percent(rate['low'])}, {percent(rate['high'])}]"
        excess = 100 * (rate["estimate"] - chance)
        lines.append(
            [
                letter,
                str(one["shown"]),
                str(one["first"]),
                f"{percent(rate['estimate'])} {bounds}",
                fixed(excess, 1, signed=True),
                number(one["mean_rank"], 2),
            ]
        )
    headings = ["Letter", "shown", "ranked first", "share", "points over chance", "mean rank"]
    return (
        f"## Places\n\nA judge that looks at the images alone ranks each letter first in "
        f"{percent(chance)} of the rankings. Chi-squared test of that: {told_p(bias['p'])}."
        "\n\n"
        f"{markdown_table(headings, lines)}"
    )


def _repeatability(summary: Mapping[str, Any]) -> str:
    found = summary["repeatability"]
    if found is None:
        return (
            "Each case was shown in one order only: how far the judge agrees with itself is not "
            "known (`--permutations`)."
        )
    tau, same = found["kendall_tau"], found["same_first"]
    return (
        f"## Repeatability\n\nOver {found['n_cases']} cases shown in several orders: Kendall's tau "
        f"between the rankings of a case {number(tau['estimate'])} [{number(tau['low'])}, "
        f"{number(tau['high'])}] (1: the order changes nothing; 0: unrelated); the same image "
        f"first in every order {percent(same['estimate'])} [{percent(same['low'])}, "
        f"{percent(same['high'])}] (by chance {percent(found['same_first_chance'])})."
    )
