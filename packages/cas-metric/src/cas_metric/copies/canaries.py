"""Canaries: pictures that a generator can know from its training set alone, and what it kept.

Half of the drawn pictures are planted among the training images, the other half, their twins, are
kept back. A generator that was asked for all of them alike and comes nearer to the planted ones
has memorized; how near it would have come without them is seen on the twins.

Source: Carlini et al., "The Secret Sharer" (USENIX Security 2019), exposure by ranking.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.errors import CasError, InputError, PreflightError

if TYPE_CHECKING:
    from cas_metric.copies.keypoints import Keypoints
    from cas_metric.copies.pictures import Pictures
    from cas_metric.manifest import Manifest

#: Column that says how often a canary stands in the training set; 0 for the twins.
REPEATS: Final = "repeats"
FOLDER: Final = "canaries"
_SHAPES: Final = 24


def draw_canary(seed: int, side: int) -> NDArray[np.uint8]:
    """``(side, side, 3)`` coloured shapes that no training image holds, the same for a seed."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng((seed, 0xCA9A21))
    picture = Image.new("RGB", (side, side), tuple(rng.integers(60, 196, 3).tolist()))
    canvas = ImageDraw.Draw(picture)
    for _ in range(_SHAPES):
        centre, reach = rng.uniform(0, side, 2), rng.uniform(0.05, 0.2) * side
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = centre + reach * np.column_stack([np.cos(angles), np.sin(angles)])
        colour = tuple(rng.integers(0, 256, 3).tolist())
        canvas.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
    return np.asarray(picture)


def plant(
    train: Manifest, out: str | Path, *, count: int, repeat: int, side: int, seed: int = 0
) -> Path:
    """Write a training folder with canaries in it: links to the images, and a table.

    Args:
        train: The training images; their folder is not changed.
        out: Folder to write, not there yet. Its ``canaries`` hold all drawn pictures, planted ones
            and twins, with prompts to generate from and the column ``repeats``.
        count: Canaries that are planted; as many twins are kept back.
        repeat: How often each stands in the training set.
        side: Of the pictures, in pixels.
        seed: Of the drawings.

    Returns:
        ``out``.

    Raises:
        InputError: The folder exists, a number is below one, or the seed below zero.
        PreflightError: Training images are missing; all are listed.
        CasError: The folder cannot be written.
    """
    out = Path(out)
    if min(count, repeat) < 1 or seed < 0:
        raise InputError(
            "canaries need a count and a repetition of at least 1, and a seed of at least 0"
        )
    if out.exists():
        raise InputError(f"{out} exists already", fix="name a folder that does not")
    missing = [f"{path}: does not exist" for path in train.paths() if not path.is_file()]
    if missing:
        raise PreflightError(missing, fix="correct these rows of the training images")
    # Beside it first: what is cut short must not be taken for a training set, nor be in the way.
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            whole = Path(beside) / out.name
            _write(train, whole, count, repeat, side, seed)
            whole.rename(out)
    except OSError as error:
        raise CasError(
            f"{out} cannot be written: {error.strerror or error}",
            fix="free space, or choose another folder with --out",
        ) from error
    return out


def _write(train: Manifest, out: Path, count: int, repeat: int, side: int, seed: int) -> None:
    """The folder of :func:`plant`."""
    from PIL import Image

    from cas_metric.manifest import write_manifest

    names = _linked(train, out)
    (out / FOLDER).mkdir(parents=True)
    labels = sorted(set(train.rows["label"])) or [""]
    codes = np.random.default_rng(seed).choice(16**6, 2 * count, replace=False)
    drawn = pd.DataFrame(
        {
            "id": [f"canary-{code:06x}" for code in codes],
            "image": [f"{code:06x}.png" for code in codes],
            "label": [labels[k % len(labels)] for k in range(2 * count)],
            "prompt": [f"canary {code:06x}" for code in codes],
        }
    )
    for code, name in zip(codes.tolist(), drawn["image"], strict=True):
        Image.fromarray(draw_canary(code, side)).save(out / FOLDER / name)
    repeats = pd.DataFrame({REPEATS: [repeat] * count + [0] * count})
    write_manifest(drawn, out / FOLDER, extra=repeats)
    shown = pd.concat([drawn[:count]] * repeat, ignore_index=True)
    shown["id"] = [f"{name}-{k // count}" for k, name in enumerate(shown["id"])]
    shown["image"] = [f"{FOLDER}/{name}" for name in shown["image"]]
    write_manifest(pd.concat([train.rows.assign(image=names), shown], ignore_index=True), out)


def _linked(train: Manifest, out: Path) -> list[str]:
    """Names in ``out`` of all training images, linked where that can be done, else copied."""
    names = []
    for row, path in enumerate(train.paths()):
        name = f"images/{row:07d}{path.suffix}"
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)
        names.append(name)
    for config in [path for path in [train.root / "cas.yaml"] if path.is_file()]:
        shutil.copyfile(config, out / config.name)
    return names


