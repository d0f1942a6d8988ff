"""Image files to RGB pixels, faithfully: whatever was done to the values is on record.

Every reader either returns the whole image, or raises :class:`~cas_metric.errors.ImageError`
naming the file, the cause and the fix. Nothing is rescaled to its own minimum and maximum: values
are mapped by the full range of their type, by a display window that the file itself states
(DICOM), or by the window that the caller gives.
"""

from cas_metric.images.limits import MAX_ASPECT, MAX_BYTES, MAX_PIXELS, MIN_SIDE
from cas_metric.images.notes import Note, notes_of
from cas_metric.images.reading import IMAGE_SUFFIXES, decoding_cost, load_image, probe_header
from cas_metric.images.values import (
    STEPS_TOLD,
    LoadedImage,
    Window,
    count_steps,
    save_png,
    sha256_file,
    to_tensor,
    to_uint8,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "STEPS_TOLD",
    "LoadedImage",
    "Note",
    "Window",
    "count_steps",
    "decoding_cost",
    "load_image",
    "notes_of",
    "probe_header",
    "save_png",
    "sha256_file",
    "to_tensor",
    "to_uint8",
]
