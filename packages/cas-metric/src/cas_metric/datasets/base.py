"""What the four clinical data sets have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Positions = NDArray[np.int64]

#: Name of the split that keeps near-duplicates on one side; it needs the images, not only the rows.
DUPLICATE_DISJOINT: Final = "duplicate-disjoint"


@dataclass(frozen=True)
class Source:
    """Where a data set is obtained, and under which terms.

    Attributes:
        title: Its full name.
        citation: Who published it.
        url: Page from which its owners hand it out.
        terms: Licence or conditions of use, in a few words.
        layout: What the folder should hold once it is unpacked.
    """

    title: str
    citation: str
    url: str
    terms: str
    layout: str

    @property
    def where(self) -> str:
        """One sentence on where to get it and what it should look like."""
        return f"{self.title} is obtained from {self.url} ({self.terms}); expected: {self.layout}"


@dataclass(frozen=True)
class Collection:
    """The images of a data set that belong to its domain.

    Attributes:
        records: One row an image: ``id``, ``image`` (POSIX path relative to ``root``), ``label``
            (class name of the domain), ``patient`` (may be ``""``) and ``official`` (``train``,
            ``test`` or ``""`` where the publisher assigns no side).
        root: Folder that the paths are relative to.
        files: The tables that were read.
        notes: What a person should know about how the images were chosen.
    """

    records: pd.DataFrame
    root: Path
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Partition:
    """Positions in :attr:`Collection.records`; a row may be in neither.

    Attributes:
        train: Rows of the training side, in the order in which they are written.
        test: Rows of the test side.
        notes: What a person should know about the split.
    """

    train: Positions
    test: Positions
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One data set: how it is read and which splits it has.

    Attributes:
        name: Name on the command line.
        domain: Domain pack with its classes.
        source: Where it comes from.
        splits: Name of a split to what it is.
        read: Root folder and name of the split to the images.
        split: Images, name of the split and seed to the two sides.
    """

    name: str
    domain: str
    source: Source
    splits: Mapping[str, str]
    read: Callable[[Path, str], Collection]
    split: Callable[[Collection, str, int], Partition]
    refused: Mapping[str, str] = field(default_factory=dict)

    def check_split(self, kind: str) -> None:
        """Refuse a split that this data set does not have.

        Raises:
            InputError: It says why, and which splits there are.
        """
        if kind in self.splits:
            return
        why = self.refused.get(kind, f"{self.name} has no split called {kind!r}")
        listed = "; ".join(f"{name}: {text}" for name, text in self.splits.items())
        raise InputError(why, fix=f"use one of these with --split. {listed}")
