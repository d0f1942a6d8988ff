"""The images that deserve a look first: those with the lowest scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from cas_metric.images import Window
from cas_metric.protocol import BOOTSTRAP_SEED, PRIMITIVES
from cas_metric.report.explained import Explained, key
from cas_metric.report.format import is_number, number
from cas_metric.report.thumbnails import Thumbnail, thumbnail

#: Scores by which images may be ranked, the first that the run has.
RANKINGS: Final = ("cas", "sfs", "vdc", "ccs", "dd_prob")

Locate = Callable[[Mapping[str, Any]], "Path | None"]


@dataclass(frozen=True)
class Score:
    """One score of an image: the bar is ``width`` percent long."""

    name: str
    text: str
    value: float | None
    width: float


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        pick: Why it is shown: ``lowest``, ``random`` or ``best`` of its method.
        seen: Class that the probe sees, where it is another than the label.
        why: The primitive that lies lowest, and by how much.
        maps: What it lacks most, with the map of where.
    """

    rank: int
    id: str
    method: str
    ink: str
    seed: str
    label: str
    prompt: str
    wrong: bool
    scores: tuple[Score, ...]
    image: Thumbnail
    reference: Thumbnail
    file: str
    pick: str = "lowest"
    seen: str = ""
    why: str = ""
    maps: tuple[tuple[str, Thumbnail], ...] = ()


def ranking(rows: pd.DataFrame) -> str | None:
    """The score that ranks this run's images: CAS, or the first that is there without it."""
    return next((key for key in RANKINGS if rows[key].notna().any()), None)


def worst(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The ``count`` images with the lowest score, worst first; equal ones by method, seed and id.

    Images without the score (failed ones) are not among them: they are listed as failures.
    """
    key = ranking(rows)
    if key is None:
        return rows.head(0)
    scored = rows[rows[key].notna()]
    return scored.sort_values([key, "method", "seed", "id"], kind="stable").head(count)


def lowest(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The ``count`` lowest images of each method, method after method."""
    parts = [worst(own, count) for _, own in rows.groupby(rows["method"].astype(str), sort=True)]
    return pd.concat(parts) if parts else rows.head(0)


def picks(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Images of each method to look at: the lowest, some at random, and the best.

    An image is of one kind only, and the random ones are the same every time.

    Args:
        rows: Rows of a run.
        count: How many of each kind, of each method; of few images the lowest come first.

    Returns:
        The rows with a column ``pick``: ``lowest``, ``random`` or ``best``.
    """
    parts = []
    for _, own in rows.groupby(rows["method"].astype(str), sort=True):
        ranked = worst(own, len(own))
        low, rest = ranked.head(count), ranked.iloc[count:]
        best = rest.iloc[::-1].head(count)
        middle = rest.head(len(rest) - len(best))
        drawn = middle.sample(min(count, len(middle)), random_state=BOOTSTRAP_SEED)
        kinds = (("lowest", low), ("random", drawn.sort_index()), ("best", best))
        parts += [part.assign(pick=kind) for kind, part in kinds]
    return pd.concat(parts) if parts else rows.head(0).assign(pick="")


def make_cards(
    rows: pd.DataFrame,
    inks: Mapping[str, str],
    image_of: Locate,
    reference_of: Locate,
    windows: tuple[Window | None, Window | None] = (None, None),
    explained: Mapping[str, Explained] | None = None,
) -> list[Card]:
    """Gallery cards of ``rows``, in their order.

    Args:
        rows: Rows of the run, as :func:`worst` hands them out.
        inks: Style of each method.
        image_of: Finds the file of a row's generated image.
        reference_of: Finds the file of a row's reference image.
        windows: Display windows of the generated and of the reference images.
        explained: What `cas explain` found, by :func:`cas_metric.report.explained.key`.
    """
    found = explained or {}
    return [
        _card(
            *(rank, row, inks),
            thumbnail(image_of(row), windows[0]),
            thumbnail(reference_of(row), windows[1]),
            found.get(key(row)),
        )
        for rank, row in enumerate(rows.to_dict("records"), start=1)
    ]


def _card(
    rank: int,
    row: Mapping[Any, Any],
    inks: Mapping[str, str],
    image: Thumbnail,
    ref: Thumbnail,
    explained: Explained | None,
) -> Card:
    method = str(row["method"] or "generated")
    wrong = is_number(row["dd"]) and row["dd"] < 0.5
    shown = ("cas", *PRIMITIVES, *(name for name in ("alignment",) if name in row))
    return Card(
        rank=rank,
        id=str(row["id"]),
        method=method,
        ink=inks.get(method, "m0"),
        seed=str(int(row["seed"])) if pd.notna(row["seed"]) else "",
        label=str(row["label"]),
        prompt=str(row.get("prompt") or ""),
        wrong=wrong,
        scores=tuple(_score(name, row[name]) for name in shown),
        image=image,
        reference=ref,
        file=str(row["image"]),
        pick=str(row.get("pick") or "lowest"),
        seen=str(row.get("seen") or "") if wrong else "",
        why=explained.why if explained else "",
        maps=explained.maps if explained else (),
    )


def _score(name: str, value: Any) -> Score:
    known = is_number(value)
    text = number(value, 0 if name == "dd" else 3)
    width = round(100 * min(max(float(value), 0.0), 1.0), 1) if known else 0.0
    return Score(
        "v2" if name == "alignment" else name.upper(), text, float(value) if known else None, width
    )
