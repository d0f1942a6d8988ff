"""What a verb hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.files import require_local, to_json, write_bytes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Result:
    """What a verb found: plain values, tables, and a text for people.

    In a notebook it shows itself as its text.

    Attributes:
        name: Of the verb, and of the files that :meth:`save` writes.
        summary: Everything as plain values: what ``--json`` prints.
        text: The same for people, as Markdown.
        tables: Rows behind the summary, by name; each becomes a CSV.
        writers: Write what else belongs to the result, such as figures and reports, into a folder.
        files: Names of files of theirs that a person may have in a folder as well.
        failures: Image to the reason why it could not be used.
        warnings: What a person should know first.
        notes: What else is good to know, such as files that were passed over.

    Examples:
        >>> Result("fidelity", {"n": 2}, "# Fidelity").summary["n"]
        2
    """

    name: str
    summary: Mapping[str, Any]
    text: str
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    writers: tuple[Callable[[Path], Any], ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> Path:
        """Write tables, figures, ``NAME.md`` and, last, ``NAME.json``.

        Args:
            folder: Created where it does not exist; an earlier result of the verb is replaced.

        Returns:
            The folder.

        Raises:
            InputError: It holds the result of another run, or files that are no result.
            CasError: It cannot be written to.
        """
        path = Path(folder)
        self._require_own(path / f"{self.name}.json", (), self.name)
        self._write_all(path)
        write_bytes(path / f"{self.name}.md", self.text.encode())
        write_bytes(path / f"{self.name}.json", to_json(self.summary).encode())
        return path

    def _require_own(self, marker: Path, more: tuple[str, ...], verb: str) -> None:
        from cas_metric.runs.folder import made_from, require_own

        require_local(marker.parent)
        made = made_from(self.summary, self.name) or {}
        # Tables are written first: where they lie, an interrupted save of this verb left the rest.
        begun = any((marker.parent / f"{name}.csv").exists() for name in self.tables)
        require_own(marker, made, (*(() if begun else self.files), *more), verb)

    def _write_all(self, path: Path) -> None:
        for name, table in self.tables.items():
            csv = table.to_csv(index=False, lineterminator="\n")
            write_bytes(path / f"{name}.csv", csv.encode())
        for write in self.writers:
            write(path)

    def _repr_markdown_(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class FolderResult(Result):
    """A result that fills a folder of its own, which a ``summary.json`` completes.

    Attributes:
        folder: Where it is saved unless told otherwise.
        closing: What a person is told once it is saved; ``{folder}`` stands for the folder.

    Examples:
        >>> from cas_metric.verbs.leakage import leakage
        >>> result = leakage("demo/real/train", "demo/real/test")
        >>> result.save("found").name, result.folder
        ('found', PosixPath('leakage/test'))
    """

    folder: Path = field(default=Path())
    closing: str = ""

    def save(self, folder: str | Path | None = None) -> Path:
        """Write tables, figures and reports and, last, ``summary.json``.

        Args:
            folder: Created where it does not exist; the same result, made again, is replaced.

        Returns:
            The folder.

        Raises:
            InputError: It holds another run, the result of another verb or of other images, or
                files that are no result.
            CasError: It cannot be written to.
        """
        path = Path(folder or self.folder)
        self._require_own(path / "summary.json", ("summary.json",), "")
        self._write_all(path)
        told = {"kind": self.name, **self.summary}  # without it, nobody knows whose folder it is
        write_bytes(path / "summary.json", to_json(told).encode())
        return path
