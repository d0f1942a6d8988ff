"""What the readers of all formats share: the result, windows, conversions."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.errors import ImageError, InputError
from cas_metric.files import is_local, place

if TYPE_CHECKING:
    import torch

#: Kinds of steps that :func:`count_steps` spells out.
STEPS_TOLD: Final = 50
#: Colour behind transparent pixels. White is what a reader sees on a page or in a viewer.
BACKGROUND: Final = (255, 255, 255)
#: Rows that are composited at once.
BAND: Final = 64
#: What to do about a file that holds more than one picture.
SAVE_ONE: Final = (
    "save the wanted one as a file of its own: "
    "load_image(path, frame=0) and save_png(image, path) of cas_metric.images"
)
#: What to do about values that no range is known of.
GIVE_A_WINDOW: Final = (
    "name the values to show black and white: `window: [LOW, HIGH]` in the cas.yaml of the folder, "
    "or load_image(path, window=Window(LOW, HIGH))"
)


@dataclass(frozen=True)
class LoadedImage:
    """One decoded image.

    Attributes:
        pixels: ``(H, W, 3)`` RGB; uint8 where the source has 8 bits, else float32 in [0, 1].
        steps: What was done to the stored values, in order, and what is to be noted of the
            result (:func:`~cas_metric.images.notes_of`); empty for plain 8-bit grey or RGB.

    Examples:
        >>> LoadedImage(np.zeros((8, 8, 3), np.uint8)).steps  # nothing was done to the values
        ()
    """

    pixels: np.ndarray
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """A display window: stored values from ``low`` to ``high`` map linearly to [0, 1].

    In DICOM, values are those after rescale (Hounsfield units for CT). A centre and a width, such
    as -600 and 1500 for lungs, are ``Window(-600 - 1500 / 2, -600 + 1500 / 2)``.

    Attributes:
        low: Value shown black; everything below it is black too.
        high: Value shown white; everything above it is white too.

    Raises:
        InputError: The bounds are not finite, or ``high`` is not above ``low``.

    Examples:
        >>> lungs = Window(-600 - 1500 / 2, -600 + 1500 / 2)
        >>> lungs.apply(np.array([-2000.0, -600.0, 400.0])).tolist()
        [0.0, 0.5, 1.0]
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"a window from {self.low} to {self.high} is empty",
                fix="give two finite numbers, the lower one first",
            )

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map ``values`` of any shape to float32 in [0, 1]."""
        scaled = values.astype(np.float64)
        scaled -= self.low
        scaled /= self.high - self.low
        return np.clip(scaled, 0.0, 1.0, out=scaled).astype(np.float32)

    @property
    def bounds(self) -> tuple[float, float]:
        """``low`` and ``high``, as numbers for a summary."""
        return float(self.low), float(self.high)

    def __str__(self) -> str:
        return f"window {self.low:g} to {self.high:g}"


def measured(path: Path, values: np.ndarray) -> np.ndarray:
    """The values of a grey image as they are, once it is sure that they are finite numbers.

    Every reader passes what it decoded through here before anything is shown of it.

    Raises:
        ImageError: NaN or infinity among the values, or what is no real number.
    """
    if values.dtype.kind not in "buif":
        raise ImageError(
            f"{path}: its values are of type {values.dtype}, not real numbers",
            fix="save one grey value a pixel",
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(f"{path}: holds values that are not finite", fix="replace NaN and inf")
    return values


def refuse_window(path: Path, window: Window | None) -> None:
    """Colour has no window.

    Raises:
        ImageError: One is given.
    """
    if window is not None:
        raise ImageError(
            f"{path}: a window applies to grey images, this one has colour or transparency",
            fix="leave the window out, or convert the image to grey",
        )


def composite(
    values: np.ndarray, background: tuple[int, int, int], *, premultiplied: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Put ``(H, W, 2)`` grey or ``(H, W, 4)`` RGB values, alpha last, on ``background``.

    Args:
        values: uint8 or uint16.
        background: RGB behind transparent pixels.
        premultiplied: Whether the colours have been multiplied by alpha already.

    Returns:
        ``(H, W, 3)`` as :func:`scaled` gives them, and the record.
    """
    if values[..., -1].min() == np.iinfo(values.dtype).max:
        return scaled(values[..., :-1]), []
    pixels = np.empty((*values.shape[:2], 3), scaled(values[:1]).dtype)
    behind = np.asarray(background, dtype=np.float32) / np.float32(255)
    for start in range(0, len(values), BAND):  # in bands, for the sake of memory
        band = values[start : start + BAND] / np.float32(np.iinfo(values.dtype).max)
        colour, alpha = band[..., :-1], band[..., -1:]
        shown = (colour if premultiplied else colour * alpha) + behind * (1 - alpha)
        shown = shown.clip(0, 1)
        pixels[start : start + BAND] = to_uint8(shown) if pixels.dtype == np.uint8 else shown
    return pixels, [f"transparency composited on RGB {background}"]


