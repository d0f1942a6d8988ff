"""PNG, JPEG, TIFF, WebP and other raster files, by Pillow; deep colour where Pillow has none.

Pillow's ``draft`` mode, which changes pixels, is never used. A truncated file is always found, and
damage inside of a PNG too, by its checksums; JPEG carries none, so that damage in the middle of one
may go unnoticed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from cas_metric.errors import ImageError
from cas_metric.images.values import LoadedImage, Window, check_size, grey_to_rgb, naming

#: Formats that are read. Others that Pillow knows call external programs or are no pictures.
#: A JPEG may turn out to be a camera's MPO.
FORMATS: Final = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
BITS_PER_SAMPLE: Final = 258  # TIFF tag
PHOTOMETRIC: Final = 262  # TIFF tag; 0 is MinIsWhite
SAVE_AS_PNG: Final = "save it as 16-bit PNG, or install the decoder that is named, if one is"
REWRITE: Final = "write the image again; if it was copied, the copy is incomplete or damaged"


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
        check_size(path, image.width, image.height, max_pixels)
        steps = _choose_frame(path, image, frame)
        if image.format == "PNG":
            _verify_checksums(path)
        is_deep = _is_deep_colour(image)  # before getexif(), which decodes a PNG
        tags = dict(getattr(image, "tag_v2", {}))
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        image.load()  # also where the pixels come from elsewhere: it refuses truncated files
        if is_deep:
            _refuse_window(path, window)
            values = _decode_deep_colour(path, image)
            pixels = _transpose(_composite(values, background), orientation)
            steps += ["16-bit scaled by 1/65535", *_background_steps(values, background)]
        else:
            # A TIFF is already turned by load(), and its tag gone, so that this does nothing.
            upright = ImageOps.exif_transpose(image)
            pixels, done = _to_rgb(path, upright, tags, window, background)
            steps += done
    if orientation in range(2, 9):
        steps.append(f"EXIF orientation {orientation} applied")
    return LoadedImage(np.ascontiguousarray(pixels), tuple(steps))


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


def _identify(path: Path, file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: the content is no readable image, whatever the name says",
            fix="PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000 and DICOM are read",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{path}: too large: {error}", fix="crop or downsample the image"
        ) from error
    except Exception as error:  # as in `naming`: a damaged header raises nearly anything
        raise ImageError(f"{path}: the header cannot be read: {error}", fix=REWRITE) from error


def _choose_frame(path: Path, image: Image.Image, frame: int | None) -> list[str]:
    """Go to the wanted picture of a file that may hold several."""
    count = getattr(image, "n_frames", 1)
    if image.format == "MPO" and frame is None:
        # A camera's JPEG with previews behind it: the first picture is the photograph.
        return [f"first of {count} pictures of an MPO file"] if count > 1 else []
    if frame is None:
        if count > 1:
            raise ImageError(
                f"{path}: holds {count} pictures (animation or pages)",
                fix="save the wanted one as a file of its own",
            )
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


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether the file has 16-bit colour or alpha, of which Pillow would keep the upper byte."""
    if image.mode.startswith(("I", "F")):
        return False
    if image.format == "TIFF":
        return max(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (1,))) > 8
    tiles = getattr(image, "tile", [])
    return bool(tiles) and ";16" in str(tiles[0].args)


