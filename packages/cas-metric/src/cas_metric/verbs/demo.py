"""The main job on the embedded world, where the truth is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import Result

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs import Run


def demo(
    out: str | Path = "demo",
    *,
    domain: str = "chexpert",
    images: int = 240,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[Run, Result]:
    """Score three generated sets of known quality on drawn phantoms, without any download.

    Args:
        out: Folder to write everything to.
        domain: chexpert, fitzpatrick17k, breakhis or origa.
        images: Images in each set; as many again to train the probe.
        seed: Another seed draws other phantoms.
        progress: Told how far the work is.
        notify: Told which command scores the sets, and what to know before it begins.

    Returns:
        The run, saved in ``out``/run, and whether the score saw what was planted.

    Examples:
        >>> run, result = demo("demo", images=16)
        >>> result.summary["auroc"] > 0.9  # faithful images above wrong ones
        True
    """
    from cas_metric.runs.provenance import command_of
    from cas_metric.verbs.score import score

    place = Path(out)
    real, generated = draw_world(place, domain, images, seed, counting(progress, "phantoms"))
    notify(f"$ cas score {generated} {real}")
    run = score(
        *(generated, real), out=place / "run", cache=place / "cache",
        progress=counting(progress, "images"), notify=notify, command=command_of("demo"),
    )  # fmt: skip
    verdict = verdict_of(run.rows, run.summary)
    report = str(place / "run" / "report.html")
    found = {**verdict, "run": str(place / "run"), "report": report}
    failures = {one["image"]: one["error"] for one in run.summary["failures"]}
    return run, Result("demo", found, _text(verdict, report), failures=failures)


def draw_world(
    out: Path, domain: str, images: int, seed: int, progress: Progress | None = None
) -> tuple[Path, Path]:
    """Draw the real splits and the three generated sets; return the test split and the sets.

    The sets share one manifest, ``generated/metadata.csv``, with the kind as the method.
    """
    import pandas as pd

    from cas_metric.phantoms.dataset import KINDS, write_generated_set, write_phantom_dataset

    drawn = 0
    total = images * (2 + len(KINDS))

    def advance() -> None:
        nonlocal drawn
        drawn += 1
        if progress is not None:
            progress(drawn, total)

    folders = write_phantom_dataset(
        domain, out / "real", train=images, test=images, seed=seed, advance=advance
    )
    tables = []
    for kind in KINDS:
        folder = out / "generated" / kind
        write_generated_set(domain, folders["test"], folder, kind=kind, seed=seed, advance=advance)
        table = pd.read_csv(folder / "metadata.csv", dtype=str)
        tables.append(table.assign(file_name=kind + "/" + table["file_name"]))
    pd.concat(tables).to_csv(out / "generated" / "metadata.csv", index=False, lineterminator="\n")
    return folders["test"], out / "generated"


def verdict_of(rows: pd.DataFrame, summary: dict[str, Any]) -> dict[str, Any]:
    """Whether the score saw what was planted.

    Returns:
        ``cas`` (kind to mean and 95% interval), ``ordered`` (faithful above degraded above wrong,
        no two intervals overlapping) and ``auroc``, the probability that a faithful image scores
        above a wrong one.
    """
    from scipy.stats import mannwhitneyu

    from cas_metric.phantoms.dataset import KINDS

    cas = {
        one["method"]: {"mean": one["mean"]["cas"], "interval": one["interval"]["cas"]}
        for one in summary["methods"]
    }
    ordered = all(
        cas[better]["interval"][0] > cas[worse]["interval"][1]
        for better, worse in itertools.pairwise(KINDS)
    )
    faithful, wrong = (rows.loc[rows["method"] == kind, "cas"] for kind in ("faithful", "wrong"))
    auroc = mannwhitneyu(faithful, wrong).statistic / (len(faithful) * len(wrong))
    return {"cas": {kind: cas[kind] for kind in KINDS}, "ordered": ordered, "auroc": float(auroc)}


def _text(verdict: Mapping[str, Any], report: str) -> str:
    means = ", ".join(f"{kind} {one['mean']:.3f}" for kind, one in verdict["cas"].items())
    apart = "do not overlap" if verdict["ordered"] else "are NOT all apart in this order"
    return (
        f"\nCAS: {means}; the 95% intervals {apart}.\n"
        "A faithful image scores above a planted-wrong one with probability (AUROC) "
        f"{verdict['auroc']:.3f}.\nOpen {report}"
    )
