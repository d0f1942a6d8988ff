"""Pictures of one size with their classes, decoded once and mapped from disk.

A classifier sees every picture dozens of times, in five seeds and three data scales. They are
therefore decoded once into one array on disk, which is mapped rather than read, so that memory
does not grow with the number of images. The array is named by the content of the files: a changed
file gives another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cas_metric.embedding.decoding import default_workers, hash_files, ordered_map
from cas_metric.encoders.memory import digest_of
from cas_metric.errors import CasError, ImageError, InputError
from cas_metric.files import to_json, write_bytes
from cas_metric.images import load_image, to_uint8

if TYPE_CHECKING:
    from cas_metric.images import Window
    from cas_metric.manifest import Manifest

#: Told after every file with (done, total).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """The readable pictures of a manifest.

    Attributes:
        pixels: ``(N, S, S, 3)`` uint8, mapped from disk.
        classes: ``(N,)`` class index.
        clusters: ``(N,)`` the patient, or else the image itself: what depends on each other.
        files: ``(N,)`` sha256 of each file, as hex.
        digest: sha256 over files, classes and size.
        errors: Path of each unreadable image to the reason.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.int64]
    clusters: NDArray[Any]
    files: tuple[str, ...]
    digest: str
    errors: dict[str, str]

    def __len__(self) -> int:
        return len(self.classes)


def read_pictures(
    manifest: Manifest,
    classes: Sequence[str],
    *,
    size: int,
    folder: Path,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> LabelledPictures:
    """Decode every image of a manifest to ``size`` pixels a side, or map what was decoded before.

    Args:
        manifest: Images, each with a label.
        classes: Class names; their order gives the indices.
        size: Side of the square that every picture is resized to, whatever its shape.
        folder: Where the arrays are kept.
        num_workers: Threads that read and decode.
        progress: Told after every file.

    Raises:
        InputError: A label is missing or no class, or no image can be read.
        CasError: ``folder`` cannot be written to, or the disk is full.
    """
    indices = _class_indices(manifest, classes)
    workers = num_workers or default_workers()
    paths = manifest.paths()
    states = hash_files(paths, workers)
    files = [state.digest.hex() for state in states]
    name = digest_of({"files": files, "size": size, "window": str(manifest.window)})
    stored = folder / f"{name}.npy"
    notes = stored.with_suffix(".json")  # written last: it vouches for the array
    if not notes.is_file():
        try:
            errors = _decode(paths, manifest.window, size, stored, workers, progress)
        except OSError as error:
            raise CasError(
                f"{folder} cannot be written: {error.strerror or error}",
                fix="free space, or choose another folder with --out",
            ) from error
        write_bytes(notes, to_json(errors).encode())
    failed: dict[str, str] = json.loads(notes.read_text(encoding="utf-8"))
    kept = np.array([row for row in range(len(paths)) if str(row) not in failed], dtype=np.int64)
    if not len(kept):
        raise InputError(f"{manifest.root}: none of the {len(paths)} images can be read")
    pixels = np.load(stored, mmap_mode="r")
    patients = manifest.rows["patient"].to_numpy(dtype=str)
    clusters = np.array([p or f"image {row}" for row, p in enumerate(patients)])
    kept_files = tuple(files[row] for row in kept)
    return LabelledPictures(
        pixels=pixels if len(kept) == len(paths) else pixels[kept],
        classes=indices[kept],
        clusters=clusters[kept],
        files=kept_files,
        digest=digest_of(
            {"files": kept_files, "classes": indices[kept].tolist(), "names": list(classes),
             "size": size, "window": str(manifest.window)}
        ),
        errors={str(paths[int(row)]): reason for row, reason in failed.items()},
    )  # fmt: skip


def _class_indices(manifest: Manifest, classes: Sequence[str]) -> NDArray[np.int64]:
    index = {name: position for position, name in enumerate(classes)}
    labels = manifest.rows["label"].tolist()
    unknown = sorted({label or "(no label)" for label in labels if label not in index})
    if unknown:
        raise InputError(
            f"{manifest.root}: {len(unknown)} labels that the real training images lack, for "
            f"example {unknown[0]!r}",
            fix=f"the classes are {', '.join(classes)}",
        )
    return np.array([index[label] for label in labels], dtype=np.int64)


def _decode(
    paths: Sequence[Path],
    window: Window | None,
    size: int,
    stored: Path,
    workers: int,
    progress: Progress | None,
) -> dict[str, str]:
    """Write the array; return row to reason for the files that cannot be read."""
    stored.parent.mkdir(parents=True, exist_ok=True)
    partial = stored.with_suffix(".partial.npy")
    shape = (len(paths), size, size, 3)
    table = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)

    def read(path: Path) -> NDArray[np.uint8] | str:
        try:
            return _square(to_uint8(load_image(path, window=window).pixels), size)
        except ImageError as error:
            return error.problem

    errors = {}
    for row, picture in enumerate(ordered_map(read, paths, workers=workers, ahead=2 * workers)):
        if isinstance(picture, str):
            errors[str(row)] = picture
        else:
            table[row] = picture
        if progress is not None:
            progress(row + 1, len(paths))
    table.flush()
    del table
    partial.replace(stored)
    return errors


def _square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (size, size):
        return pixels
    picture = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)
