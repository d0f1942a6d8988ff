"""What a caption says of a real photograph: class, person, and what is measured on the pixels.

Nothing measured is a finding of a physician: a lesion is what Otsu's threshold cuts out, a lung is
where lungs usually are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from benchmarks.real.pictures import Pictures, World

#: Names of lesion colours and their RGB.
COLOURS: Final = {
    "black": (45, 35, 35),
    "dark brown": (90, 60, 50),
    "brown": (135, 95, 75),
    "light brown": (180, 140, 115),
    "pink": (200, 140, 140),
    "red": (165, 85, 85),
    "grey": (125, 120, 125),
}
#: Share of the phrases that a drawn caption keeps.
KEPT: Final = 0.7


def lesion_mask(image: np.ndarray) -> np.ndarray:
    """``(H, W)`` bool: the largest dark region by Otsu's threshold, away from the frame.

    Args:
        image: ``(H, W, 3)`` uint8.
    """
    grey = ndimage.gaussian_filter(image[..., 1:].mean(axis=-1), 2)
    side = len(grey)
    y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    inside = np.hypot(x, y) < 0.9
    dark = (grey < threshold_otsu(grey[inside])) & inside
    parts, count = ndimage.label(dark)
    if count == 0:
        return inside
    sizes = ndimage.sum_labels(dark, parts, np.arange(1, count + 1))
    return ndimage.binary_fill_holes(parts == 1 + int(np.argmax(sizes)))


def asymmetry(mask: np.ndarray) -> float:
    """Share of ``mask`` ``(H, W)`` that half a turn about its centre does not map onto itself."""
    centre = np.round(ndimage.center_of_mass(mask)).astype(int)
    rows, columns = (np.argwhere(mask) - centre).T
    turned = np.stack([centre[0] - rows, centre[1] - columns])
    valid = (turned >= 0).all(0) & (turned < np.array(mask.shape)[:, None]).all(0)
    return 1 - mask[tuple(turned[:, valid])].sum() / len(rows)


def skin_numbers(image: np.ndarray) -> list[float]:
    """Area, asymmetry, unevenness of the lesion, and its colour ``(R, G, B)``."""
    mask = lesion_mask(image)
    colour = np.median(image[mask], axis=0)
    uneven = float(image[mask].mean(axis=-1).std())
    return [float(mask.mean()), asymmetry(mask), uneven, *map(float, colour)]


def chest_numbers(image: np.ndarray) -> list[float]:
    """Brightness of the film, of both lung zones over the middle, and right minus left."""
    grey = image.mean(axis=-1) / 255
    height, width = grey.shape
    zone = slice(int(0.25 * height), int(0.65 * height))
    left, right, middle = (
        float(grey[zone, int(low * width) : int(high * width)].mean())
        for low, high in ((0.6, 0.8), (0.2, 0.4), (0.45, 0.55))
    )
    return [float(grey.mean()), (left + right) / 2 / max(middle, 1e-3), right - left]


def in_thirds(values: np.ndarray, words: tuple[str, str, str]) -> list[str]:
    """Each of ``(N,)`` values as low, middle or high among all of them."""
    low, high = np.quantile(values, (1 / 3, 2 / 3))
    return [words[int(value > low) + int(value > high)] for value in values]


def _skin_phrases(numbers: np.ndarray) -> list[tuple[str, ...]]:
    size = in_thirds(numbers[:, 0], ("small lesion", "medium lesion", "large lesion"))
    shape = in_thirds(numbers[:, 1], ("symmetric shape", "fairly symmetric", "asymmetric shape"))
    shades = in_thirds(numbers[:, 2], ("even colour", "two shades", "several shades"))
    known = np.array(list(COLOURS.values()))
    nearest = np.abs(numbers[:, None, 3:] - known).sum(axis=2).argmin(axis=1)
    colour = [list(COLOURS)[index] for index in nearest]
    return list(zip(size, shape, shades, colour, strict=True))


def _chest_phrases(numbers: np.ndarray) -> list[tuple[str, ...]]:
    film = in_thirds(numbers[:, 0], ("dark film", "film of medium exposure", "bright film"))
    lungs = in_thirds(numbers[:, 1], ("dark lungs", "grey lungs", "white lungs"))
    sides = in_thirds(numbers[:, 2], ("left side whiter", "sides equal", "right side whiter"))
    return list(zip(film, lungs, sides, strict=True))


_MEASURED: Final[dict[str, tuple[Callable, Callable]]] = {
    "skin": (skin_numbers, _skin_phrases),
    "chest": (chest_numbers, _chest_phrases),
}


def phrases(world: World, pictures: Pictures) -> list[tuple[str, ...]]:
    """What may be said of each picture besides its class: the person, if known; measurements."""
    measure, name = _MEASURED[world.name]
    measured = name(np.array([measure(image) for image in pictures.images]))
    people = [(person,) if person else () for person in pictures.people]
    return [who + what for who, what in zip(people, measured, strict=True)]


def class_text(world: World, label: int) -> str:
    """The shortest description of a class."""
    domain = world.domain
    return f"{domain.modality} of {domain.class_names[label].lower()}"


def class_texts(world: World) -> list[str]:
    """Checklists of the classes, then their names in a sentence."""
    domain = world.domain
    names = domain.class_names
    return [
        *(domain.checklist_text(name) for name in names),
        *(class_text(world, label) for label in range(len(names))),
    ]


def caption(
    world: World, label: int, said: tuple[str, ...], rng: np.random.Generator | None = None
) -> str:
    """Class and phrases; with ``rng`` only some of them, in any order."""
    if rng is not None:
        said = tuple(str(one) for one in rng.permutation(said) if rng.random() < KEPT)
    return ", ".join([class_text(world, label), *said])
