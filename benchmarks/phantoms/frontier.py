"""Does any training of CRAFT reach more than another at the same DD?

``python -m benchmarks.phantoms.frontier [--out runs/phantom-craft] [--figure frontier]``

Reads what ``benchmarks.phantoms.guidance`` scored in each domain of the folder, and sets the mean
of VDC, CCS and SFS against DD: a line joins the guidances of an adapter. Whoever only tells classes
apart more plainly moves along the common line, whoever makes better images leaves it upwards. The
table says what that mean had to be for a CAS above CRAFT's at a DD that real images have.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.phantoms.recipes import EVALUATORS
from cas_metric import compare
from cas_metric.report.figures import STYLE, save_figure
from cas_metric.report.palette import ink
from cas_metric.statistics.tables import markdown_table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES: Final = {
    "phantom-chexpert": "radiographs",
    "phantom-origa": "fundus",
    "phantom-breakhis": "histology",
    "phantom-fitzpatrick17k": "dermatology",
}


#: CRAFT, drawn with the guidance of training.
REFERENCE: Final = "craft-3"
#: Adapters, in the order of their colours.
ADAPTERS: Final = {
    "control": "no reward",
    "craft": "CRAFT, T = 20",
    "halved": "half the steps",
    "ten": "T = 10",
    "ten_halved": "T = 10, half the steps",
    "six": "T = 6",
    "ten_unguided": "T = 10, unguided",
}


def scored(folder: Path, encoder: str) -> Mapping[str, Any]:
    """``cas compare`` of all adapters and guidances of a domain."""
    runs = {one.parent.name: one.parent for one in sorted(folder.glob(f"{encoder}/*/summary.json"))}
    return compare(runs, method=next(iter(runs))).summary


def rest(mean: Mapping[str, float]) -> float:
    """The mean of the primitives beside DD."""
    return (mean["vdc"] + mean["ccs"] + mean["sfs"]) / 3


def draw(axes: Axes, found: Mapping[str, Any]) -> None:
    """One domain by one evaluator; Real's DD shaded, the level of real images as a line."""
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for one in found["methods"]:
        adapter, _, scale = one["method"].rpartition("-")
        place = (float(scale), one["mean"]["dd"], rest(one["mean"]))
        lines.setdefault(adapter, []).append(place)
    for index, (adapter, title) in enumerate(ADAPTERS.items()):
        style = ink(index)
        _, across, up = zip(*sorted(lines.get(adapter, [(0.0, np.nan, np.nan)])), strict=True)
        axes.plot(across, up, marker=style.marker, color=style.light, label=title, markersize=4)
    axes.axvspan(*found["real"]["interval"]["dd"], color="#dddddd", zorder=0)
    axes.axhline(rest(found["floor"]["mean"]), color="#777777", linewidth=0.8, linestyle="--")


def figure(out: Path) -> Figure:
    """A column a domain, a row an evaluator."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folders = {name: out / name / "guidance" / "scores" for name in TITLES}
    folders = {name: folder for name, folder in folders.items() if folder.is_dir()}
    with mpl.rc_context(fname=STYLE):
        drawn = Figure(figsize=(2.6 * len(folders), 5.6), layout="constrained")
        grid = drawn.subplots(len(EVALUATORS), len(folders), squeeze=False)
        for line, encoder in zip(grid, EVALUATORS, strict=True):
            for axes, (name, folder) in zip(line, folders.items(), strict=True):
                draw(axes, scored(folder, encoder))
                axes.set_title(f"{TITLES[name]}, {encoder}", fontsize=8)
                axes.set_xlabel("DD")
            line[0].set_ylabel("mean of VDC, CCS and SFS")
        drawn.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn


def needed(out: Path) -> str:
    """What beats CRAFT with the guidance of training, beside what another real image has."""
    lines = []
    for name, title in TITLES.items():
        for encoder in EVALUATORS:
            found = scored(out / name / "guidance" / "scores", encoder)
            (craft,) = (one for one in found["methods"] if one["method"] == REFERENCE)
            floor, limit = found["floor"]["mean"], found["real"]["interval"]["dd"][1]
            least = (4 * craft["mean"]["cas"] - limit) / 3  # CAS is the mean of four
            values = (rest(craft["mean"]), least, rest(floor))
            values += (craft["mean"]["cas"], found["real"]["mean"]["cas"], floor["cas"])
            lines.append((title, encoder, *map(number, values)))
    heads = ("", "evaluator", "CRAFT", "needed", "another real image")
    return markdown_table((*heads, "CAS of CRAFT", "of Real", "of another real image"), lines)


def main() -> None:
    """Draw it, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--figure", type=Path, default=Path("frontier"))
    options = parser.parse_args()
    save_figure(figure(options.out), options.figure)
    print(needed(options.out))


if __name__ == "__main__":
    main()