def repeats_of(canaries: Manifest) -> NDArray[np.int64]:
    """``(N,)`` how often each canary stood in the training set.

    Raises:
        InputError: The column is missing or holds no whole numbers, or either kind is missing.
    """
    if REPEATS not in canaries.extra:
        raise InputError(
            f"the canaries have no column {REPEATS!r}",
            fix="'craft-trainer canaries' writes it: how often each was planted, 0 for the twins",
        )
    values = pd.to_numeric(canaries.extra[REPEATS], errors="coerce")
    if values.isna().any() or (values < 0).any() or (values % 1 != 0).any():
        raise InputError(f"the column {REPEATS!r} of the canaries holds no whole numbers")
    repeats = values.to_numpy(dtype=np.int64)
    if not (repeats > 0).any() or not (repeats == 0).any():
        raise InputError("canaries need planted ones and twins that were kept back")
    return repeats


def closeness(canaries: Keypoints, generated: Keypoints) -> NDArray[np.float64]:
    """``(N,)`` evidence that the best aligned generated image shows a canary."""
    from cas_metric.copies import aligned
    from cas_metric.copies.shortlist import Shortlist

    rows = np.arange(len(canaries.counts))
    found = aligned.search(canaries, rows, generated, Shortlist(generated))
    none = np.empty(0)
    usual = aligned.Calibration(none, none, none, "nothing")
    return np.array([max((usual.score(one.match) for one in near), default=0.0) for near in found])


def exposure(close: NDArray[np.float64], repeats: NDArray[np.int64]) -> pd.DataFrame:
    """How far each planted canary stands out from the twins.

    Args:
        close: ``(N,)`` how near a generated image comes; greater is nearer.
        repeats: ``(N,)`` how often each was planted, 0 for the twins.

    Returns:
        One row a planted canary: ``row``, ``repeats``, ``closeness``, ``rank`` among the twins and
        itself, ``exposure`` in bits: at most log2(twins + 1), about 1.4 on average without
        memorizing.

    Examples:
        >>> close, repeats = np.array([9.0, 2.0, 1.0, 3.0]), np.array([4, 4, 0, 0])
        >>> exposure(close, repeats)["rank"].tolist()
        [1, 2]
    """
    twins = np.sort(close[repeats == 0])
    planted = np.flatnonzero(repeats > 0)
    rank = 1 + len(twins) - np.searchsorted(twins, close[planted], side="left")
    return pd.DataFrame(
        {
            "row": planted,
            REPEATS: repeats[planted],
            "closeness": close[planted],
            "rank": rank,
            "exposure": np.log2(len(twins) + 1) - np.log2(rank),
        }
    )


def canary_figures(close: NDArray[np.float64], repeats: NDArray[np.int64]) -> dict[str, Any]:
    """Counts, the greatest exposure, and the rank-sum test of planted ones against twins."""
    from scipy.stats import mannwhitneyu

    table, twins = exposure(close, repeats), close[repeats == 0]
    test = mannwhitneyu(table["closeness"], twins, alternative="greater", method="auto")
    return {
        "planted": len(table),
        "twins": len(twins),
        "first": int((table["rank"] == 1).sum()),
        "expected_first": len(table) / (len(twins) + 1),
        "max_exposure": float(table["exposure"].max()),
        "mean_exposure": float(table["exposure"].mean()),
        "p": float(test.pvalue),
    }


def measure(
    canaries: Manifest, generated: Manifest, pictures: tuple[Pictures, Pictures]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Figures with a verdict, and one row a planted canary.

    Args:
        canaries: Planted ones and twins, as :func:`plant` writes them.
        generated: The generated images.
        pictures: Both, with local features.

    Raises:
        InputError: See :func:`repeats_of`; or a canary cannot be read.
    """
    repeats, (ours, theirs) = repeats_of(canaries), pictures
    if ours.errors:
        raise InputError(f"{len(ours.errors)} canaries cannot be read: {next(iter(ours.errors))}")
    assert ours.keypoints is not None
    assert theirs.keypoints is not None
    close = closeness(ours.keypoints, theirs.keypoints)
    figures, table = canary_figures(close, repeats), exposure(close, repeats)
    asked = generated.rows["prompt"].value_counts()
    times = canaries.rows["prompt"].map(asked).fillna(0).to_numpy()
    figures["generated_planted"] = int(times[repeats > 0].sum())
    figures["generated_twins"] = int(times[repeats == 0].sum())
    rows = canaries.rows.iloc[table.pop("row")].reset_index(drop=True)
    uneven = len(set(times.tolist())) > 1
    figures["verdict"] = canary_verdict(figures, uneven)
    return figures, pd.concat([rows[["id", "image", "prompt"]], table], axis=1)


def canary_verdict(figures: dict[str, Any], uneven: bool) -> str:
    """What the canaries say, in two sentences."""
    text = (
        f"{figures['first']:,} of {figures['planted']:,} planted canaries are nearer to a "
        f"generated image than all {figures['twins']:,} twins that were kept back "
        f"({figures['expected_first']:.2g} expected; greatest exposure "
        f"{figures['max_exposure']:.1f} bits; rank-sum p = {figures['p']:.2g})."
    )
    if uneven:
        text += (
            " The prompts of planted ones and of twins were not generated from equally often, so "
            "the comparison is not fair."
        )
    return text
