"""PNG, JPEG, WebP, BMP, GIF, JPEG 2000 and plain TIFF, by Pillow; deep PNG colour by libpng.

Pillow's ``draft`` mode, which changes pixels, is never used. A truncated file is always found, and
damage inside of a PNG too, by its checksums; JPEG and BMP carry none, so that damage in the middle
of one may go unnoticed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from cas_metric.errors import ImageError
from cas_metric.images.limits import (
    BYTES_PER_DEEP_PIXEL,
    BYTES_PER_PIXEL,
    Header,
    check_header,
    naming,
)
from cas_metric.images.values import (
    SAVE_ONE,
    LoadedImage,
    Window,
    composite,
    grey_to_rgb,
    refuse_window,
    scaled,
)

#: Formats that are read. Others that Pillow knows call external programs or are no pictures.
#: A JPEG may turn out to be a camera's MPO.
FORMATS: Final = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
#: How files of these formats begin, and of others that are often met.
BEGINNINGS: Final = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
READ: Final = "PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, DICOM and NIfTI are read"
SAVE_AS_PNG: Final = "save it as PNG of 8 or 16 bits"
REWRITE: Final = "write the image again; if it was copied, the copy is incomplete or damaged"
SIZE_OF_JPEG_2000: Final = b"\xff\x4f\xff\x51"  # marker of what the codestream holds
PHOTOMETRIC: Final = 262  # TIFF tag; 0 is MinIsWhite


def load_raster(
    path: Path,
    *,
    window: Window | None,
    frame: int | None,
    max_pixels: int,
    background: tuple[int, int, int],
) -> LoadedImage:
    """Decode one raster file; see :func:`cas_metric.images.load_image`."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageError(
            f"{path}: Pillow has been told to accept truncated files, so none can be trusted",
            fix="remove the assignment to PIL.ImageFile.LOAD_TRUNCATED_IMAGES",
        )
    with opened(path) as image, naming(path, REWRITE):
        check_header(path, header_of(path, image), max_pixels)
        steps = _choose_frame(path, image, frame)
        bits = _bits(path, image)  # before getexif(), which decodes a PNG
        if image.format == "PNG":
            _verify_checksums(path)
        min_is_white = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if image.format == "JPEG":
            from cas_metric.images import jpeg

            image = jpeg.decoded(path, image)
        image.load()  # also where the pixels come from elsewhere: it refuses truncated files
        if bits > 8 and not image.mode.startswith("I;16"):
            refuse_window(path, window)
            values = transpose(_deep_colour(path, image), orientation)
            has_alpha = values.shape[2] in (2, 4)
            pixels, done = composite(values, background) if has_alpha else (scaled(values), [])
            done = ["16-bit scaled by 1/65535", *_profile_ignored(image), *done]
        else:
            if image.mode == "L" and bits < 8 and "transparency" in image.info:
                # Pillow spreads the pixels over 8 bits, but not the value that is transparent.
                image.info["transparency"] *= 255 // (2**bits - 1)
            # A TIFF is already turned by load(), and its tag gone, so that this does nothing.
            upright = ImageOps.exif_transpose(image)
            if bits > 8:
                pixels, done = _deep_grey(path, upright, bits, window, background)
            else:
                pixels, done = _eight_bits(path, upright, window, background, min_is_white)
    if orientation in range(2, 9):
        done.append(f"EXIF orientation {orientation} applied")
    return LoadedImage(np.ascontiguousarray(pixels), (*steps, *done))


def probe_raster(path: Path, max_pixels: int) -> Header:
    """Size and cost of a raster file by its header."""
    with opened(path) as image, naming(path, REWRITE):
        return check_header(path, header_of(path, image), max_pixels)


def header_of(path: Path, image: Image.Image) -> Header:
    """Size and cost of an opened file."""
    size = BYTES_PER_DEEP_PIXEL if _bits(path, image) > 8 else BYTES_PER_PIXEL
    return Header(*image.size, image.width * image.height * size + 2 * path.stat().st_size)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a raster file by its header; no pixel is decoded yet.

    Raises:
        ImageError: The content is no image of a format in :data:`FORMATS`, or Pillow takes it
            for a decompression bomb.
    """
    # A file object, not the path: by path Pillow maps grey TIFFs into memory, and garbles those
    # that it then turns by their orientation.
    with path.open("rb") as file, _identify(path, file) as image:
        yield image


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[str]]:
    """Apply the colour profile of RGB and CMYK images.

    Grey profiles are left alone: grey values are measurements here, not colours.
    """
    steps = []
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        target = "RGBA" if image.mode == "RGBA" else "RGB"
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = ImageCms.getProfileDescription(source).strip()
            if image.mode != "CMYK" and "srgb" in name.lower():
                return image, []
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode=target
            )
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            steps = ["unreadable colour profile ignored"]
        else:
            assert converted is not None  # not in place
            return converted, [f"colour profile {name!r} converted to sRGB"]
    if image.mode == "CMYK":
        return image.convert("RGB"), [*steps, "CMYK converted to RGB without a profile"]
    if image.mode == "LAB":
        return image.convert("RGB"), ["LAB converted to sRGB"]
    return image, steps


def transpose(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8) to an array: rows and columns swap first, then flips."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _identify(path: Path, file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        kind = _kind(file.read(16))
        cause = (
            f"begins like {kind}, but is damaged or of a variant that is not read"
            if kind
            else "the content is no readable image, whatever the name says"
        )
        fix = f"{SAVE_AS_PNG}, if it opens elsewhere" if kind else READ
        raise ImageError(f"{path}: {cause}", fix=fix) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{path}: too large: {error}", fix="crop or downsample the image"
        ) from error
    except Exception as error:  # as in `naming`: a damaged header raises nearly anything
        raise ImageError(f"{path}: the header cannot be read: {error}", fix=REWRITE) from error


def _kind(beginning: bytes) -> str:
    """The format that a file's first 16 bytes announce; empty where they announce none."""
    if beginning[4:8] == b"ftyp":
        return "AVIF, HEIC or a film"
    if beginning[8:12] == b"WEBP":
        return "WebP"
    return next((name for mark, name in BEGINNINGS.items() if beginning.startswith(mark)), "")


