"""Is one picture another one, cropped, shifted, turned, mirrored, pasted in or inverted?

Matched keypoints propose a similarity transform (RANSAC); a picture laid on another at the same
place is proposed too. Each proposal is judged by the pixels: the training picture is warped, a
least-squares fit takes out what is left of a displacement and a change of sharpness, and the
correlation of both band-passed pictures is weighed by how much structure takes part in it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.copies.keypoints import PERMUTATIONS, SIDE, SMALL, Floats, Keypoints

#: Square of the ratio of distances above which a match is ambiguous.
_AMBIGUOUS: Final = 0.9**2
_FEWEST: Final = 5
#: Fewest matches that have to agree: two fix a similarity.
_AGREED: Final = 6
#: Pixels (at :data:`SIDE`) by which a match may miss the transform.
_REACH: Final = 4.0
_SCALES: Final = (0.4, 2.5)
#: Standard deviations of the band that is compared, pixels at :data:`SMALL`.
_FINE: Final = 1.0
_COARSE: Final = 3.5
#: Correlation beyond which more agreement is no more evidence.
_CEILING: Final = 0.9998
#: Grey levels of noise that are no structure: rounding alone gives 0.29.
_NOISE: Final = 0.25
#: Powers of Fisher's z: a copy agrees nearly perfectly somewhere, anatomy agrees well everywhere.
_WHOLE_POWER: Final = 2
_PART_POWER: Final = 3
#: Correlation below which a proposal is not worth a fit.
_PROMISING: Final = 0.3
#: Side of the windows in which a patch is looked for, as a share of the longer side.
_WINDOW: Final = 0.3
#: Evidence of a whole and of a part that is asked for where no real image calibrates.
WHOLE_USUAL: Final = 120.0
PART_USUAL: Final = 400.0
#: Least share of the picture that takes part.
_LEAST: Final = 0.12


class Match(NamedTuple):
    """How a training picture lies in a generated one.

    Attributes:
        evidence: Square of Fisher's z of the aligned correlation, times the root of the number of
            pixels that take part.
        part: The same, with the cube, of the best part of the picture alone: a patch that was
            pasted in.
        correlation: Of the aligned band-passed pictures, in [-1, 1]; negative for an inverted copy.
        inliers: Matched keypoints that agree with one transform, whatever the pixels say.
        transform: ``(2, 3)`` training to generated coordinates, pixels at :data:`SIDE`.
    """

    evidence: float
    part: float
    correlation: float
    inliers: int
    transform: NDArray[np.float64]


NONE: Final = Match(0.0, 0.0, 0.0, 0, np.eye(2, 3))


def align(
    ours: Keypoints, row: int, theirs: Keypoints, other: int, *, in_place: bool = True
) -> Match:
    """The best alignment of the training picture ``other`` to the generated one ``row``.

    Args:
        ours: Features of the generated pictures.
        row: Which of them.
        theirs: Features of the training pictures.
        other: Which of them.
        in_place: Try the same place too, whatever the local features say.
    """
    picture, training = ours.picture(row), theirs.picture(other)
    band = _band(picture)
    proposals = [*([(0, np.eye(2, 3))] if in_place else []), *_proposals(ours, row, theirs, other)]
    if not proposals:
        return NONE
    found = [_judge(band, training, one) for one in proposals]
    whole = max(found, key=lambda match: match.evidence)
    part = max(found, key=lambda match: match.part)
    best = part if part.part / PART_USUAL > whole.evidence / WHOLE_USUAL else whole
    points = max(match.inliers for match in found)
    return best._replace(evidence=whole.evidence, part=part.part, inliers=points)


def describe(match: Match) -> str:
    """The transformation in words, e.g. ``mirrored, scaled 1.25``."""
    turn = match.transform[:, :2]
    mirrored = bool(np.linalg.det(turn) < 0)
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    scale = float(np.sqrt(abs(np.linalg.det(turn))))
    angle = float(np.degrees(np.arctan2(-turn[1, 0], turn[0, 0])))
    middle = np.full(2, (SIDE - 1) / 2)
    moved = match.transform[:, :2] @ middle + match.transform[:, 2] - middle
    words = ["mirrored"] if mirrored else []
    if abs(angle) >= 1:
        words.append(f"rotated {round(angle)}°")
    if abs(scale - 1) >= 0.02:
        words.append(f"scaled {scale:.2f}")
    if np.abs(moved).max() >= 0.01 * SIDE:
        words.append("shifted {:+.0%}, {:+.0%}".format(*(moved / SIDE)))
    if match.correlation < 0:
        words.append("inverted")
    return ", ".join(words) or "in place"


def blend(ours: Keypoints, row: int, theirs: Keypoints, other: int) -> NDArray[np.uint8]:
    """Generated picture in red, aligned training picture in green and blue: ``(H, W, 3)``.

    Where both agree the blend is grey. Both are equalised, so that a change of brightness or an
    inversion does not colour it.
    """
    import cv2

    match = align(ours, row, theirs, other)
    picture = ours.picture(row)
    warped, inside = _warped(theirs.picture(other), match.transform, picture.shape)
    if match.correlation < 0:
        warped = 255 - warped
    red, rest = (cv2.equalizeHist(values.astype(np.uint8)) for values in (picture, warped))
    rest = np.where(inside > 0, rest, 0).astype(np.uint8)
    return np.stack([red, rest, rest], axis=2)


def _proposals(
    ours: Keypoints, row: int, theirs: Keypoints, other: int
) -> list[tuple[int, NDArray[np.float64]]]:
    """``(inliers, transform)`` of the two likeliest variants."""
    one, two = ours.rooted(row), theirs.rooted(other)
    if min(len(one), len(two)) < _FEWEST:
        return []
    found = []
    for (mirrored, _), order in PERMUTATIONS.items():
        i, j = _matches(one @ two[:, order].T)
        found.append((len(i), mirrored, i, j))
    found.sort(key=lambda entry: -entry[0])
    results = [
        _similarity(ours.places[row][i], theirs.places[other][j], mirrored)
        for count, mirrored, i, j in found[:2]
        if count >= _FEWEST
    ]
    return [result for result in results if result is not None]


def _matches(table: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns that are each other's best, and clearly so."""
    rows = np.arange(len(table))
    best = table.argmax(axis=1)
    value = table[rows, best]
    mutual = table.argmax(axis=0)[best] == rows
    table[rows, best] = -1
    clear = (1 - value) < _AMBIGUOUS * (1 - table.max(axis=1))
    kept = np.flatnonzero(mutual & clear)
    return kept, best[kept]


