"""The images that deserve a look first: which they are, and small enough to travel in a report."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from cas_metric.errors import CasError
from cas_metric.files import place
from cas_metric.images import Window, load_image
from cas_metric.protocol import BOOTSTRAP_SEED, PRIMITIVES
from cas_metric.report.tables import is_number, number

#: Scores by which images may be ranked, the first that the run has.
RANKINGS: Final = ("cas", "sfs", "vdc", "ccs", "dd_prob")

#: Longest side of a thumbnail in pixels.
MAX_SIDE: Final = 192
JPEG_QUALITY: Final = 86

Locate = Callable[[Mapping[str, Any]], "Path | None"]


@dataclass(frozen=True)
class Thumbnail:
    """A picture for the page: ``uri`` is empty where there is none, and ``missing`` says why."""

    uri: str = ""
    width: int = MAX_SIDE
    height: int = MAX_SIDE
    missing: str = ""


@dataclass(frozen=True)
class Explained:
    """Why one image scores low.

    Attributes:
        why: The primitive that lies lowest, and by how much.
        maps: Attribute with its deviation, and the map of it.
    """

    why: str
    maps: tuple[tuple[str, Thumbnail], ...]


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


def key(row: Mapping[Any, Any]) -> str:
    """Name of an image within a run."""
    seed = row["seed"]
    seed = str(int(seed)) if is_number(seed) else ""
    return "\0".join((str(row["method"]), seed, str(row["id"])))


def ranking(rows: pd.DataFrame) -> str | None:
    """The score that ranks this run's images: CAS, or the first that is there without it."""
    return next((name for name in RANKINGS if rows[name].notna().any()), None)


def worst(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The ``count`` images with the lowest score, worst first; equal ones by method, seed and id.

    Images without the score (failed ones) are not among them: they are listed as failures.
    """
    score = ranking(rows)
    if score is None:
        return rows.head(0)
    scored = rows[rows[score].notna()]
    return scored.sort_values([score, "method", "seed", "id"], kind="stable").head(count)


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
        explained: What `cas explain` found, by :func:`key`.
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


def thumbnail(path: Path | None, window: Window | None = None) -> Thumbnail:
    """Shrink the image at ``path`` to :data:`MAX_SIDE`; a placeholder where it cannot be read.

    Args:
        path: The file; None where there is none.
        window: The display window that it was scored through.
    """
    if path is None:
        return Thumbnail(missing="no image")
    try:
        path = place(path)
        if not path.is_file():
            return Thumbnail(missing="file not found")
        pixels = load_image(path, window=window).pixels
    except CasError:
        return Thumbnail(missing="unreadable file")
    return encode(pixels)


def encode(pixels: np.ndarray) -> Thumbnail:
    """Encode ``(H, W, 3)`` pixels, uint8 or float in [0, 1], as a JPEG without chroma subsampling.

    The same pixels give the same bytes with the same version of Pillow.
    """
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels, 0.0, 1.0) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    body = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{body}", *picture.size)
