"""Manifests from what other tools hold: frames, benchmark tables, data sets in memory.

Images that exist as files stay where they are. Images that exist in memory only (Hugging Face
``datasets``, torch data sets) are written into a folder in the imagefolder convention, because
scores are cached and reported by file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.files import place, write_bytes
from cas_metric.images.raster import FORMATS
from cas_metric.manifest import COLUMNS, Manifest, read_manifest, write_manifest
from cas_metric.manifest.reading import manifest_of, name_columns
from cas_metric.tables import Table, python_values, read_table, renamed, table_of

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars
    import torch

#: The columns of CheXGenBench's ``prompt_INFO.csv``.
CHEXGENBENCH: Final = {"img_savename": "image", "prompt": "prompt"}
#: Folder of exported images, below that of their ``metadata.csv``.
IMAGES: Final = "images"


def from_frame(
    frame: pd.DataFrame | polars.DataFrame,
    root: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    allowed_roots: Sequence[str | Path] = (),
    offline: bool = False,
) -> Manifest:
    """A manifest from a pandas or polars frame that names image files.

    Args:
        frame: One row an image.
        root: Folder that the images' paths are relative to.
        columns: The frame's column names to those of a manifest, where they differ.
        allowed_roots: Folders outside of ``root`` that images may lie in.
        offline: Whether images on the network are refused.

    Raises:
        InputError: Columns that are absent, misspelt or there twice, cells of the known ones that
            are neither text, numbers nor dates.
        PreflightError: Rows that cannot be used, all of them.

    Examples:
        >>> import polars
        >>> frame = polars.DataFrame({"file": ["a.png"], "label": ["Edema"], "seed": [3]})
        >>> from_frame(frame, "images", columns={"file": "image"}).rows["seed"].tolist()
        [3]
    """
    import pandas as pd

    if isinstance(frame, pd.DataFrame):
        named = [(str(name), frame.iloc[:, at]) for at, name in enumerate(frame.columns)]
        cells = {name: values.astype(object).tolist() for name, values in named}
        if len(cells) < len(named):
            names = [name for name, _ in named]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"frame: two columns are named {twice!r}", fix="keep one of them")
    else:
        cells = frame.to_dict(as_series=False)
    cells = {name: python_values(values) for name, values in cells.items()}
    table = renamed(table_of(cells, "frame"), columns or {}, COLUMNS)
    where = place(root, offline=offline)
    return manifest_of(table, where, allowed_roots=allowed_roots, offline=offline)


def from_chexgenbench(
    path: str | Path, images: str | Path, *, columns: Mapping[str, str] | None = None
) -> Manifest:
    """A manifest from the table of generated images that CheXGenBench asks for.

    Args:
        path: CSV with ``prompt`` and ``img_savename``
            (https://github.com/Raman1121/CheXGenBench).
        images: Folder of the images (there ``assets/synthetic_images``).
        columns: Further columns of the table to those of a manifest, e.g.
            ``{"pathology": "label"}``: the benchmark's own table has no labels.

    Raises:
        InputError: The table cannot be read or lacks its columns.
        PreflightError: Rows that cannot be used, all of them.

    Examples:
        >>> import pandas as pd
        >>> row = {"prompt": "No effusion.", "img_savename": "7.png", "finding": "Normal"}
        >>> pd.DataFrame([row]).to_csv("made.csv", index=False)
        >>> made = from_chexgenbench("made.csv", "synthetic_images", columns={"finding": "label"})
        >>> made.rows[["image", "label"]].values.tolist()
        [['7.png', 'Normal']]
    """
    table = read_table(place(path))
    names = {**CHEXGENBENCH, **(columns or {})}
    return manifest_of(renamed(table, names, COLUMNS), place(images))


def from_huggingface(
    dataset: datasets.Dataset, out: str | Path, *, columns: Mapping[str, str] | None = None
) -> Manifest:
    """Write the images of a Hugging Face data set into a folder, and read it as a manifest.

    Files are written byte by byte as the data set holds them. Class indices become names; -1, which
    stands for a label that is withheld, becomes an empty one. Further columns of text and numbers
    are written too.

    Args:
        dataset: A split with an image column, e.g. ``load_dataset(…)["train"]``.
        out: Folder to write; gets ``images/`` and ``metadata.csv``.
        columns: The data set's column names to those of a manifest, where they differ.

    Raises:
        InputError: Columns that are absent, or images that are neither bytes nor files.

    Examples:
        >>> import datasets
        >>> cells = {"image": ["demo/real/test/images/test-00000.png"], "label": ["Edema"]}
        >>> held = datasets.Dataset.from_dict(cells).cast_column("image", datasets.Image())
        >>> from_huggingface(held, "exported").rows["label"].tolist()
        ['Edema']
    """
    return _export(huggingface_rows(dataset, columns or {}), Path(out))


def huggingface_rows(
    dataset: datasets.Dataset, columns: Mapping[str, str]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The file and the cells of each row of a data set; see :func:`from_huggingface`.

    Raises:
        InputError: Columns that are absent, or images that are neither bytes nor files.
    """
    from datasets import ClassLabel, Image, Value

    plain = {k for k, v in dataset.features.items() if isinstance(v, ClassLabel | Value)}
    binary = {k for k in plain if "binary" in str(dataset.features[k].dtype)}
    wanted = (plain - binary) | set(COLUMNS) | set(columns)
    kept: dict[str, list[str]] = {name: [] for name in dataset.column_names if name in wanted}
    table = renamed(Table(Path("data set"), kept, []), columns, COLUMNS)
    ours = dict(zip(kept, table.columns, strict=True))
    source = next((theirs for theirs, name in ours.items() if name == "image"), None)
    if source is None:
        raise InputError(
            f"the data set has no column 'image' among {', '.join(dataset.column_names)}",
            fix="name it: columns={'theirs': 'image'}",
        )
    name_columns(table)  # a misspelt one is told before anything is written
    raw = dataset.select_columns(list(ours)).cast_column(source, Image(decode=False))
    classes = {name: v for name, v in raw.features.items() if isinstance(v, ClassLabel)}

    def named(column: str, value: Any) -> Any:
        if column not in classes or value is None:
            return value
        return classes[column].int2str(value) if value >= 0 else None

    for row in raw:
        content = _stored_bytes(row.pop(source))
        yield content, {ours[k]: named(k, v) for k, v in row.items()}


def from_torch(
    dataset: torch.utils.data.Dataset[Any], out: str | Path, *, classes: Sequence[str] | None = None
) -> Manifest:
    """Write the images of a torch data set of ``(image, label)`` into a folder as PNG.

    Args:
        dataset: Items are ``(image, label)``: a PIL image, an ``(H, W, 3)`` or ``(H, W)`` uint8
            array, or a ``(C, H, W)`` tensor, uint8 or float in [0, 1] (rounded to 8 bits).
        out: Folder to write; gets ``images/`` and ``metadata.csv``.
        classes: Name of each label index; by default ``dataset.classes``, else labels are written
            as they are.

    Raises:
        InputError: Items of another form, values outside of [0, 1], labels beyond ``classes``.

    Examples:
        >>> import torch
        >>> held = [(torch.zeros(3, 8, 8), 1), (torch.ones(3, 8, 8), 0)]
        >>> from_torch(held, "written", classes=["benign", "malignant"]).rows["label"].tolist()
        ['malignant', 'benign']
    """
    names = classes if classes is not None else getattr(dataset, "classes", None)

    def rows() -> Iterable[tuple[bytes, dict[str, Any]]]:
        for index in range(len(dataset)):  # type: ignore[arg-type]  # map-style data sets have it
            item = dataset[index]
            if not isinstance(item, (tuple, list)) or len(item) != 2:
                raise InputError(
                    f"item {index} of the data set is no pair of image and label",
                    fix="wrap the data set so that it gives (image, label)",
                )
            yield _png(item[0], index), {"label": _label(item[1], names, index)}

    return _export(rows(), Path(out))


def _stored_bytes(image: dict[str, Any] | None) -> bytes:
    """The file of an undecoded image feature: its bytes, or those of the path it names."""
    if image and image.get("bytes"):
        return bytes(image["bytes"])
    try:
        if image and image.get("path"):
            return Path(image["path"]).read_bytes()
    except OSError as error:
        raise InputError(
            f"{image['path'] if image else ''}: {error.strerror}", fix="download the data set again"
        ) from error
    raise InputError("an image of the data set is empty", fix="filter such rows out")


def _png(image: Any, index: int) -> bytes:
    """PNG bytes of one item of a torch data set."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        image = Image.fromarray(_eight_bit(image, index))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _eight_bit(image: Any, index: int) -> NDArray[np.uint8]:
    """An array ``(H, W)`` or ``(H, W, C)``, or a tensor ``(C, H, W)``, as uint8 pixels."""
    is_tensor = hasattr(image, "detach")
    values = image.detach().cpu().numpy() if is_tensor else np.asarray(image)
    if is_tensor and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise InputError(
            f"item {index} of the data set has shape {tuple(values.shape)}, which is no image",
            fix="give (H, W), (H, W, 3) arrays or (C, H, W) tensors",
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not np.issubdtype(values.dtype, np.floating) or not (
        values.min() >= 0 and values.max() <= 1
    ):
        raise InputError(
            f"item {index} of the data set has {values.dtype} values from {values.min():g} to "
            f"{values.max():g}",
            fix="give uint8, or float in [0, 1]: leave the normalisation out",
        )
    rounded: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return rounded


def _label(label: Any, names: Sequence[str] | None, index: int) -> str:
    label = label.item() if hasattr(label, "item") else label
    if names is None or isinstance(label, str):
        return str(label)
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise InputError(
            f"item {index} of the data set has label {label!r}, but there are {len(names)} classes",
            fix="give as many class names as there are labels",
        )
    return names[label]


def _export(rows: Iterable[tuple[bytes, dict[str, Any]]], out: Path) -> Manifest:
    """Write images and their ``metadata.csv``; read them back, so that everything is checked."""
    import pandas as pd

    if (out / "metadata.csv").exists():
        raise InputError(f"{out}: already holds a metadata.csv", fix="choose another folder")
    records = []
    for number, (content, cells) in enumerate(rows):
        image = f"{IMAGES}/{number:06d}{_suffix(content)}"
        write_bytes(out / image, content)
        records.append({"id": f"{number:06d}", **cells, "image": image})
    if not records:
        raise InputError("the data set is empty", fix="choose a split that holds images")
    table = pd.DataFrame(records, dtype=object)  # whole numbers beside None stay whole
    further = [name for name in table if name not in COLUMNS]
    write_manifest(table.drop(columns=further), out, extra=table[further])
    return read_manifest(out)


def _suffix(content: bytes) -> str:
    """Ending for the format of an encoded image, by its first bytes."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return f".{(image.format or 'bin').lower()}"
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError):
        return ".bin"  # becomes a failed row, with its reason, when it is scored
