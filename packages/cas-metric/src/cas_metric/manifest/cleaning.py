"""What no one meant: blanks around cells, two Unicode forms of one letter, names spelt otherwise.

What can be read in one way only is read so, with a note; a prompt stays as it was written.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from cas_metric.manifest.rows import Manifest, path_problem
from cas_metric.tables import plain


def plain_cells(name: str, cells: Sequence[str]) -> tuple[list[str], list[str]]:
    """The cells of a column in their plain form, and a note where that changed one.

    Args:
        name: Of the column, for the note.
        cells: As written.
    """
    cleaned = [plain(cell) for cell in cells]
    changed = [(old, new) for old, new in zip(cells, cleaned, strict=True) if old != new]
    if not changed:
        return cleaned, []
    old, new = changed[0]
    what = "blanks around" if old.strip() != old else "the Unicode form of"
    return cleaned, [f"{what} {len(changed)} cells of {name!r} left aside ({old!a} is {new})"]


def found_images(root: Path, images: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images by the names that their files have, and a note where these differ.

    A name that no file has stands for the one file whose name differs from it by blanks around it,
    Unicode form, case or the separator of its folders. Names that lead elsewhere stay as they are.

    Args:
        root: Folder of the images.
        images: Paths as written.
    """
    spelling = _Spelling(root)
    found = [spelling.find(image) for image in images]
    changed = [(old, new) for old, new in zip(images, found, strict=True) if old != new]
    if not changed:
        return found, []
    old, new = changed[0]
    return found, [
        f"{len(changed)} images are files whose names are spelt otherwise ({old!a} is {new!a})"
    ]


class _Spelling:
    """Finds files by names that are nearly theirs; lists every folder once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, image: str) -> str:
        """The path below the root that ``image`` means; itself where that is not clear."""
        try:
            if path_problem(image) or os.path.lexists(self._root / image):
                return image
            parts: list[str] = []
            for name in PurePath(image.replace("\\", "/")).parts:
                near = self._entries("/".join(parts)).get(_folded(name), [])
                if name in near:
                    near = [name]
                if len(near) != 1:
                    return image
                parts += near
        except (OSError, ValueError):  # no path at all: too long, a NUL byte
            return image
        return "/".join(parts) or image

    def _entries(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder below the root, by the form in which they are compared."""
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            with contextlib.suppress(OSError):  # no folder, or one that may not be listed
                for path in Path(self._root, folder).iterdir():
                    names.setdefault(_folded(path.name), []).append(path.name)
            self._listed[folder] = names
        return self._listed[folder]


def _folded(name: str) -> str:
    return plain(name).casefold()


def unify_labels(manifests: Iterable[Manifest]) -> tuple[list[Manifest], list[str]]:
    """Labels that differ in case only, as one: the spelling that most rows have.

    For use without a domain, whose classes would tell. Numbers and signs count: ``-1`` stays
    another label than ``1``.

    Returns:
        The manifests, and a note for every label that was written in several ways.

    Examples:
        >>> import pandas as pd
        >>> from cas_metric.manifest.sources import as_manifest
        >>> labels = ["Nevus", "nevus", "Nevus"]
        >>> one = as_manifest(pd.DataFrame({"image": ["a", "b", "c"], "label": labels}))
        >>> unified, notes = unify_labels([one])
        >>> set(unified[0].rows["label"]), notes
        ({'Nevus'}, ["labels that differ in case only are one class: 'nevus' is Nevus"])
    """
    manifests = list(manifests)
    counts = Counter(label for one in manifests for label in one.rows["label"])
    spellings: dict[str, list[str]] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        spellings.setdefault(label.casefold(), []).append(label)
    chosen = {label: same[0] for same in spellings.values() for label in same if label != same[0]}
    if not chosen:
        return manifests, []
    told = ", ".join(f"{old!r} is {new}" for old, new in sorted(chosen.items()))
    unified = [
        replace(one, rows=one.rows.assign(label=one.rows["label"].replace(chosen)))
        for one in manifests
    ]
    return unified, [f"labels that differ in case only are one class: {told}"]
