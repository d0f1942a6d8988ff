"""What the pixel detectors need of every file: digests, perceptual hash and a grey square.

Each file is decoded once. The grey square is Rec. 601 luma, resized antialiased to one fixed size
whatever the shape of the picture, with its values kept in [0, 255] as floating-point numbers, so
that 16-bit pictures lose nothing to rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cas_metric.copies import phash
from cas_metric.copies.keypoints import Keypoints, on_disk
from cas_metric.copies.ssim_kernel import WINDOW
from cas_metric.embedding.decoding import default_workers, ordered_map
from cas_metric.errors import ImageError, InputError
from cas_metric.images import load_image, sha256_file, to_uint8

if TYPE_CHECKING:
    from cas_metric.images import Window
    from cas_metric.manifest import Manifest

#: Rec. 601 luma, which Pillow's greyscale uses too. The weights sum to one: grey stays as it is.
LUMA: Final = (0.299, 0.587, 0.114)
#: Standard deviation, in grey levels, below which a picture is blank.
BLANK: Final = 2.0

#: Told after every file with (done, total).
Progress = Callable[[int, int], None]


class _Picture(NamedTuple):
    """One file."""

    digest: str
    content: str
    words: NDArray[np.uint64]
    grey: NDArray[np.float32] | None
    blank: bool


@dataclass(frozen=True, eq=False)
class Pictures:
    """The readable images of a manifest, and the reasons for the others.

    Attributes:
        rows: ``(N,)`` their rows in the manifest, ascending.
        paths: Their files.
        digests: sha256 of the bytes.
        contents: sha256 of the decoded pixels, with shape and type.
        words: ``(N, V)`` perceptual hashes of the picture and of its chosen variants.
        grey: ``(N, S, S)`` float32 in [0, 255], in a temporary file.
        blank: ``(N,)`` which hold no structure that could be compared.
        keypoints: Local features of every row of the manifest, nothing for unreadable ones; None
            where they were not asked for.
        errors: Path of each unreadable image to the reason.
    """

    rows: NDArray[np.int64]
    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    contents: tuple[str, ...]
    words: NDArray[np.uint64]
    grey: NDArray[np.float32]
    errors: dict[str, str]
    blank: NDArray[np.bool_]
    keypoints: Keypoints | None = None

    def __len__(self) -> int:
        return len(self.rows)


def read_pictures(
    manifest: Manifest,
    *,
    size: int,
    variants: str = "none",
    keypoints: bool = False,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> Pictures:
    """Decode every image of a manifest once.

    Args:
        manifest: Images to read, through the display window that its folder prescribes.
        size: Side of the grey square, at least 7.
        variants: What else to hash, as :func:`~cas_metric.copies.phash.variants_of` takes it.
        keypoints: Describe local features too.
        num_workers: Threads that read and decode.
        progress: Told after every file.

    Raises:
        InputError: ``size`` is too small, or ``variants`` is not known.
    """
    if size < WINDOW:
        raise InputError(f"SSIM needs at least {WINDOW} pixels a side, not {size}")
    places = phash.variants_of(variants)
    paths, workers = manifest.paths(), num_workers or default_workers()
    local = Keypoints.empty(len(paths)) if keypoints else None
    grey = on_disk((len(paths), size, size), np.float32)

    def read(row: int) -> _Picture | str:
        try:
            return _read(paths[row], manifest.window, size, places, (local, row))
        except ImageError as error:
            return error.problem

    found: list[_Picture] = []
    rows: list[int] = []
    errors: dict[str, str] = {}
    for row, picture in enumerate(
        ordered_map(read, range(len(paths)), workers=workers, ahead=2 * workers)
    ):
        if isinstance(picture, str):
            errors[str(paths[row])] = picture
        else:
            grey[len(found)] = picture.grey
            found.append(picture._replace(grey=None))
            rows.append(row)
        if progress is not None:
            progress(row + 1, len(paths))
    none = np.empty((0, len(places)), np.uint64)
    return Pictures(
        rows=np.array(rows, dtype=np.int64),
        paths=tuple(paths[row] for row in rows),
        digests=tuple(picture.digest for picture in found),
        contents=tuple(picture.content for picture in found),
        words=np.stack([picture.words for picture in found]) if found else none,
        grey=grey[: len(found)],
        errors=errors,
        blank=np.array([picture.blank for picture in found], dtype=bool),
        keypoints=local,
    )


def grey_square(pixels: NDArray[np.uint8] | NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Luma of ``(H, W, 3)`` pixels, uint8 or float in [0, 1], as ``(size, size)`` in [0, 255].

    The triangle filter has no negative lobe, so values stay within their range.
    """
    luma = pixels.astype(np.float32) @ np.array(LUMA, np.float32)
    if pixels.dtype != np.uint8:
        luma *= 255.0
    if luma.shape != (size, size):
        resized = Image.fromarray(luma).resize((size, size), Image.Resampling.BILINEAR)
        luma = np.asarray(resized, dtype=np.float32)
    return np.clip(luma, 0.0, 255.0)


def _read(
    path: Path,
    window: Window | None,
    size: int,
    variants: tuple[int, ...],
    local: tuple[Keypoints | None, int],
) -> _Picture:
    digest = sha256_file(path)
    pixels = load_image(path, window=window).pixels
    eight = to_uint8(pixels)
    grey = grey_square(pixels, size)
    if local[0] is not None:
        local[0].put(local[1], np.asarray(Image.fromarray(eight).convert("L")))
    return _Picture(
        digest,
        hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()).hexdigest(),
        np.array([phash.phash(one) for one in phash.symmetries(eight, variants)], dtype=np.uint64),
        grey,
        float(grey.std()) < BLANK,
    )
