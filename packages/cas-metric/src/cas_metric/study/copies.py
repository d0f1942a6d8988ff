"""Anonymous copies of the images: pixels under random names, and nothing else of their files."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cas_metric.errors import ImageError, PreflightError
from cas_metric.files import write_bytes
from cas_metric.images import Note, load_image, notes_of, to_uint8
from cas_metric.study.cases import Candidate, Case

#: Called after each image: how many of how many are done.
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Copies:
    """What was copied.

    Attributes:
        images: Case and method to the name of the copy.
        references: Case to the name of the copy of its reference.
        notes: What may give methods away, a sentence each.
    """

    images: Mapping[tuple[str, str], str]
    references: Mapping[str, str]
    notes: tuple[str, ...]


def copy_images(target: Path, cases: Sequence[Case], side: int | None, advance: Advance) -> Copies:
    """Write a copy of every image of every case; a repeated case gets copies of its own names.

    Args:
        target: Folder of the copies.
        cases: Whose images.
        side: As :func:`anonymous_copy`.
        advance: Called after each image.

    Raises:
        PreflightError: Lists the images that cannot be read or shown.
    """
    images: dict[tuple[str, str], str] = {}
    references: dict[str, str] = {}
    problems: list[str] = []
    uneven = alike = done = 0
    total = sum(len(case.candidates) + (case.reference is not None) for case in cases)
    for case in cases:
        pictures = []
        for one in (*case.candidates, *([case.reference] if case.reference else [])):
            try:
                picture = anonymous_copy(one, side)
            except ImageError as error:
                problems.append(f"case {case.source!r}: {error.problem}")
                continue
            finally:
                advance(done := done + 1, total)
            name = f"{secrets.token_hex(16)}.png"
            write_bytes(target / name, _encode(picture))
            if one is case.reference:
                references[case.key] = name
                continue
            images[case.key, one.method] = name
            pictures.append(picture)
        uneven += len({picture.size for picture in pictures}) > 1
        alike += len({picture.tobytes() for picture in pictures}) < len(pictures)
    if problems:
        raise PreflightError(
            list(dict.fromkeys(problems)),
            fix="replace these images, leave their cases out, or give deep ones a --window",
        )
    notes = []
    if uneven:
        notes.append(
            f"in {uneven} cases the images differ in size, which may give a method away; "
            "--side PIXELS scales all of them alike"
        )
    if alike:
        notes.append(f"in {alike} cases two images are identical, so that their order is chance")
    return Copies(images, references, tuple(notes))


def anonymous_copy(candidate: Candidate, side: int | None = None) -> Image.Image:
    """The pixels of a candidate as 8-bit RGB and nothing else of its file.

    Raters set their own window on these 8 bits. All images of a study have equally many, since a
    deeper one among them would be known by how it bears a narrow window.

    Args:
        candidate: Image and the display window of its folder.
        side: Pixels of the longer side; None leaves the size.

    Raises:
        ImageError: It cannot be read, or has more than 8 bits of which too little would be seen
            without a window.
    """
    loaded = load_image(candidate.path, window=candidate.window)
    used = 255 * float(np.ptp(loaded.pixels)) if loaded.pixels.dtype != np.uint8 else 0.0
    if used and {Note.FAINT, Note.BLANK} & set(notes_of(loaded.steps)):
        raise ImageError(
            f"{candidate.path}: has more than 8 bits and states no window, so that raters would "
            f"see {used:.0f} of 255 grey levels",
            fix="give one with --window LOW HIGH, or `window: [LOW, HIGH]` in the cas.yaml",
        )
    picture = Image.fromarray(to_uint8(loaded.pixels))
    if side is None:
        return picture
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _encode(picture: Image.Image) -> bytes:
    """PNG without any text, profile or time; the same settings whatever the original was."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
