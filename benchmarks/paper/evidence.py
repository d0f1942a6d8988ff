"""Steps with a language model or physicians in them: audit, automated and human preference."""

from __future__ import annotations

from benchmarks.paper.pipeline import ANSWER, SCORE, START, Pipeline, words_of
from benchmarks.paper.steps import Step, Work

from cas_metric.errors import CasError


def audit(pipeline: Pipeline, names: tuple[str, ...]) -> Step:
    """Checklist items judged by a language model (§4.2.7), one generation seed."""
    out = pipeline.folder / "audit"
    scored = [pipeline.score(name) for name in names]
    given = [f"{n}={s.result.parent}" for n, s in zip(names, scored, strict=True)]
    words = ("--mllm", _mllm(pipeline), "--seed", 0, "--control", *pipeline.stored, "--out", out)
    return Step(
        "audit",
        words_of("cas", "audit", *given, *words),
        out / "summary.json",
        needs=tuple(scored),
        work=Work(fixed=START + 2 * len(names) * pipeline.count("test") * ANSWER),
    )


def judge(pipeline: Pipeline, names: tuple[str, ...]) -> Step:
    """The images of a case ranked by a language model (Appendix E), one generation seed."""
    out = pipeline.folder / "judge"
    scored = [pipeline.score(name) for name in names]
    given = [f"{n}={s.result.parent}" for n, s in zip(names, scored, strict=True)]
    orders = ("--permutations", len(names))
    words = ("--mllm", _mllm(pipeline), "--seed", 0, *orders, *pipeline.stored, "--out", out)
    return Step(
        "judge",
        words_of("cas", "judge", *given, *words),
        out / "summary.json",
        needs=tuple(scored),
        work=Work(fixed=START + len(names) * pipeline.count("test") * ANSWER),
    )


def compare(pipeline: Pipeline, names: tuple[str, ...]) -> Step:
    """CAS of several methods as one table."""
    out, scored = pipeline.folder / "comparison", [pipeline.score(name) for name in names]
    given = [f"{n}={s.result.parent}" for n, s in zip(names, scored, strict=True)]
    return Step(
        "comparison",
        words_of("cas", "compare", *given, "--out", out),
        out / "comparison.csv",
        needs=tuple(scored),
        work=Work(fixed=SCORE),
    )


def preference(pipeline: Pipeline, names: tuple[str, ...]) -> Step:
    """Physicians' rankings (§4.2.6) against CAS."""
    out = pipeline.folder / "preference"
    if pipeline.settings.rankings is None:
        raise CasError(
            "Figure 5 needs the rankings of physicians",
            fix="collect them with `cas study`, then --rankings FILE",
        )
    compared = compare(pipeline, names)
    words = ("--cas", compared.result, "--out", out)
    return Step(
        "preference",
        words_of("cas", "preference", pipeline.settings.rankings, *words),
        out / "preference.json",
        needs=(compared,),
        work=Work(fixed=SCORE),
    )


def _mllm(pipeline: Pipeline) -> str:
    if pipeline.settings.mllm is None:
        raise CasError(
            "Table 3b and Figures 6 and 7 need a multimodal language model",
            fix="--mllm SPEC, as for `cas audit`: openai:MODEL or local:DIR",
        )
    return pipeline.settings.mllm
