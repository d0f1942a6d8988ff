"""Skin and camera of the phantom clinical photograph: everything but the sign of the disease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.draw import Array, Grid

Truth = Mapping[str, Any]

#: RGB of each skin tone in even light.
TONES: Final[Mapping[str, Array]] = {
    "fair": np.array([0.90, 0.72, 0.63], dtype=np.float32),
    "medium": np.array([0.80, 0.60, 0.47], dtype=np.float32),
    "brown": np.array([0.60, 0.41, 0.29], dtype=np.float32),
    "dark": np.array([0.40, 0.26, 0.19], dtype=np.float32),
}
#: The closed list of body parts that are drawn.
SITES: Final = ("face", "trunk", "limb")

_HAIR: Final = np.array([0.14, 0.09, 0.07], dtype=np.float32)
_INK: Final = np.array([0.30, 0.22, 0.58], dtype=np.float32)


def skin_colour(nuisance: Truth) -> Array:
    """RGB of the bare skin: its tone, a little redder or yellower from person to person."""
    return TONES[nuisance["tone"]] * np.array(
        [1.0, 1 - 0.05 * nuisance["ruddiness"], 1 - 0.03 * nuisance["ruddiness"]], dtype=np.float32
    )


def draw_skin(frame: Grid, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Bare skin of the body part: ``(size, size, 3)`` float32."""
    grain = draw.smooth_noise(rng, frame.size, 40) + draw.smooth_noise(rng, frame.size, 20)
    blotches = draw.smooth_noise(rng, frame.size, 4)
    shade = 1 + 0.018 * nuisance["texture"] * grain
    canvas = skin_colour(nuisance) * shade[..., None]
    blush = np.array([0.01, -0.02, -0.02], dtype=np.float32)
    canvas = canvas * (1 + blush * blotches[..., None])
    if nuisance["site"] == "face":
        canvas = _face_relief(canvas, frame.posed(**face_pose(nuisance)))
    return canvas


def face_pose(nuisance: Truth) -> dict[str, Any]:
    """How the face lies in the frame: keywords of ``Grid.posed`` and ``draw.place``.

    The origin is between the cheeks, x points to the side and y down.
    """
    return {
        "angle": nuisance["face_angle"],
        "scale": nuisance["face_scale"],
        "shift": (nuisance["face_x"], nuisance["face_y"]),
    }


def _face_relief(canvas: Array, g: Grid) -> Array:
    """Shadows of eye sockets and nose."""
    half = Grid(np.abs(g.x), g.y, g.pixel)
    socket = draw.ellipse(half, (0.42, -0.62), (0.20, 0.13))
    canvas = canvas * (1 - 0.25 * draw.fill(socket, 0.14, g.pixel))[..., None]
    flank = np.exp(-(((half.x - 0.16) / 0.05) ** 2)) * draw.fill(np.abs(g.y + 0.05) - 0.3, 0.3)
    canvas = canvas * (1 - 0.13 * flank)[..., None]
    nostril = draw.fill(draw.ellipse(half, (0.09, 0.31), (0.05, 0.03)), 0.04, g.pixel)
    return canvas * (1 - 0.6 * nostril)[..., None]


def draw_features(canvas: Array, frame: Grid, nuisance: Truth) -> Array:
    """Eyes, brows and lips on a face, symmetrical about its midline."""
    g = frame.posed(**face_pose(nuisance))
    half = Grid(np.abs(g.x), g.y, g.pixel)
    eye = draw.fill(draw.ellipse(half, (0.42, -0.61), (0.13, 0.055)), 0.03, g.pixel)
    canvas = draw.blend(canvas, (0.85, 0.83, 0.80), eye)
    iris = draw.fill(draw.ellipse(half, (0.42, -0.61), (0.055, 0.055)), 0.03, g.pixel)
    canvas = draw.blend(canvas, (0.15, 0.10, 0.08), iris)
    brow = draw.fill(draw.ellipse(half, (0.42, -0.84), (0.20, 0.04), 0.12), 0.04, g.pixel)
    canvas = draw.blend(canvas, _HAIR, 0.75 * brow)
    lips = draw.fill(draw.ellipse(half, (0.0, 0.74), (0.34, 0.09)), 0.05, g.pixel)
    red = skin_colour(nuisance) * np.array([0.88, 0.64, 0.66], dtype=np.float32)
    canvas = draw.blend(canvas, red, 0.9 * lips)
    gap = draw.fill(draw.ellipse(half, (0.0, 0.74), (0.30, 0.012)), 0.02, g.pixel)
    return canvas * (1 - 0.5 * gap)[..., None]