def _decode_deep_colour(path: Path, image: Image.Image) -> np.ndarray:
    """``(H, W, 2..4)`` float32 in [0, 1] of a file with 16 bits a channel, not yet turned."""
    if image.format == "PNG":
        import torch
        from torchvision.io import ImageReadMode, decode_image

        content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        values = decode_image(content, mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
        if "transparency" in image.info:  # one colour stands for transparent
            opaque = (values != image.info["transparency"]).any(axis=2, keepdims=True)
            values = np.concatenate([values, opaque * np.uint16(65535)], axis=2)
    elif image.format == "TIFF" and image.mode in ("RGB", "RGBA"):
        import tifffile

        with naming(path, SAVE_AS_PNG), tifffile.TiffFile(path) as tiff:
            page = tiff.pages[image.tell()]
            values = page.asarray()
            if page.axes.startswith("S"):  # one plane a colour
                values = np.moveaxis(values, 0, -1)
    else:
        raise ImageError(
            f"{path}: {image.mode} of more than 8 bits in {image.format} is not read",
            fix=SAVE_AS_PNG,
        )
    if values.dtype != np.uint16:
        raise ImageError(f"{path}: {values.dtype} colour is not read", fix=SAVE_AS_PNG)
    return values.astype(np.float32) / np.float32(65535)


def _to_rgb(
    path: Path,
    image: Image.Image,
    tags: dict[int, Any],
    window: Window | None,
    background: tuple[int, int, int],
) -> tuple[np.ndarray, list[str]]:
    """RGB pixels of a decoded Pillow image and what was done to get them."""
    if image.mode.startswith("I;16"):
        return _sixteen_bit_grey(image, tags, window, background)
    if image.mode in ("I", "F"):
        return _unbounded_grey(path, image, window)
    if image.mode == "1":
        image = image.convert("L")
    if window is not None:
        if image.mode != "L":
            _refuse_window(path, window)
        return grey_to_rgb(window.apply(np.asarray(image))), [str(window)]
    image, steps = _to_srgb(image)
    if image.has_transparency_data:
        values = np.asarray(image.convert("RGBA")).astype(np.float32) / 255
        pixels = np.rint(_composite(values, background) * 255).astype(np.uint8)
        return pixels, [*steps, *_background_steps(values, background)]
    return np.asarray(image.convert("RGB")), steps


def _sixteen_bit_grey(
    image: Image.Image,
    tags: dict[int, Any],
    window: Window | None,
    background: tuple[int, int, int],
) -> tuple[np.ndarray, list[str]]:
    bits = int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    top = 2**bits - 1
    stored = np.asarray(image).astype(np.uint16)
    steps = []
    values = stored
    if tags.get(PHOTOMETRIC) == 0:  # Pillow inverts these at 8 bits only
        values = np.uint16(top) - stored
        steps.append("MinIsWhite inverted")
    if window is not None:
        steps.append(str(window))
        shown = window.apply(values)
    else:
        steps.append(f"{bits}-bit scaled by 1/{top}")
        shown = values.astype(np.float32) / np.float32(top)
    if "transparency" not in image.info:
        return grey_to_rgb(shown), steps
    opaque = (stored != image.info["transparency"]).astype(np.float32)
    layered = np.stack([shown, opaque], axis=2)
    return _composite(layered, background), [*steps, *_background_steps(layered, background)]


def _unbounded_grey(
    path: Path, image: Image.Image, window: Window | None
) -> tuple[np.ndarray, list[str]]:
    """Float, signed and 32-bit values, which only a window gives a meaning."""
    values = np.asarray(image)
    if window is None:
        kind = "float" if image.mode == "F" else "signed or 32-bit integer"
        raise ImageError(
            f"{path}: {kind} values ({values.min():g} to {values.max():g}) have no fixed range",
            fix="give a window (the values to show black and white), or save as 8 or 16 bits",
        )
    if not np.isfinite(values).all():
        raise ImageError(f"{path}: holds values that are not finite", fix="replace NaN and inf")
    return grey_to_rgb(window.apply(values)), [str(window)]


def _to_srgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Apply the embedded colour profile of RGB and CMYK images.

    Grey profiles are left alone: grey values are measurements here, not colours.
    """
    profile = image.info.get("icc_profile")
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
            name = "unreadable"
        else:
            assert converted is not None  # not in place
            return converted, [f"colour profile {name!r} converted to sRGB"]
        ignored = ["unreadable colour profile ignored"]
    else:
        ignored = []
    if image.mode == "CMYK":
        return image.convert("RGB"), [*ignored, "CMYK converted to RGB without a profile"]
    return image, ignored


def _composite(values: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """``(H, W, 1..4)`` values in [0, 1], alpha last where even, over ``background``: RGB."""
    channels = values.shape[2]
    colour = values[..., : channels - 1] if channels in (2, 4) else values
    colour = np.broadcast_to(colour, (*values.shape[:2], 3))
    if channels not in (2, 4):
        return colour
    alpha = values[..., -1:]
    behind = np.asarray(background, dtype=np.float32) / 255
    return colour * alpha + behind * (1 - alpha)


def _background_steps(values: np.ndarray, background: tuple[int, int, int]) -> list[str]:
    """The record of :func:`_composite`; nothing where no pixel is transparent."""
    if values.shape[2] in (2, 4) and values[..., -1].min() < 1:
        return [f"transparency composited on RGB {background}"]
    return []


def _refuse_window(path: Path, window: Window | None) -> None:
    if window is not None:
        raise ImageError(
            f"{path}: a window applies to grey images, this one has colour or transparency",
            fix="leave the window out, or convert the image to grey",
        )


def _transpose(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8) to an array: rows and columns swap first, then flips."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