def _similarity(
    ours: Floats, theirs: Floats, mirrored: bool
) -> tuple[int, NDArray[np.float64]] | None:
    """The transform that most matches agree with; None where there is no likely one."""
    import cv2

    source, target = theirs[:, :2].copy(), ours[:, :2].copy()
    if mirrored:
        source[:, 0] = SIDE - 1 - source[:, 0]
    cv2.setRNGSeed(0)
    transform, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_REACH,
        maxIters=500, confidence=0.99,
    )  # fmt: skip
    if transform is None:
        return None
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    if not _SCALES[0] < scale < _SCALES[1]:
        return None
    count = int(inliers.sum())
    if count < _AGREED:
        return None
    if mirrored:
        transform = transform @ np.array([[-1, 0, SIDE - 1], [0, 1, 0], [0, 0, 1]], float)
    return count, transform.astype(np.float64)


def _judge(
    band: Floats,
    training: Floats,
    proposal: tuple[int, NDArray[np.float64]],
) -> Match:
    """Evidence of one proposal, over all that overlaps and over the best window of it."""
    inliers, transform = proposal
    warped, inside = _warped(training, transform, band.shape)
    other = _band(warped)
    value, correlation = _agreement(band, other, inside)
    return Match(value, _best_window(band, other, inside), correlation, inliers, transform)


