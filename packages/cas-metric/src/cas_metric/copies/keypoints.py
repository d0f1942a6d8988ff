"""Local features of a picture: where they are, and what they look like.

SIFT finds points that survive crops, shifts, rotations and changes of scale. Its descriptor of the
mirrored or of the inverted picture is a permutation of the same 128 numbers, so a mirrored or an
inverted copy is matched without looking at the picture again.

Source: Lowe, "Distinctive image features from scale-invariant keypoints" (IJCV 2004); Arandjelović
and Zisserman, "Three things everyone should know" (CVPR 2012) for the root.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Longer side of the picture on which points are looked for.
SIDE: Final = 256
#: Longer side of the picture that is kept to compare aligned pixels.
SMALL: Final = 128
#: Strongest points that are kept of a picture.
POINTS: Final = 250
#: Contrast below which SIFT drops a point: a tenth of its usual one, for smooth skin and films.
_CONTRAST: Final = 0.004
_EDGE: Final = 20.0

_CELLS: Final = np.arange(128).reshape(4, 4, 8)
_INVERTED: Final = _CELLS[::-1, ::-1].ravel()
_MIRRORED: Final = _CELLS[::-1][:, :, -np.arange(8) % 8].ravel()
#: Where each number of a descriptor comes from, in ``(mirrored, inverted)`` pictures.
PERMUTATIONS: Final = {
    (False, False): np.arange(128),
    (False, True): _INVERTED,
    (True, False): _MIRRORED,
    (True, True): _INVERTED[_MIRRORED],
}


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Features of the pictures of a set, in a temporary file: memory does not grow with them.

    Attributes:
        counts: ``(N,)`` points of each picture.
        places: ``(N, POINTS, 3)`` column, row (pixels of the picture at :data:`SIDE`) and size.
        descriptors: ``(N, POINTS, 128)`` SIFT, uint8.
        small: ``(N, SMALL, SMALL)`` grey picture in its upper left corner, uint8.
        shapes: ``(N, 2)`` rows and columns of that picture.
    """

    counts: NDArray[np.int64]
    places: Floats
    descriptors: NDArray[np.uint8]
    small: NDArray[np.uint8]
    shapes: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int) -> Keypoints:
        """Room for ``size`` pictures; one that is never put is a black pixel, like no other."""
        return cls(
            np.zeros(size, np.int64),
            on_disk((size, POINTS, 3), np.float32),
            on_disk((size, POINTS, 128), np.uint8),
            on_disk((size, SMALL, SMALL), np.uint8),
            np.ones((size, 2), np.int64),
        )

    def put(self, row: int, grey: NDArray[np.uint8]) -> None:
        """Describe the grey picture ``(H, W)`` in ``row``."""
        import cv2

        height, width = grey.shape
        scale = max(height, width) / SIDE
        shape = [max(1, round(side / scale)) for side in (width, height)]
        picture = cv2.resize(grey, shape, interpolation=cv2.INTER_AREA)
        sift = cv2.SIFT.create(nfeatures=POINTS, contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)
        points, found = sift.detectAndCompute(picture, None)
        count = min(len(points), POINTS)
        if count:
            self.places[row, :count] = [(*one.pt, one.size) for one in points[:count]]
            self.descriptors[row, :count] = found[:count]
        self.counts[row] = count
        half = [max(1, side * SMALL // SIDE) for side in shape]
        self.small[row, : half[1], : half[0]] = cv2.resize(
            picture, half, interpolation=cv2.INTER_AREA
        )
        self.shapes[row] = half[::-1]

    def part(self, rows: slice) -> Keypoints:
        """Some of the pictures."""
        return Keypoints(
            self.counts[rows], self.places[rows], self.descriptors[rows], self.small[rows],
            self.shapes[rows],
        )  # fmt: skip

    def picture(self, row: int) -> Floats:
        """The small grey picture of ``row``, in [0, 255]."""
        height, width = self.shapes[row]
        return self.small[row, :height, :width].astype(np.float32)

    def rooted(self, row: int) -> Floats:
        """``(P, 128)`` square roots of the descriptors of ``row``, of unit norm."""
        return rooted(self.descriptors[row, : self.counts[row]])


def rooted(descriptors: NDArray[np.uint8]) -> Floats:
    """RootSIFT: the dot product of two is one less half their squared Hellinger distance."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1.0))


def invariant(descriptors: Floats) -> Floats:
    """``(P, 128)`` what mirroring and inverting leave as they are.

    The four permutations move a number among at most four places. Sums and differences over these
    either stay or change their sign, which is dropped.
    """
    mixed = np.asarray(descriptors[:, _ORBITS] @ _HADAMARD, dtype=np.float32)
    mixed[:, :, 1:] = np.abs(mixed[:, :, 1:])
    return mixed.reshape(len(descriptors), _ORBITS.size)


def on_disk(shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Zeros in a temporary file without a name, which goes with the array."""
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=dtype, shape=shape, mode="w+")


_TABLE: Final = np.stack(list(PERMUTATIONS.values()), axis=1)
_ORBITS: Final = _TABLE[np.unique(_TABLE.min(axis=1), return_index=True)[1]]
_HADAMARD: Final = (
    np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32) / 2
)
