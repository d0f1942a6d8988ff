"""PNG, JPEG, TIFF, WebP and other raster files, by Pillow; deep colour where Pillow has none.

Pillow's ``draft`` mode, which changes pixels, is never used.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from cas_metric.errors import ImageError
from cas_metric.images.values import LoadedImage, Window, check_size, grey_to_rgb, naming

#: Formats that are read. Others that Pillow knows call external programs or are no pictures.
FORMATS: Final = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
BITS_PER_SAMPLE: Final = 258  # TIFF tag
PHOTOMETRIC: Final = 262  # TIFF tag; 0 is MinIsWhite
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
        deep = _deep_colour(path, image)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        image.load()
        if deep is not None:
            _refuse_window(path, window)
            pixels, done = _composite(deep, background), ["16-bit scaled by 1/65535"]
            if deep.shape[2] in (2, 4) and deep[..., -1].min() < 1:
                done.append(_background_step(background))
            pixels = _transpose(pixels, orientation)
        else:
            # A TIFF is already turned by load(); its tag is gone then and this does nothing.
            turned = ImageOps.exif_transpose(image)
            pixels, done = _to_rgb(path, turned, window, background)
    if orientation in range(2, 9):
        steps.append(f"EXIF orientation {orientation} applied")
    return LoadedImage(np.ascontiguousarray(pixels), (*steps, *done))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a raster file by its header; no pixel is decoded yet.

    Raises:
        ImageError: The content is no image of a format in :data:`FORMATS`, or Pillow takes it
            for a decompression bomb.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: the content is no readable image, whatever the name says",
            fix="PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000 and DICOM are read",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{path}: too large: {error}", fix="crop or downsample the image"
        ) from error
    except Exception as error:
        raise ImageError(f"{path}: the header cannot be read: {error}", fix=REWRITE) from error
    with image:
        yield image


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


def _deep_colour(path: Path, image: Image.Image) -> np.ndarray | None:
    """``(H, W, 2..4)`` float32 in [0, 1] where the file has 16-bit colour or alpha, else None.

    Pillow would keep the upper byte only. PNG is decoded by torchvision, TIFF by tifffile.
    """
    assert isinstance(image, ImageFile.ImageFile)  # it was opened from a file
    arguments = image.tile[0].args if image.tile else ""
    raw_mode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    if ";16" not in raw_mode or image.mode.startswith("I"):
        return None
    if image.format == "PNG":
        import torch
        from torchvision.io import ImageReadMode, decode_image

        content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        values = decode_image(content, mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    elif image.format == "TIFF" and image.mode in ("RGB", "RGBA"):
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[image.tell()]
            values = page.asarray()
            if page.axes.startswith("S"):  # one plane a colour
                values = np.moveaxis(values, 0, -1)
    else:
        raise ImageError(
            f"{path}: 16-bit {image.mode} in {image.format} is not read",
            fix="save it as 16-bit PNG",
        )
    return values.astype(np.float32) / np.float32(65535)


def _to_rgb(
    path: Path, image: Image.Image, window: Window | None, background: tuple[int, int, int]
) -> tuple[np.ndarray, list[str]]:
    """RGB pixels of a decoded Pillow image and what was done to get them."""
    if image.mode.startswith("I;16"):
        return _sixteen_bit_grey(image, window)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if window is None:
            kind = "float" if image.mode == "F" else "signed or 32-bit integer"
            raise ImageError(
                f"{path}: {kind} values ({values.min():g} to {values.max():g}) have no fixed range",
                fix="give a window (the values to show black and white), or save as 8 or 16 bits",
            )
        return grey_to_rgb(window.apply(values)), [str(window)]
    if image.mode == "1":
        image = image.convert("L")
    if window is not None:
        if image.mode != "L":
            _refuse_window(path, window)
        return grey_to_rgb(window.apply(np.asarray(image))), [str(window)]
    image, steps = _to_srgb(image)
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        if pixels[..., 3].min() < 255:
            steps.append(_background_step(background))
        composed = _composite(pixels.astype(np.float32) / 255, background)
        return np.rint(composed * 255).astype(np.uint8), steps
    return np.asarray(image.convert("RGB")), steps


def _sixteen_bit_grey(image: Image.Image, window: Window | None) -> tuple[np.ndarray, list[str]]:
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    values = np.asarray(image).astype(np.uint16)
    steps = []
    if tags.get(PHOTOMETRIC) == 0:  # Pillow inverts these at 8 bits only
        values = np.uint16(2**bits - 1) - values
        steps.append("MinIsWhite inverted")
    if window is not None:
        return grey_to_rgb(window.apply(values)), [*steps, str(window)]
    top = 2**bits - 1
    steps.append(f"{bits}-bit scaled by 1/{top}")
    return grey_to_rgb(values.astype(np.float32) / np.float32(top)), steps


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


def _background_step(background: tuple[int, int, int]) -> str:
    return f"transparency composited on RGB {background}"


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