def scaled(values: np.ndarray) -> np.ndarray:
    """``(H, W, C)`` uint8 as it is, uint16 as float32 in [0, 1]; one channel becomes three."""
    if values.dtype != np.uint8:
        values = values.astype(np.float32)
        values /= np.float32(65535)
    return np.broadcast_to(values, (*values.shape[:2], 3)) if values.shape[2] == 1 else values


def count_steps(records: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """How many images each step was taken on; the most frequent first, rare ones as one sum.

    DICOM files may each state a window of their own; what is told of a set must not grow with it.

    Args:
        records: ``steps`` of each :class:`LoadedImage` of a set.

    Examples:
        >>> count_steps([("EXIF orientation",), (), ("EXIF orientation",)])
        {'EXIF orientation': 2}
    """
    counts = Counter(step for record in records for step in record)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = dict(ranked[:STEPS_TOLD])
    if rest := ranked[STEPS_TOLD:]:
        told[f"{len(rest)} other steps"] = sum(count for _, count in rest)
    return told


def grey_to_rgb(values: np.ndarray) -> np.ndarray:
    """``(H, W)`` to ``(H, W, 3)``, the same value in each channel, dtype kept."""
    return np.repeat(values[:, :, np.newaxis], 3, axis=2)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """8-bit pixels: rounded where they are float in [0, 1], else unchanged.

    Examples:
        >>> to_uint8(np.full((1, 1, 3), 0.5, np.float32)).tolist()
        [[[128, 128, 128]]]
    """
    if pixels.dtype == np.uint8:
        return pixels
    scaled = pixels * 255.0
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """``(H, W, 3)`` uint8 or float pixels to a ``(3, H, W)`` float32 tensor in [0, 1].

    Examples:
        >>> to_tensor(np.full((4, 6, 3), 255, np.uint8)).shape
        torch.Size([3, 4, 6])
    """
    import torch

    channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tensor = torch.from_numpy(channels_first).float()
    return tensor / 255.0 if pixels.dtype == np.uint8 else tensor


def save_png(image: LoadedImage, path: str | Path) -> None:
    """Save what was read as PNG: 16 bits where a grey image has more than 8, else 8 bits.

    It makes a file that can be scored of one slice of a volume, or one frame of a film.

    Examples:
        >>> ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1)
        >>> save_png(LoadedImage(ramp.repeat(3, axis=2)), "ramp.png")
    """
    from PIL import Image

    pixels = image.pixels
    is_grey = (pixels == pixels[..., :1]).all()
    if is_grey and pixels.dtype != np.uint8:
        picture = Image.fromarray(np.rint(pixels[..., 0] * 65535.0).astype(np.uint16))
    else:
        picture = Image.fromarray(to_uint8(pixels[..., 0] if is_grey else pixels))
    picture.save(path, format="PNG")


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of the bytes of a file.

    Raises:
        ImageError: The file is missing or cannot be read.

    Examples:
        >>> _ = Path("empty").write_bytes(b"")
        >>> sha256_file("empty")[:8]
        'e3b0c442'
    """
    path = place(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> ImageError:
    """Why the bytes of an image cannot be had; of what is no local file, the cause alone."""
    cause = error if is_local(path) else getattr(error, "strerror", None)
    return ImageError(
        f"{path}: {cause or error}", fix="check the path and the permissions of the file"
    )


@contextmanager
def at_hand(path: str | Path) -> Iterator[Path]:
    """An image as a local file: itself, or a copy for the time of a block.

    What is told of the copy, is told of the image.

    Raises:
        ImageError: It cannot be read from where it lies.
    """
    path = place(path)
    if is_local(path):
        yield path
        return
    ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
    plain = ending.replace(".", "").isalnum() and len(ending) < 16
    handle, name = tempfile.mkstemp(suffix=ending if plain else "")
    try:
        with os.fdopen(handle, "wb") as file:
            try:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            except OSError as error:
                raise unreadable(path, error) from error
        yield Path(name)
    except ImageError as error:
        raise ImageError(error.problem.replace(name, str(path)), fix=error.fix) from error
    finally:
        Path(name).unlink(missing_ok=True)
