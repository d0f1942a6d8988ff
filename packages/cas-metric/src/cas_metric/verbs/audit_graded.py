"""The part of an audit that speaks of P(yes): scores, calibration, agreement, best of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.statistics.tables import markdown_table, number

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.mllm.sources import Images

#: Scores of a run that the score of the checklist is held against, and what people call them.
AGAINST: Final = {"ccs": "CCS", "cas": "CAS", "alignment": "cas-v2"}
_KEYS: Final = ["method", "seed", "id"]


def score_images(images: Images, rows: pd.DataFrame) -> pd.DataFrame:
    """The table of images with ``score``, the mean of their items' scores."""
    from cas_metric.statistics.graded import image_scores

    scores = image_scores(rows).rename("score").reset_index()
    return images.table.assign(score=scores["score"].to_numpy())


def graded_summary(
    images: Images,
    rows: pd.DataFrame,
    control: pd.DataFrame | None,
    verdicts: pd.DataFrame | None,
) -> dict[str, Any]:
    """Everything that is computed from the scores of items.

    Args:
        images: What was audited.
        rows: One row an item of the images' own classes.
        control: The same of other classes, where they were asked for.
        verdicts: Of another audit, to calibrate against.
    """
    import numpy as np
    import pandas as pd

    from cas_metric.statistics.graded import auroc, best_of_n, calibration, method_scores
    from cas_metric.statistics.pass_rates import agreement_with_score, image_table

    scored = score_images(images, rows)
    best = best_of_n(scored)
    passed = image_table(rows).assign(pass_rate=scored["score"].to_numpy())
    known = {name: scored[name].astype(float) for name in AGAINST if name in scored}
    agreement = {
        title: agreement_with_score(passed.assign(**{name: known[name].to_numpy()}), name)
        for name, title in AGAINST.items()
        if name in known and known[name].notna().any()
    }
    apart = None
    if control is not None:
        both = np.concatenate([rows["score"], control["score"]])
        own = np.concatenate([np.ones(len(rows)), np.zeros(len(control))])
        apart = auroc(both[np.isfinite(both)], own[np.isfinite(both)])
    every = rows if control is None else pd.concat([rows, control], ignore_index=True)
    return {
        "scores": method_scores(scored),
        "sources": {str(k): int(n) for k, n in rows["source"].value_counts().items() if k},
        "agreement": agreement or None,
        "auroc_own_over_other": apart,
        "calibration": None if verdicts is None else calibration(every, verdicts),
        "best_of_n": None if best.empty else _gains(scored, best),
    }


def read_verdicts(path: Path) -> pd.DataFrame:
    """The items of an earlier audit, or of a reader, as ``cas audit`` writes them.

    Args:
        path: A folder with audit.csv, or the file.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    from cas_metric.statistics.graded import ITEM
    from cas_metric.tables import read_frame

    file = path / "audit.csv" if path.is_dir() else path
    frame = read_frame(file, *_KEYS, *ITEM, "verdict")
    if not frame["verdict"].isin(["present", "absent"]).any():
        raise InputError(
            f"{file} holds no verdict", fix="give the folder of an audit by verdicts, or its CSV"
        )
    return frame


def best_table(images: Images, rows: pd.DataFrame) -> pd.DataFrame:
    """The highest-scoring image of each method and case, where there are several."""
    from cas_metric.statistics.graded import best_of_n

    return best_of_n(score_images(images, rows))


def _gains(scored: pd.DataFrame, best: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What choosing the best image of a case changes, by method: its score, and scores of a run."""
    chosen = scored.merge(best[_KEYS], on=_KEYS)
    cases = scored.merge(best[["method", "case"]], on=["method", "case"])
    known = [name for name in AGAINST if name in scored and scored[name].notna().any()]
    found: dict[str, dict[str, float]] = {}
    for method, group in chosen.groupby("method", sort=False):
        every = cases[cases["method"] == method]
        found[str(method)] = {"cases": len(group)} | {
            f"{kind}_{name}": float(table[name].astype(float).mean())
            for name in ("score", *known)
            for kind, table in (("mean", every), ("best", group))
        }
    return found


def graded_markdown(graded: Mapping[str, Any] | None) -> str:
    """The same for people."""
    if graded is None:
        return ""
    parts = [_scores(graded), _calibration(graded["calibration"])]
    parts += [_agreement(title, one) for title, one in (graded["agreement"] or {}).items()]
    parts.append(_best(graded["best_of_n"]))
    return "\n\n".join(part for part in parts if part)


def _scores(graded: Mapping[str, Any]) -> str:
    lines = [[method, _interval(one)] for method, one in graded["scores"].items()]
    read = ", ".join(f"{n} from the {source}" for source, n in graded["sources"].items())
    apart = graded["auroc_own_over_other"]
    told = (
        f" An item of the own class scores above one of another class in {number(apart)} of the "
        "pairs (0.5: by chance)."
        if apart is not None
        else ""
    )
    table = markdown_table(["Method", "P(yes), mean over images"], lines)
    return f"## P(yes)\n\nItems: {read or 'none'}.{told}\n\n{table}"


def _calibration(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    lines = [
        [f"{one['low']:.1f}–{one['high']:.1f}", str(one["n"]), number(one["score"]),
         _interval(one["present"])]
        for one in found["bins"]
    ]  # fmt: skip
    table = markdown_table(["P(yes)", "items", "mean", "present"], lines)
    return (
        f"## Calibration\n\n{found['n']} items that the other audit calls present or absent: area "
        f"under the ROC curve {number(found['auroc'])}, Brier score {_interval(found['brier'])}, "
        f"expected calibration error {number(found['expected_error'])}.\n\n{table}"
    )


def _agreement(title: str, found: Mapping[str, Any]) -> str:
    names: Sequence[str] = ("spearman", "spearman_within_class")
    lines = [
        [method, str(one["n"]), *(_interval(one[name]) for name in names)]
        for method, one in found.items()
    ]
    headings = ["Images of", "n", "Spearman", "Spearman within classes"]
    return f"## P(yes) and {title}\n\n{markdown_table(headings, lines)}"


def _best(found: Mapping[str, Mapping[str, float]] | None) -> str:
    if found is None:
        return ""
    names = [key.removeprefix("mean_") for key in next(iter(found.values())) if "mean_" in key]
    lines = [
        [method, str(one["cases"])]
        + [f"{number(one[f'mean_{n}'])} → {number(one[f'best_{n}'])}" for n in names]
        for method, one in found.items()
    ]
    headings = ["Method", "cases", *(AGAINST.get(name, "P(yes)") for name in names)]
    return (
        "## Best of several images of a case\n\nMean of all, then of those chosen by P(yes), which "
        f"best_of_n.csv lists.\n\n{markdown_table(headings, lines)}"
    )


def _interval(entry: Mapping[str, float]) -> str:
    return f"{number(entry['estimate'])} [{number(entry['low'])}, {number(entry['high'])}]"