def _choose_frame(path: Path, image: Image.Image, frame: int | None) -> list[str]:
    """Go to the wanted picture of a file that may hold several."""
    count = getattr(image, "n_frames", 1)
    if image.format == "MPO" and frame is None:
        # A camera's JPEG with previews behind it: the first picture is the photograph.
        return [f"first of {count} pictures of an MPO file"] if count > 1 else []
    if frame is None:
        if count > 1:
            raise ImageError(f"{path}: holds {count} pictures (animation or pages)", fix=SAVE_ONE)
        return []
    if not 0 <= frame < count:
        raise ImageError(
            f"{path}: has no frame {frame}", fix=f"choose a frame from 0 to {count - 1}"
        )
    image.seek(frame)
    return [f"frame {frame} of {count}"] if count > 1 else []


def _verify_checksums(path: Path) -> None:
    """Check every chunk of a PNG: Pillow's decoder does not look at the checksums of pixel data."""
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _bits(path: Path, image: Image.Image) -> int:
    """Bits of a sample in the file, which the type that the decoder returns does not tell."""
    if image.format == "JPEG2000":
        return _bits_of_jpeg_2000(path)
    tiles = getattr(image, "tile", None)
    mode = str(tiles[0].args) if image.format == "PNG" and tiles else ""
    depth = mode.partition(";")[2].rstrip("B")  # such as L;2 or RGB;16B
    return int(depth) if depth.isdigit() else 8


def _bits_of_jpeg_2000(path: Path) -> int:
    """Bits of every channel by the codestream: Pillow shifts all to 8 or 16 and drops signs."""
    with path.open("rb") as file:
        content = file.read(2**20)
    start = content.find(SIZE_OF_JPEG_2000)
    channels = int.from_bytes(content[start + 40 : start + 42])
    depths = set(
        content[start + 42 : start + 42 + 3 * channels : 3]
    )  # bits - 1, and 128 for a sign
    if start < 0 or len(depths) != 1 or not 8 <= max(depths) + 1 <= 16:
        kinds = [f"{(d & 127) + 1} {'signed ' * (d > 127)}bits" for d in sorted(depths)]
        found = " or ".join(kinds) if start >= 0 else "an unknown number of bits"
        raise ImageError(f"{path}: JPEG 2000 of {found} a sample is not read", fix=SAVE_AS_PNG)
    return depths.pop() + 1


def _deep_colour(path: Path, image: Image.Image) -> np.ndarray:
    """``(H, W, 2..4)`` uint16 of a PNG with 16 bits a channel, not yet turned.

    Pillow would keep the upper byte.
    """
    if image.format != "PNG":
        raise ImageError(
            f"{path}: {image.mode} of more than 8 bits in {image.format} is not read",
            fix=SAVE_AS_PNG,
        )
    import torch
    from torchvision.io import ImageReadMode, decode_image

    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    values = decode_image(content, mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    if values.dtype != np.uint16:
        raise ImageError(f"{path}: {values.dtype} colour is not read", fix=SAVE_AS_PNG)
    if "transparency" in image.info:  # one colour stands for transparent
        opaque = (values != image.info["transparency"]).any(axis=2, keepdims=True)
        values = np.concatenate([values, opaque * np.uint16(65535)], axis=2)
    return values


def _eight_bits(
    path: Path,
    image: Image.Image,
    window: Window | None,
    background: tuple[int, int, int],
    min_is_white: bool,
) -> tuple[np.ndarray, list[str]]:
    """RGB pixels of a decoded image of at most 8 bits and what was done to get them."""
    if image.mode == "1":
        image = image.convert("L")
    if window is not None:
        if image.mode != "L" or image.has_transparency_data:
            refuse_window(path, window)
        if not min_is_white:
            return grey_to_rgb(window.apply(np.asarray(image))), [str(window)]
        shown = 1 - window.apply(255 - np.asarray(image))  # Pillow has inverted these
        return grey_to_rgb(shown), [str(window), "MinIsWhite inverted"]
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("P", "PA"):  # the profile is that of the colours in the palette
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image, steps = to_srgb(image, profile)
    if image.has_transparency_data:
        pixels, done = composite(np.asarray(image.convert("RGBA")), background)
        return pixels, [*steps, *done]
    return np.asarray(image.convert("RGB")), steps


def _deep_grey(
    path: Path,
    image: Image.Image,
    bits: int,
    window: Window | None,
    background: tuple[int, int, int],
) -> tuple[np.ndarray, list[str]]:
    """RGB pixels of a decoded grey image of 9 to 16 bits and what was done to get them."""
    values = np.asarray(image).astype(np.uint16, copy=False)
    if "transparency" in image.info:
        refuse_window(path, window)
        opaque = (values != image.info["transparency"]) * np.uint16(65535)
        pixels, done = composite(np.stack([values, opaque], axis=2), background)
        return pixels, ["16-bit scaled by 1/65535", *done]
    values = np.right_shift(values, 16 - bits)  # of JPEG 2000 Pillow fills up the 16
    top = 2**bits - 1
    step = str(window) if window else f"{bits}-bit scaled by 1/{top}"
    return grey_to_rgb((window or Window(0, top)).apply(values)), [step]


def _profile_ignored(image: Image.Image) -> list[str]:
    return ["colour profile ignored"] if image.info.get("icc_profile") else []
