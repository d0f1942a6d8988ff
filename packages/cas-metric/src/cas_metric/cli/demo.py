"""``cas demo``: the main job on the embedded world, where the truth is known."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli.common import CountProgress, console_err, console_out, emit_json
from cas_metric.errors import EXIT_SOME_FAILED

if TYPE_CHECKING:
    import pandas as pd

HELP = """
Score three generated sets of known quality on drawn phantoms, without any download.

Draws a training and a test split of phantoms, and three sets of "generated" images for the prompts
of the test split: *faithful* ones show the finding in another picture, *degraded* ones are blurred,
noisy, flat or exaggerated as well, *wrong* ones show the finding of another class or none. Then it
runs `cas score` on them and says whether the score put the sets in that order.

Nothing here is medical data.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP)
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write everything to.", metavar="DIR")] = Path(
        "demo"
    ),
    domain: Annotated[
        str, typer.Option(help="chexpert, fitzpatrick17k, breakhis or origa.", metavar="NAME")
    ] = "chexpert",
    images: Annotated[
        int, typer.Option(help="Images in each set; as many again to train the probe.", min=40)
    ] = 240,
    seed: Annotated[int, typer.Option(help="Another seed draws other phantoms.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Draw, score, compare; the help text is :data:`HELP`."""
    from cas_metric.runs.folder import read_run

    real, generated = draw_world(out, domain, images, seed)
    run_folder = out / "run"
    command = [str(generated), str(real), "--out", str(run_folder), "--cache", str(out / "cache")]
    if not as_json:
        console_out().print(f"$ cas score {generated} {real}", markup=False, soft_wrap=True)
    _score(command, quiet=as_json)
    run = read_run(run_folder)
    verdict = judge(run.rows, run.summary)
    if as_json:
        emit_json({**verdict, "run": str(run_folder), "report": str(run_folder / "report.html")})
    else:
        _print(verdict, run_folder)


def draw_world(out: Path, domain: str, images: int, seed: int) -> tuple[Path, Path]:
    """Draw the real splits and the three generated sets; return the test split and the sets.

    The sets share one manifest, ``generated/metadata.csv``, with the kind as the method.
    """
    import pandas as pd

    from cas_metric.phantoms.dataset import KINDS, write_generated_set, write_phantom_dataset

    drawn = 0
    total = images * (2 + len(KINDS))
    with CountProgress("phantoms") as bar:

        def advance() -> None:
            nonlocal drawn
            drawn += 1
            bar(drawn, total)

        folders = write_phantom_dataset(
            domain, out / "real", train=images, test=images, seed=seed, advance=advance
        )
        tables = []
        for kind in KINDS:
            folder = out / "generated" / kind
            write_generated_set(
                domain, folders["test"], folder, kind=kind, seed=seed, advance=advance
            )
            table = pd.read_csv(folder / "metadata.csv", dtype=str)
            tables.append(table.assign(file_name=kind + "/" + table["file_name"]))
    pd.concat(tables).to_csv(out / "generated" / "metadata.csv", index=False, lineterminator="\n")
    return folders["test"], out / "generated"


def judge(rows: pd.DataFrame, summary: dict[str, Any]) -> dict[str, Any]:
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


def _score(command: list[str], *, quiet: bool) -> None:
    """Run ``cas score`` in this process; its table goes to stderr when ``quiet``."""
    import contextlib
    import sys

    from cas_metric.cli.score import app as score

    target = sys.stderr if quiet else sys.stdout
    with contextlib.redirect_stdout(target):
        code = typer.main.get_command(score).main(command, standalone_mode=False)
    if code == EXIT_SOME_FAILED:
        console_err().print("some images failed; see the run", style="yellow")


def _print(verdict: dict[str, Any], run_folder: Path) -> None:
    console = console_out()
    console.print()
    means = ", ".join(f"{kind} {one['mean']:.3f}" for kind, one in verdict["cas"].items())
    apart = "do not overlap" if verdict["ordered"] else "are NOT all apart in this order"
    console.print(f"CAS: {means}; the 95% intervals {apart}.", soft_wrap=True)
    console.print(
        "A faithful image scores above a planted-wrong one with probability (AUROC) "
        f"{verdict['auroc']:.3f}.",
        soft_wrap=True,
    )
    console.print(f"Open {run_folder / 'report.html'}", markup=False, soft_wrap=True)
