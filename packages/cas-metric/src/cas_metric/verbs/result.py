"""What a verb hands back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.files import require_local, require_writable, to_json, write_bytes

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs.folder import Origin


def require_free(
    folder: str | Path | None,
    name: str,
    origin: Origin | None,
    *,
    tables: Iterable[str] = (),
    files: Sequence[str] = (),
) -> None:
    """Refuse what :meth:`Result.save` would refuse, before anything is computed.

    Args:
        folder: Where the result is to be saved; None for nowhere.
        name: Of the result.
        origin: What it is made from; None says no more than whose it is.
        tables: Of the result; where one lies, an interrupted save left the files.
        files: Names of files of the result that a person may have there as well.

    Raises:
        InputError: The folder holds the result of other inputs, or one of the files without any,
            or cannot be written to.
    """
    from cas_metric.runs.folder import require_own

    if folder is None:
        return
    place = require_local(Path(folder))
    written = [f"{table}.csv" for table in tables]
    begun = any((place / table).exists() for table in written)
    made = origin.as_dict() if origin is not None else {"verb": name}
    require_own(place / f"{name}.json", made, () if begun else files, name)
    # Those without an ending are folders of the result, which may be there.
    require_writable(place, (f"{name}.json", *written, *(one for one in files if "." in one)))


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
        origin: What it was made from; no result of another origin is replaced by it.
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
    origin: Origin | None = None

    def save(self, folder: str | Path) -> Path:
        """Write tables, figures, ``NAME.md`` and, last, ``NAME.json``.

        Args:
            folder: Created where it does not exist; the same result, made again, is replaced.

        Returns:
            The folder.

        Raises:
            InputError: It holds the result of other inputs, or files that are no result.
            CasError: It cannot be written to.
        """
        path = Path(folder)
        self._require_free(path)
        self._write_all(path)
        write_bytes(path / f"{self.name}.md", self.text.encode())
        write_bytes(path / f"{self.name}.json", to_json(self._told()).encode())
        return path

    def _require_free(self, folder: Path) -> None:
        require_free(folder, self.name, self.origin, tables=self.tables, files=self.files)

    def _told(self) -> Any:
        """The summary, or list of them, with what it was made from."""
        if self.origin is None:
            return self.summary
        made = {"origin": self.origin.as_dict()}
        if isinstance(self.summary, list):
            return [{**one, **made} for one in self.summary]
        return {**self.summary, **made}

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
        from cas_metric.runs.folder import made_from, require_own

        path = require_local(Path(folder or self.folder))
        made = made_from(self.summary, self.name) or {}
        require_own(path / "summary.json", made, ("summary.json",))
        self._write_all(path)
        told = {"kind": self.name, **self.summary}  # without it, nobody knows whose folder it is
        write_bytes(path / "summary.json", to_json(told).encode())
        return path
