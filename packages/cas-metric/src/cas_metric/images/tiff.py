"""TIFF, whose samples may be of any type: exact values by tifffile, plain pictures by Pillow."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.errors import ImageError
from cas_metric.images import raster
from cas_metric.images.limits import (
    BYTES_PER_DEEP_PIXEL,
    BYTES_PER_PIXEL,
    Header,
    check_header,
    naming,
)
from cas_metric.images.raster import REWRITE, SAVE_AS_PNG
from cas_metric.images.values import (
    GIVE_A_WINDOW,
    SAVE_ONE,
    LoadedImage,
    Window,
    composite,
    grey_to_rgb,
    measured,
    refuse_window,
    scaled,
)

if TYPE_CHECKING:
    from tifffile import TiffFile

NO_COMPRESSION: Final = 1
DEFLATE: Final = (8, 32946)
PREDICTORS: Final = (1, 2)  # none, and horizontal differences
MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2  # photometric interpretations
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha: multiplied into the colours, or not
ORIENTATION: Final = 274  # tag
#: Types that Pillow decodes without loss where tifffile has no decoder, by its mode.
EXACT_IN_PILLOW: Final = {
    "L": (np.int8,),
    "I;16": (np.uint16,),
    "I;16B": (np.uint16,),
    "I": (np.int16, np.int32, np.uint32),
    "F": (np.float32,),
}


def load_tiff(
    path: Path,
    *,
    window: Window | None,
    frame: int | None,
    max_pixels: int,
    background: tuple[int, int, int],
) -> LoadedImage:
    """Decode one TIFF; see :func:`cas_metric.images.load_image`."""
    import tifffile

    with naming(path, REWRITE), tifffile.TiffFile(path) as tiff:
        page, steps = _choose_page(path, tiff, frame)
        check_header(path, _header(path, page), max_pixels)
        if not _is_plain(page):
            values = _decode(path, page, frame or 0)
            pixels, done = _show(path, page, values, window, background)
            if (turn := _orientation(page)) in range(2, 9):
                done.append(f"EXIF orientation {turn} applied")
            return LoadedImage(np.ascontiguousarray(pixels), (*steps, *done))
    return raster.load_raster(
        path, window=window, frame=frame, max_pixels=max_pixels, background=background
    )


def probe_tiff(path: Path, max_pixels: int) -> Header:
    """Size and cost of a TIFF by its header."""
    import tifffile

    with naming(path, REWRITE), tifffile.TiffFile(path) as tiff:
        return check_header(path, _header(path, tiff.pages[0]), max_pixels)


def _choose_page(path: Path, tiff: TiffFile, frame: int | None) -> tuple[Any, list[str]]:
    count = len(tiff.pages)
    if frame is None and count > 1:
        raise ImageError(f"{path}: holds {count} pictures (pages)", fix=SAVE_ONE)
    if frame is not None and not 0 <= frame < count:
        raise ImageError(
            f"{path}: has no frame {frame}", fix=f"choose a frame from 0 to {count - 1}"
        )
    return tiff.pages[frame or 0], [f"frame {frame} of {count}"] if count > 1 else []


def _header(path: Path, page: Any) -> Header:
    """Size and cost: tiles and strips are decoded whole, however small the picture is."""
    size = BYTES_PER_PIXEL if _is_plain(page) else BYTES_PER_DEEP_PIXEL
    segment = page.tilewidth * page.tilelength if page.is_tiled else 0
    pixels = page.imagewidth * page.imagelength * page.imagedepth + segment
    cost = pixels * size * max(4, page.samplesperpixel) // 4 + 2 * path.stat().st_size
    return Header(page.imagewidth, page.imagelength, cost)


def _bits(page: Any) -> tuple[int, ...]:
    """Bits of each sample; tifffile itself remembers those of the first."""
    tag = page.tags.get("BitsPerSample")
    return tuple(np.atleast_1d(tag.value if tag else 1).tolist())


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag else 1


def _is_plain(page: Any) -> bool:
    """Whether all samples are unsigned and of at most 8 bits, so that Pillow is exact."""
    tag = page.tags.get("SampleFormat")
    formats = set(np.atleast_1d(tag.value if tag else 1).tolist())
    return max(_bits(page)) <= 8 and formats == {1}


def _decode(path: Path, page: Any, index: int) -> np.ndarray:
    """``(H, W, C)`` values of a page, turned as its orientation says."""
    plainly = page.compression in (NO_COMPRESSION, *DEFLATE) and page.predictor in PREDICTORS
    if plainly and set(_bits(page)) <= {8, 16, 32, 64}:
        _check_segments(path, page)
        values = page.asarray()
        if page.axes.startswith("S"):  # one plane a colour
            values = np.moveaxis(values, 0, -1)
        return raster.transpose(np.atleast_3d(values), _orientation(page))
    with raster.opened(path) as image:
        if index:
            image.seek(index)
        if page.dtype not in EXACT_IN_PILLOW.get(image.mode, ()):
            raise ImageError(f"{path}: {_describe(page)} is not read", fix=SAVE_AS_PNG)
        image.load()
        values = np.asarray(image)
        if values.dtype.itemsize == page.dtype.itemsize:
            values = values.view(page.dtype.newbyteorder(values.dtype.byteorder))
        return np.atleast_3d(values)


def _check_segments(path: Path, page: Any) -> None:
    """Refuse missing strips or tiles, which tifffile fills with zeros, and those that swell."""
    size = path.stat().st_size
    width, length = (page.imagewidth, page.imagelength)
    if page.is_tiled:
        width, length = page.tilewidth, page.tilelength
    largest = width * length * page.samplesperpixel * page.dtype.itemsize
    with path.open("rb") as file:
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if start <= 0 or count <= 0 or start + count > size:
                raise ImageError(f"{path}: a part of its pixels is missing", fix=REWRITE)
            if page.compression in DEFLATE:
                file.seek(start)
                inflated = zlib.decompressobj().decompress(file.read(count), largest + 1)
                if len(inflated) > largest:
                    raise ImageError(f"{path}: inflates to more than its size", fix=REWRITE)


def _show(
    path: Path,
    page: Any,
    values: np.ndarray,
    window: Window | None,
    background: tuple[int, int, int],
) -> tuple[np.ndarray, list[str]]:
    """RGB pixels of ``(H, W, C)`` values, and what was done to get them."""
    colours = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3}.get(page.photometric, 0)
    extra = page.extrasamples or (UNASSOCIATED,) * (values.shape[2] - colours)
    if not colours or len(extra) != values.shape[2] - colours:
        raise ImageError(f"{path}: {_describe(page)} is not read", fix=SAVE_AS_PNG)
    alpha = next((n for n, kind in enumerate(extra) if kind in (ASSOCIATED, UNASSOCIATED)), None)
    ignored = [] if len(extra) == (alpha is not None) else ["extra channels ignored"]
    if colours == 1 and alpha is None:
        pixels, steps = _grey(path, page, values[..., 0], window)
        return pixels, [*steps, *ignored]
    refuse_window(path, window)
    if values.dtype != np.uint16 or page.photometric == MIN_IS_WHITE:
        raise ImageError(f"{path}: {_describe(page)} is not read", fix=SAVE_AS_PNG)
    if alpha is None:
        pixels, steps = scaled(values[..., :colours]), []
    else:
        kept = values[..., [*range(colours), colours + alpha]]
        pixels, steps = composite(kept, background, premultiplied=extra[alpha] == ASSOCIATED)
    if "InterColorProfile" in page.tags:
        ignored.append("colour profile ignored")
    return pixels, ["16-bit scaled by 1/65535", *ignored, *steps]


def _grey(
    path: Path, page: Any, values: np.ndarray, window: Window | None
) -> tuple[np.ndarray, list[str]]:
    values = measured(path, values)
    if window is not None:
        shown, step = window.apply(values), str(window)
    elif values.dtype == np.uint16:
        bits = max(_bits(page))
        top = 2**bits - 1
        shown, step = Window(0, top).apply(values), f"{bits}-bit scaled by 1/{top}"
    else:
        raise ImageError(
            f"{path}: {values.dtype} values ({values.min():g} to {values.max():g}) have no "
            "fixed range",
            fix=f"{GIVE_A_WINDOW}; or save as 8 or 16 bits",
        )
    if page.photometric != MIN_IS_WHITE:
        return grey_to_rgb(shown), [step]
    return grey_to_rgb(1 - shown), [step, "MinIsWhite inverted"]


def _describe(page: Any) -> str:
    samples = "+".join(str(bits) for bits in _bits(page))
    return (
        f"a TIFF of {page.dtype} samples of {samples} bits, photometric interpretation "
        f"{int(page.photometric)}, compression {int(page.compression)}"
    )
