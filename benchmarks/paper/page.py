"""The results of a run directory as pages of the documentation, one a data set.

    python -m benchmarks.paper.page runs/paper/phantoms --out docs/results/paper
    python -m benchmarks.paper.page runs/paper/quick --check docs/results/paper

The second compares pages with another run: the same headings, and in every table the same columns
and rows. Numbers may differ. So a small run tells whether the pages are what the scripts print. It
leaves out the ablations that a small run does not make, and says so.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path
from typing import Final

import pandas as pd
from benchmarks.paper.all import ABLATIONS, MAIN, script_of
from benchmarks.paper.table3a import ROLES

from cas_metric.errors import CasError
from cas_metric.files import write_bytes
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

#: Figure that a page shows below a script's tables, in the run directory.
FIGURES: Final = {
    "table14": "results/figure4.png",
    "figure3": "utility/utility.png",
    "figure9": "results/figure9.png",
}
#: Longest side of a figure in pixels.
_WIDTH: Final = 1100


def page(run: Path) -> str:
    """All tables of one data set, in the order of the scripts."""
    parts = [f"# {run.name}", PHANTOM_NOTICE]
    for name in (*MAIN, *ABLATIONS):
        text = run / "results" / f"{name}.md"
        if not text.is_file():
            continue
        body = text.read_text(encoding="utf-8").replace(PHANTOM_NOTICE, "").strip()
        # The script's own title ends with the data set, which is the page's here.
        body = body.replace(f": {run.name}\n", "\n", 1)
        parts.append(re.sub(r"^#", "##", body, flags=re.MULTILINE))
        if name in FIGURES:
            parts.append(f"![{name}]({run.name}-{name}.jpg)")
    return "\n\n".join(parts) + "\n"


def skeleton(text: str) -> list[str]:
    """Headings, and the columns and row names of every table: what no number changes.

    A table of correlations is left out: where all accuracies are equal there is none.
    """
    lines: list[str] = []
    for block in text.split("\n\n"):
        first, *rest = block.strip().splitlines() or [""]
        if first.startswith("#"):
            lines.append(first)
        elif first.startswith("| ") and not first.startswith("| coefficient"):
            # Columns may name sizes, such as the number of real images.
            lines.append(re.sub(r"\d+", "N", first))
            names = (row.strip("| ").split(" | ")[0] for row in rest[1:])
            lines += [re.sub(r"\d+", "N", name) for name in names]
    return lines


def overview(runs: list[Path]) -> str:
    """CAS of every method on every data set by every evaluator, and what CRAFT adds to the others.

    Rows are methods, columns data sets; intervals are those of the data sets' own pages.
    """
    parts = ["# All data sets", PHANTOM_NOTICE]
    columns = [f"[{run.name}]({run.name}.md)" for run in runs]
    for role in ROLES:
        scores = {run.name: _table(run, f"table3a_{role}", "method") for run in runs}
        gains = {run.name: _table(run, f"table3a_{role}_pairs", "other") for run in runs}
        parts += [
            f"## CAS, {role.replace('_', '-')} evaluator",
            "Mean and 95% interval over cases.",
        ]
        parts.append(_across(columns, scores, ("cas", "cas_low", "cas_high")))
        parts.append("CRAFT minus each method: mean paired difference and its 95% interval.")
        parts.append(_across(columns, gains, ("difference", "low", "high")))
    tails = {run.name: _table(run, "table14", "method") for run in runs}
    parts += ["## Share of images below the 25th percentile of real images"]
    parts.append(_across(columns, tails, ("low_rate", "low_rate_low", "low_rate_high")))
    return "\n\n".join(parts) + "\n"


def _table(run: Path, name: str, index: str) -> pd.DataFrame:
    return pd.read_csv(run / "results" / f"{name}.csv").set_index(index)


def _across(columns: list[str], tables: dict[str, pd.DataFrame], keys: tuple[str, str, str]) -> str:
    first = next(iter(tables.values()))
    lines = []
    for method in first.index:
        cells = []
        for table in tables.values():
            estimate, low, high = (number(table.loc[method, key]) for key in keys)
            cells.append("–" if estimate == "–" else f"{estimate} [{low}, {high}]")
        if set(cells) != {"–"}:
            lines.append([method, *cells])
    return markdown_table(["Method", *columns], lines)


def write(runs: list[Path], out: Path) -> None:
    """Pages, their figures, and the overview."""
    write_bytes(out / "overview.md", overview(runs).encode())
    for run in runs:
        write_bytes(out / f"{run.name}.md", page(run).encode())
        for name, drawn in FIGURES.items():
            if (run / drawn).is_file():
                write_bytes(out / f"{run.name}-{name}.jpg", _jpeg(run / drawn))
        print(out / f"{run.name}.md")


def _jpeg(figure: Path) -> bytes:
    """A figure small enough for the repository."""
    from PIL import Image

    stored = io.BytesIO()
    with Image.open(figure) as picture:
        picture = picture.convert("RGB")
        picture.thumbnail((_WIDTH, _WIDTH))
        picture.save(stored, "JPEG", quality=78, optimize=True)
    return stored.getvalue()


def differences(runs: list[Path], pages: Path) -> list[str]:
    """Lines of a run's skeleton that its page lacks, and the other way round."""
    found = []
    texts = {"overview": overview(runs)} | {run.name: page(run) for run in runs}
    left_out = [f"## {script_of(name).title}" for name in not_made(runs)]
    for name, text in texts.items():
        sections = re.split(r"^(?=## )", (pages / f"{name}.md").read_text("utf-8"), flags=re.M)
        kept = [part for part in sections if part.partition("\n")[0] not in left_out]
        written, made = skeleton("".join(kept)), skeleton(text)
        if left_out:  # Table 6 names their trainings too
            written, made = without_trainings(written), without_trainings(made)
        found += [f"{name}: not on the page: {line}" for line in made if line not in written]
        found += [f"{name}: only on the page: {line}" for line in written if line not in made]
    return found


def without_trainings(lines: list[str]) -> list[str]:
    """A skeleton without the rows of single trainings."""
    return [line for line in lines if not line.startswith("adapters/")]


def not_made(runs: list[Path]) -> list[str]:
    """Ablations that no run directory holds."""
    return [
        name
        for name in ABLATIONS
        if not any((run / "results" / f"{name}.md").is_file() for run in runs)
    ]


def main() -> None:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path, help="folder with a run directory a data set")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, help="write the pages here")
    action.add_argument("--check", type=Path, help="compare the pages here")
    options = parser.parse_args()
    runs = sorted(folder.parent for folder in options.run.glob("*/results"))
    if not runs:
        error = CasError(f"{options.run} has no results", fix="run benchmarks.paper.all first")
        print(f"page: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if options.out is not None:
        write(runs, options.out)
        return
    found = differences(runs, options.check)
    if left_out := not_made(runs):
        print(f"not compared, since {options.run} has none: {', '.join(left_out)}")
    print("\n".join(found) or f"{len(runs)} pages agree with {options.run}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
