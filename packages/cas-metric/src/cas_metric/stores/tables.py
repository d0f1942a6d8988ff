"""Tables that hold image files: Parquet, Arrow (also as Hugging Face saves it) and Lance."""

from __future__ import annotations

import bisect
import io
import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cas_metric.errors import InputError, MissingDependency
from cas_metric.stores.address import Address
from cas_metric.stores.base import Store, safe_name
from cas_metric.stores.remote import seekable
from cas_metric.stores.urls import cause_of

if TYPE_CHECKING:
    import pyarrow as pa

#: Endings of tables that may hold image files.
TABLES: Final = (".parquet", ".arrow", ".feather", ".lance")
#: Names by which one of several columns of bytes is taken for that of the images.
PREFERRED: Final = ("image", "img", "jpg", "jpeg", "png", "picture", "image_bytes", "bytes")
#: How Arrow calls the types that are text, numbers or dates.
_PLAIN: Final = (
    *("string", "large_string", "int", "uint", "halffloat", "float", "double", "decimal"),
    *("bool", "null", "date", "time"),
)
#: Rows that are read at once, and bytes of them that are kept for readers that lag behind.
_ROWS: Final = 32
_KEPT: Final = 32 << 20
_ENDINGS: Final = {
    b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif",
    b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp", b"\0\0\0\x0cjP": ".jp2",
    b"\xff\x4f\xff\x51": ".j2k",
}  # fmt: skip


class Part(ABC):
    """One file of a table: its columns by name, and its cells row by row.

    Args:
        place: The file, or the folder of a Lance table.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, Any]] = deque()
        self._batches: Iterator[Any] | None = None
        self._next, self._column = 0, ""
        self.schema, self.starts, self.count = self._opened()

    @abstractmethod
    def _opened(self) -> tuple[pa.Schema, list[int], int]:
        """The schema, the first row of each group that can be read by itself, and all rows."""

    @abstractmethod
    def _from(self, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Record batches from the beginning of a group on."""

    def columns(self, names: list[str]) -> dict[str, list[Any]]:
        """Whole columns as Python values."""
        found: dict[str, list[Any]] = {name: [] for name in names}
        for batch in self._from(0, names) if names and self.count else ():
            for name in names:
                found[name] += batch.column(name).to_pylist()
        return found

    def cell(self, row: int, column: str) -> Any:
        """One cell. Rows near the last one are found without reading anything twice."""
        with self._lock:
            if column != self._column:
                self._kept.clear()
                self._column, self._batches = column, None
            for start, batch in self._kept:
                if start <= row < start + batch.num_rows:
                    return batch.column(column)[row - start]
            group = bisect.bisect_right(self.starts, row) - 1
            behind = row < self._next
            if self._batches is None or behind or self._next < self.starts[group]:
                self._kept.clear()
                self._batches, self._next = self._from(group, [column]), self.starts[group]
            while True:
                batch = next(self._batches)
                self._keep(batch)
                if row < self._next:
                    return batch.column(column)[row - (self._next - batch.num_rows)]

    def _keep(self, batch: pa.RecordBatch) -> None:
        self._kept.append((self._next, batch))
        self._next += batch.num_rows
        while len(self._kept) > 2 and sum(b.nbytes for _, b in self._kept) > _KEPT:
            self._kept.popleft()


