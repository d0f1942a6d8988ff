"""Generated image to real partner, by key and never by order."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cas_metric.errors import PreflightError
from cas_metric.manifest.rows import Manifest
from cas_metric.tables import plain

if TYPE_CHECKING:
    import pandas as pd


class Matched(NamedTuple):
    """Who belongs to whom.

    Attributes:
        positions: Of the partner of each generated row among the real ones, -1 without one.
        problems: A line for each row without exactly one.
    """

    positions: list[int]
    problems: list[str]


#: What a table of floats writes behind a whole number.
_POINT: Final = re.compile(r"^(-?[0-9]+)\.0+$")
FIX = (
    "give both manifests the same `id`, or name in the column `reference` of the generated images "
    "the id or the image path of the real one"
)


def pair(generated: Manifest, real: Manifest) -> pd.DataFrame:
    """Join every generated image with its real partner.

    The key is ``reference`` where the row has one (the id of a real row, or its image as written
    in the real manifest), else the generated row's own ``id``. Several generated images (methods,
    seeds) may share a partner.

    Returns:
        The rows of ``generated`` in their order and, of each partner, ``reference_row`` (its
        position in ``real.rows``), ``reference_id``, ``reference_image``, ``reference_label``,
        ``reference_patient``.

    Raises:
        PreflightError: Lists every generated row without or with more than one partner, and every
            key that occurs twice.

    Examples:
        >>> import pandas as pd
        >>> from cas_metric.manifest import as_manifest
        >>> real = as_manifest(pd.DataFrame({"image": ["b.png", "a.png"]}))
        >>> drawn = as_manifest(pd.DataFrame({"image": ["x.png"], "reference": ["a"]}))
        >>> pair(drawn, real)["reference_row"].tolist()
        [1]
    """
    positions, problems = match(generated, real)
    problems = [*duplicates(generated, real), *problems]
    if problems:
        raise PreflightError(problems, fix=FIX)
    partners = real.rows.iloc[positions].reset_index(drop=True)
    joined = generated.rows.reset_index(drop=True).assign(reference_row=positions)
    for name in ("id", "image", "label", "patient"):
        joined[f"reference_{name}"] = partners[name]
    return joined


def match(generated: Manifest, real: Manifest) -> Matched:
    """Find the partner of each generated row; see :func:`pair`."""
    by_id, by_image = _index(real.rows["id"]), _index(map(_key, real.rows["image"]))
    by_written = _index(_key(real.spelt.get(image, image)) for image in real.rows["image"])
    positions: list[int] = []
    problems: list[str] = []
    for key, reference in zip(generated.rows["id"], generated.rows["reference"], strict=True):
        if reference:
            for name in (reference, reference.replace("\\", "/")):  # as Windows writes a path
                images = (*by_image.get(_key(name), ()), *by_written.get(_key(name), ()))
                found = sorted({*by_id.get(name, ()), *images})
                if found:
                    break
            wanted = f"reference {reference!r}"
        else:
            found, wanted = by_id.get(key, []), f"id {key!r}"
        if not found:
            problems.append(f"generated {key!r}: no real image with {wanted}")
        elif len(found) > 1:
            rows = ", ".join(repr(real.rows["image"].iloc[i]) for i in found[:3])
            problems.append(f"generated {key!r}: {len(found)} real images with {wanted} ({rows})")
        positions.append(found[0] if len(found) == 1 else -1)
    if positions and max(positions) < 0:
        example = generated.rows["reference"].iloc[0] or generated.rows["id"].iloc[0]
        problems.insert(
            0,
            f"no generated image has a partner: its keys look like {example!r}, "
            f"the real ids like {real.rows['id'].iloc[0]!r}",
        )
    return Matched(positions, problems)


def duplicates(generated: Manifest, real: Manifest) -> list[str]:
    """A line for every key that occurs twice: (id, method, seed) generated, id among the real."""
    problems = []
    keys = generated.rows[["id", "method", "seed"]]
    for (key, method, seed), count in _repeated(keys).items():
        suffix = f", method {method!r}" if method else ""
        suffix += f", seed {seed}" if seed is not None else ""
        problems.append(f"generated: {count} rows with id {key!r}{suffix}")
    for (key,), count in _repeated(real.rows[["id"]]).items():
        problems.append(f"real: {count} rows with id {key!r}")
    return problems


def differing_in_a_point(name: str, *columns: Iterable[str]) -> list[str]:
    """A note where keys of two columns would be the same without the ``.0`` of a whole number.

    Args:
        name: Of the column, for the note.
        columns: Its cells in two sets.

    Examples:
        >>> differing_in_a_point("patient", ["12.0", ""], ["12", "3"])
        ["1 of 'patient' are the same in both sets but for '.0' (12): write whole numbers"]
    """
    one, other = map(set, columns)
    alone = [{_POINT.sub(r"\1", key) for key in own} for own in (one - other, other - one)]
    if not (same := sorted(alone[0] & alone[1])):
        return []
    told = f"{len(same)} of {name!r} are the same in both sets but for '.0' ({same[0]})"
    return [f"{told}: write whole numbers"]


def _index(values: Iterable[str]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = defaultdict(list)
    for position, value in enumerate(values):
        positions[value].append(position)
    return positions


def _key(image: str) -> str:
    """The path of an image in the form in which paths are compared."""
    return plain(image if "://" in image else posixpath.normpath(image))


def _repeated(keys: pd.DataFrame) -> dict[tuple[Any, ...], int]:
    repeated = keys[keys.duplicated(keep=False)]
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    for key in repeated.astype(object).where(repeated.notna(), None).itertuples(index=False):
        counts[tuple(key)] += 1
    return counts