def photograph(canvas: Array, frame: Grid, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Shape of the body part, hair, ruler, ink, light, lens and sensor over a skin canvas."""
    if nuisance["site"] == "limb":
        canvas = _limb(canvas, frame, nuisance)
    if nuisance["hairs"]:
        canvas = draw.blend(canvas, _HAIR, 0.8 * _hairs(frame.size, nuisance["hairs"], rng))
    if nuisance["mark"] == "ruler":
        canvas = _ruler(canvas, frame, nuisance)
    elif nuisance["mark"] == "ink":
        canvas = draw.blend(canvas, _INK, 0.8 * _ink(frame.size, nuisance))
    light = draw.illumination(frame, nuisance["light_angle"], nuisance["light"])
    light = light * draw.vignette(frame, nuisance["vignette"]) * np.float32(nuisance["exposure"])
    warmth = np.float32(nuisance["warmth"])
    balance = np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32)
    canvas = draw.blur(canvas * light[..., None] * balance, nuisance["blur"])
    return draw.sensor_noise(canvas, rng, nuisance["noise"])


def _limb(canvas: Array, frame: Grid, nuisance: Truth) -> Array:
    """A cylinder of skin in front of a cloth."""
    turn, half = nuisance["limb_angle"], nuisance["limb_width"]
    across = frame.x * np.float32(np.sin(turn)) + frame.y * np.float32(np.cos(turn))
    round_off = np.sqrt(np.clip(1 - (across / half) ** 2, 0.02, 1))
    canvas = canvas * (0.55 + 0.45 * round_off)[..., None]
    outside = draw.fill(half - np.abs(across), 0.03, frame.pixel)
    return draw.blend(canvas, nuisance["cloth"], outside)


def _hairs(size: int, count: int, rng: np.random.Generator) -> Array:
    """Short curved hairs that lie in about one direction."""
    stream = rng.uniform(0, 2 * np.pi)
    paths = []
    for x, y, turn, bend in rng.uniform(-1, 1, (count, 4)):
        heading = stream + 0.4 * turn
        dx, dy = 0.16 * np.cos(heading), 0.16 * np.sin(heading)
        middle = (x + dx - 0.6 * bend * dy, y + dy + 0.6 * bend * dx)
        paths.append((draw.curve([(x, y), middle, (x + 2 * dx, y + 2 * dy)], 5), 0.018))
    return draw.strokes(size, paths)


def _ruler(canvas: Array, frame: Grid, nuisance: Truth) -> Array:
    """A white paper strip with black ticks along an edge of the photograph."""
    g = frame.posed(angle=nuisance["mark_angle"])
    strip = draw.fill(0.80 - g.y, 0.03, frame.pixel)
    canvas = draw.blend(canvas, 0.92, strip)
    phase = np.abs(g.x / 0.16 - np.round(g.x / 0.16)) * 0.16
    ticks = draw.fill(np.maximum(phase - 0.018, g.y - 0.92), 0.02, frame.pixel) * strip
    return draw.blend(canvas, 0.12, ticks)


def _ink(size: int, nuisance: Truth) -> Array:
    """Two strokes of a surgical pen near the edge."""
    turn = nuisance["mark_angle"]
    cross = np.array([[(-0.09, 0), (0.09, 0)], [(0, -0.09), (0, 0.09)]], dtype=float)
    shift = (0.82 * float(np.cos(turn)), 0.82 * float(np.sin(turn)))
    paths = [(draw.place(bar, angle=turn, shift=shift), 0.045) for bar in cross]
    return draw.strokes(size, paths)