class ParquetPart(Part):
    """A Parquet file, read page by page."""

    def _opened(self) -> tuple[pa.Schema, list[int], int]:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(
            seekable(self.place), page_checksum_verification=True, pre_buffer=False,
            buffer_size=1 << 18,
        )  # fmt: skip
        told = self._file.metadata
        starts = [0]
        for group in range(told.num_row_groups):
            starts.append(starts[-1] + told.row_group(group).num_rows)
        return self._file.schema_arrow, starts[:-1] or [0], told.num_rows

    def _from(self, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for one in range(group, len(self.starts)):
            yield from self._file.iter_batches(
                _ROWS, row_groups=[one], columns=columns, use_threads=False
            )


class ArrowPart(Part):
    """An Arrow file or stream, mapped into memory; one that is not local is copied to the disk."""

    def _opened(self) -> tuple[pa.Schema, list[int], int]:
        import pyarrow as pa

        if isinstance(self.place, Address):
            from cas_metric.stores.remote import copied

            file = copied(self.place)
            source: Any = pa.memory_map(f"/proc/self/fd/{file.fileno()}")
        else:
            source = pa.memory_map(str(self.place))
        try:
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            batches = list(reader)
        self._all, starts = batches, [0]
        for batch in batches:
            starts.append(starts[-1] + batch.num_rows)
        return reader.schema, starts[:-1] or [0], starts[-1]

    def _from(self, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for batch in self._all[group:]:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.select(columns).slice(start, _ROWS)


class LancePart(Part):
    """A Lance table on this machine."""

    def _opened(self) -> tuple[pa.Schema, list[int], int]:
        if isinstance(self.place, Address):
            raise InputError(
                f"{self.place}: a Lance table is read from a local disk only",
                fix="copy it here, or write it as Parquet",
            )
        try:
            import lance
        except ImportError as error:
            raise MissingDependency("pylance", extra="lance", purpose="Lance tables") from error
        self._data = lance.dataset(str(self.place))
        count = self._data.count_rows()
        return self._data.schema, list(range(0, count, 256)) or [0], count

    def _from(self, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from self._data.scanner(
            columns=columns, offset=self.starts[group], batch_size=_ROWS, scan_in_order=True
        ).to_batches()


PARTS: Final[dict[str, Callable[[Path], Part]]] = {
    ".parquet": ParquetPart, ".arrow": ArrowPart, ".feather": ArrowPart, ".lance": LancePart,
}  # fmt: skip


class Rows(Store):
    """The images of a table, of one file or several.

    A row is called by the path that is stored with its bytes, or in a column ``file_name``, where
    all of them are different; else by its number, such as ``000017.png``.

    Args:
        root: What it is called: the file, or the folder of several.
        parts: The files.
        column: That of the images; None finds it.

    Raises:
        InputError: There is no column of images, or several and none of the usual names.
    """

    def __init__(self, root: str, parts: Sequence[Part], column: str | None = None) -> None:
        self.root, self._parts = root, parts
        self.schema = parts[0].schema
        for part in parts[1:]:
            if part.schema.names != self.schema.names:
                raise InputError(
                    f"{part.place}: its columns are not those of {parts[0].place.name}",
                    fix="give the tables one by one",
                )
        self.column = _choose(root, image_columns(self.schema), column)
        self._starts = [0]
        for part in parts:
            self._starts.append(self._starts[-1] + part.count)
        self.named_by = ""
        self.names = self._named()
        self._rows = {name: row for row, name in enumerate(self.names)}

    def __reduce__(self) -> Any:
        from cas_metric.stores.opening import rows

        return rows, (self.root, tuple(part.place for part in self._parts), self.column)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Not known before a row is read."""
        return dict.fromkeys(self.names, -1)

    def order(self, name: str) -> int:
        """The row."""
        return self._rows.get(name, 0)

    def open(self, name: str) -> BinaryIO:
        """The bytes in a row."""
        row = self._rows[name]
        which = self._which(row)
        value = self._parts[which].cell(row - self._starts[which], self.column)
        if _is_struct(value.type):
            value = value["bytes"]
        if not value.is_valid:
            raise ValueError(f"row {row + 1} holds no bytes")
        buffer = value.as_buffer() if hasattr(value, "as_buffer") else value.as_py()
        return io.BytesIO(buffer)

    def _which(self, row: int) -> int:
        return bisect.bisect_right(self._starts, row) - 1

    def holder(self, name: str) -> Path:
        """The file that has the row; of the root, the first."""
        return self._parts[self._which(self._rows.get(name, 0))].place

    def is_named(self, name: str) -> bool:
        """Where nobody had to say which column holds the images."""
        return self._is_plain

    @cached_property
    def _is_plain(self) -> bool:
        try:
            return _choose(self.root, image_columns(self.schema), None) == self.column
        except InputError:
            return False

    def cells(self) -> dict[str, list[Any]]:
        """The columns of text, numbers and dates, classes by their names."""
        kinds = {one.name: str(one.type).removeprefix("dictionary<values=") for one in self.schema}
        names = [name for name, kind in kinds.items() if kind.startswith(_PLAIN)]
        found = self._whole([name for name in names if name != self.named_by])
        for name, classes in self._classes().items():
            if name in found:
                found[name] = [_class_name(value, classes) for value in found[name]]
        return found

    def _whole(self, names: list[str]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {name: [] for name in names}
        for part in self._parts:
            for name, values in part.columns(names).items():
                found[name] += values
        return found

    def _named(self) -> list[str]:
        for name in ("file_name", "filename"):
            if name in self.schema.names:
                found = _usable(self._whole([name])[name])
                self.named_by = name if found else ""
                if found:
                    return found
        kind = self.schema.field(self.column).type
        fields = [kind.field(i).name for i in range(kind.num_fields)] if _is_struct(kind) else []
        if "path" in fields and (found := _usable(list(self._paths()))):
            return found
        return [f"{row:06d}{self._ending}" for row in range(self._starts[-1])]

    def _paths(self) -> Iterator[Any]:
        """The paths that are stored with the bytes, without the bytes where that can be had."""
        for part in self._parts:
            column = f"{self.column}.path" if isinstance(part, ParquetPart) else self.column
            for batch in part._from(0, [column]):
                yield from batch.column(0).field("path").to_pylist()

    @cached_property
    def _ending(self) -> str:
        """That of the first image; the others are known by their content anyway."""
        for part in self._parts:
            if content := _first_bytes(part, self.column):
                return next((e for mark, e in _ENDINGS.items() if content.startswith(mark)), "")
        return ""

    def _classes(self) -> dict[str, list[str]]:
        """Names of the classes, as Hugging Face's data sets write them into the schema."""
        with suppress(KeyError, ValueError, TypeError, AttributeError):
            told = json.loads((self.schema.metadata or {})[b"huggingface"])
            features = told["info"]["features"]
            return {
                name: [str(one) for one in feature["names"]]
                for name, feature in features.items()
                if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
            }
        return {}


def image_columns(schema: pa.Schema) -> list[str]:
    """Columns of bytes, or of bytes and a path, as Hugging Face stores images."""
    import pyarrow.types as kinds

    def is_bytes(kind: pa.DataType) -> bool:
        return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))

    def holds_images(kind: pa.DataType) -> bool:
        if not _is_struct(kind):
            return is_bytes(kind)
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return "bytes" in fields and is_bytes(fields["bytes"])

    return [field.name for field in schema if holds_images(field.type)]


def begins_with_image(part: Part, column: str) -> bool:
    """Whether a column of bytes holds images, by the first in it; structs say it themselves."""
    if _is_struct(part.schema.field(column).type) or not part.count:
        return True
    try:
        content = _first_bytes(part, column)
    except (OSError, ValueError, TypeError):  # a damaged page
        return False
    return any(content.startswith(mark) for mark in _ENDINGS) or content[128:] == b"DICM"


def _first_bytes(part: Part, column: str) -> bytes:
    """How the first content of a column begins; missing ones are passed over."""
    for batch in part._from(0, [column]) if part.count else ():
        values = batch.column(column).drop_null()
        for value in values.field("bytes") if _is_struct(values.type) else values:
            if value.is_valid and (content := bytes(value.as_py())):
                return content[:132]
    return b""


def part_of(place: Path) -> Part:
    """One file of a table.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return PARTS[place.suffix.lower()](place)
    except (InputError, MissingDependency):
        raise
    except Exception as error:  # pyarrow, lance and clients raise nearly anything
        raise InputError(
            f"{place}: not readable as a table: {cause_of(error)}", fix="write the table again"
        ) from error


def _choose(root: str, found: list[str], wanted: str | None) -> str:
    if wanted is not None and wanted in found:
        return wanted
    usual = [name for name in PREFERRED if name in found]
    if len(found) == 1 or usual:
        return (usual or found)[0]
    listed = ", ".join(found) or "none"
    raise InputError(
        f"{root}: which column holds the images is not clear (columns of bytes: {listed})",
        fix="call it 'image', or name it: columns={'theirs': 'image'}",
    )


def _usable(names: list[Any]) -> list[str]:
    """Names that can be those of images: all there, safe and different; else none."""
    plain = [safe_name(n.replace("\\", "/")) if isinstance(n, str) else "" for n in names]
    return plain if all(plain) and len(set(plain)) == len(plain) else []


def _class_name(value: Any, classes: list[str]) -> Any:
    if not isinstance(value, int):
        return value
    return classes[value] if 0 <= value < len(classes) else None


def _is_struct(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_struct(kind))