def _agreement(one: Floats, other: Floats, inside: Floats) -> tuple[float, float]:
    """Evidence and correlation over the pixels that are ``inside``."""
    kept = inside > 0
    if kept.mean() < _LEAST:
        return 0.0, 0.0
    ours = one[kept].astype(np.float64)
    theirs = other[kept].astype(np.float64)
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    plain, share = _correlation(ours, theirs)
    correlation = plain
    if abs(plain) > _PROMISING:
        correlation, share = _correlation(ours, _fitted(ours, other, kept))
    z = np.arctanh(min(abs(correlation), _CEILING))
    return float(z**_WHOLE_POWER * np.sqrt(share)), float(np.copysign(correlation, plain))


def _correlation(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Of centred pixels, and how many of them take part (participation of their energies)."""
    left, right = (float(values @ values) + _NOISE**2 * len(values) for values in (ours, theirs))
    energy = ours * ours / left + theirs * theirs / right
    part = float(energy.sum() ** 2 / (energy @ energy + 1e-12))
    return float(ours @ theirs) / np.sqrt(left * right), part


def _fitted(
    ours: NDArray[np.float64], other: Floats, kept: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """What ``other`` becomes, to first order, displaced, turned, scaled and blurred a little."""
    import cv2

    height, width = other.shape
    down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    right, below = (cv2.Sobel(other, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    blurred = cv2.GaussianBlur(other, (0, 0), 1)
    basis = np.stack([
        other, blurred - other, right, below,
        right * across + below * down, below * across - right * down,
    ])[:, kept].astype(np.float64)  # fmt: skip
    basis -= basis.mean(axis=1, keepdims=True)
    normal = basis @ basis.T
    normal[np.diag_indices(len(normal))] *= 1 + 1e-3
    normal[np.diag_indices(len(normal))] += 1e-6
    return np.linalg.solve(normal, basis @ ours) @ basis


def _best_window(one: Floats, other: Floats, inside: Floats) -> float:
    """The greatest evidence of any window of :data:`_WINDOW` of the side that is ``inside``."""
    import cv2

    size = round(_WINDOW * max(one.shape))

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        box = cv2.boxFilter(
            values, -1, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        return box.astype(np.float64)

    # In double precision: running sums of squares lose more than the least of them.
    a, b = (np.asarray(values * inside, dtype=np.float64) for values in (one, other))
    area, energy = summed(inside.astype(np.float64)), a * a + b * b
    noise = _NOISE**2 * area
    correlation = summed(a * b) / np.sqrt((summed(a * a) + noise) * (summed(b * b) + noise) + 1e-6)
    part = summed(energy) ** 2 / np.maximum(summed(energy**2), 1e-6)
    z = np.arctanh(np.minimum(np.abs(correlation), _CEILING)) ** _PART_POWER
    return float(np.where(area >= 0.95 * size**2, z * np.sqrt(part), 0.0).max())


def _band(picture: Floats) -> Floats:
    import cv2

    fine, coarse = (
        cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        for sigma in (_FINE, _COARSE)
    )
    return np.asarray(fine - coarse, dtype=np.float32)


def _warped(
    training: Floats, transform: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """The training picture in the place of the generated one, and where it is, inside its edge."""
    import cv2

    scale = SMALL / SIDE
    # Centres of pixels: x at one size is (x + 1/2) · scale - 1/2 at the other.
    turn, half = transform[:, :2], np.full(2, 0.5)
    move = scale * (transform[:, 2] + half - turn @ half) + turn @ half - half
    matrix = np.column_stack([turn, move])
    size = (shape[1], shape[0])
    warped = cv2.warpAffine(
        training, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inner = np.zeros_like(training)
    inner[2:-2, 2:-2] = 1
    inside = cv2.warpAffine(inner, matrix, size, flags=cv2.INTER_NEAREST)
    return warped.astype(np.float32), inside.astype(np.float32)
