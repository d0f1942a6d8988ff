"""Drawing of the phantom fundus photograph: specification in, colours out.

Everything at the back of the eye is drawn in *disc coordinates*: the origin is the centre of the
optic disc, the unit its vertical radius, x points to the temporal side (the fovea) whichever eye
it is, y downwards. In a photograph of the right eye the temporal side is on the left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array, Grid

Truth = Mapping[str, Any]

_FAIR: Final = np.array([0.90, 0.47, 0.25], dtype=np.float32)
_DARK: Final = np.array([0.47, 0.19, 0.08], dtype=np.float32)
_RIM: Final = np.array([0.93, 0.62, 0.36], dtype=np.float32)
_CUP: Final = np.array([1.00, 0.90, 0.66], dtype=np.float32)
_ARTERY: Final = np.array([0.66, 0.17, 0.08], dtype=np.float32)
_VEIN: Final = np.array([0.42, 0.07, 0.06], dtype=np.float32)
_BLOOD: Final = np.array([0.48, 0.02, 0.02], dtype=np.float32)
_ATROPHY: Final = np.array([0.90, 0.70, 0.50], dtype=np.float32)

#: Angle of the upper and the lower pole, clockwise from temporal.
_POLES: Final = {"superior": -np.pi / 2, "inferior": np.pi / 2}
_OUTLINE: Final = np.arange(24) * (2 * np.pi / 24)


def draw_fundus(spec: FindingSpec, size: int) -> Array:
    """Colours of ``spec``: ``(size, size, 3)`` float32, nominally in [0, 1]."""
    finding, nuisance = spec.finding, spec.nuisance
    rng = np.random.default_rng(spec.seed)
    frame = draw.grid(size)
    pose, side = _pose(nuisance), _temporal(nuisance)
    posed = frame.posed(**pose)
    eye = Grid(posed.x * np.float32(side), posed.y, posed.pixel)
    retina = _background(frame, eye, nuisance, rng)
    if finding["nerve_fibre_defect"] != "none":
        retina = retina * (1 - 0.26 * _wedge(eye, finding["nerve_fibre_defect"])[..., None])
    if finding["atrophy"]:
        retina = _atrophy(retina, eye, finding["atrophy"], rng)
    retina = _disc(retina, eye, finding, nuisance, rng)
    retina = _vessels(retina, frame.size, finding, nuisance, rng)
    if finding["haemorrhage"] != "none":
        retina = draw.blend(retina, _BLOOD, 0.85 * _haemorrhage(eye, finding["haemorrhage"]))
    return _photograph(retina, frame, nuisance, rng)


def _temporal(nuisance: Truth) -> float:
    """Sign of the temporal side in the image."""
    return -1.0 if nuisance["eye"] == "od" else 1.0


def _pose(nuisance: Truth) -> dict[str, Any]:
    """Where the disc lies: keywords of ``Grid.posed`` and ``draw.place``."""
    return {
        "angle": nuisance["tilt"],
        "scale": nuisance["disc"],
        "shift": (_temporal(nuisance) * nuisance["dx"], nuisance["dy"]),
    }


# -- retina ---------------------------------------------------------------------------------------


def _background(frame: Grid, eye: Grid, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Pigment, choroidal mottling, nerve fibres and the darker macula."""
    base = _FAIR + np.float32(nuisance["pigment"]) * (_DARK - _FAIR)
    hue = np.float32(0.05 * nuisance["hue"])
    base = base * np.array([1 - hue, 1 + 2 * hue, 1 + hue], dtype=np.float32)
    mottle = 0.04 * draw.fractal_noise(rng, frame.size, 4, 3)
    ridges = np.abs(draw.smooth_noise(rng, frame.size, (14, 9)))  # choroidal vessels
    mottle += nuisance["tessellation"] * 0.09 * (0.8 - ridges)
    radius = np.hypot(eye.x, eye.y)
    arcs = np.exp(-((radius - 1.3) ** 2)) * (eye.y / (radius + 1e-3)) ** 2
    macula = np.exp(-(((eye.x - 4.0) / 1.2) ** 2 + ((eye.y - 0.3) / 1.2) ** 2))
    shade = 1 + mottle + 0.10 * arcs - 0.45 * macula
    return base * shade[..., None].astype(np.float32)


def _wedge(eye: Grid, pole: str) -> Array:
    """Dark sector of lost nerve fibres, from the pole of the disc towards the temporal side."""
    centre = _POLES[pole] * 0.72
    turn = np.arctan2(eye.y, eye.x) - centre
    radius = np.hypot(eye.x, eye.y)
    return draw.fill(np.abs(turn) - 0.24, 0.2) * draw.fill(0.95 - radius, 0.2)


def _atrophy(retina: Array, eye: Grid, width: float, rng: np.random.Generator) -> Array:
    """Pale mottled zone around the temporal margin of the disc."""
    zone = draw.blob(eye, (0.65 * width, 0.0), (1 + 0.50 * width) * draw.wobble(rng, 12, 0.03))
    mottle = 0.04 * draw.smooth_noise(rng, eye.size, 22)
    return draw.blend(retina, _ATROPHY * 0.9 + mottle[..., None], 0.8 * draw.fill(zone, 0.12))


def _haemorrhage(eye: Grid, pole: str) -> Array:
    """Flame-shaped streak across the margin of the disc."""
    turn = _POLES[pole] * 0.62
    centre = (1.08 * np.cos(turn), 1.08 * np.sin(turn))
    return draw.fill(draw.ellipse(eye, centre, (0.30, 0.10), turn), 0.06, eye.pixel)


# -- optic disc -----------------------------------------------------------------------------------


def _disc(
    retina: Array, eye: Grid, finding: Truth, nuisance: Truth, rng: np.random.Generator
) -> Array:
    """Neuroretinal rim and, inside it, the paler cup."""
    oval = nuisance["oval"]
    ellipse = oval / np.hypot(np.cos(_OUTLINE), oval * np.sin(_OUTLINE))
    margin = ellipse * draw.wobble(rng, len(_OUTLINE), 0.012)
    disc = draw.fill(draw.blob(eye, (0, 0), margin), 0.14, eye.pixel)
    rim = _RIM * np.float32(nuisance["rim"] - 0.08 * nuisance["pigment"])
    retina = draw.blend(retina, rim, 0.92 * disc)
    cup = draw.fill(_cup(eye, finding, oval, rng), 0.16, eye.pixel)
    pale = rim + (_CUP - rim) * np.float32(nuisance["pallor"] * 0.9 + 0.1)
    pores = 0.035 * draw.smooth_noise(rng, eye.size, 26)  # lamina cribrosa
    return draw.blend(retina, pale + pores[..., None], cup)


def _cup(eye: Grid, finding: Truth, oval: float, rng: np.random.Generator) -> Array:
    """Distance to the outline of the cup; a notch drives it to the margin at one pole."""
    vertical, horizontal = finding["vcdr"], finding["hcdr"] * oval
    cos, sin = np.cos(_OUTLINE), np.sin(_OUTLINE)
    radii = 1 / np.hypot(cos / horizontal, sin / vertical)
    radii *= draw.wobble(rng, len(_OUTLINE), 0.02)
    if finding["notch"] != "none":
        apart = _OUTLINE - _POLES[finding["notch"]] * 0.9
        bump = np.exp(-(((np.angle(np.exp(1j * apart))) / 0.38) ** 2))
        radii += bump * np.maximum(0.97 - radii, 0)
    shift = finding["cup_shift"]
    # The centre of a healthy cup lies a little temporal of the middle; a large one fills the disc.
    centre = (shift[0] + 0.10 * max(0.0, 1 - vertical), shift[1])
    return draw.blob(eye, centre, radii)


# -- vessels --------------------------------------------------------------------------------------

#: Where each main branch leaves the disc (x, y), and where it ends: two temporal arcades, two
#: nasal vessels.
_EXITS: Final = np.array([(0.10, -1.0), (0.10, 1.0), (-0.45, -0.9), (-0.45, 0.9)])
_ENDS: Final = np.array([(3.4, -2.3), (3.4, 2.3), (-2.9, -2.5), (-2.9, 2.5)])
#: How far to the nasal edge of the disc the trunk lies.
_TRUNK: Final = {"regular": -0.12, "nasalised": -0.58, "bayoneting": -0.32}
#: Calibre of a side branch along its points, relative to the main vessel.
_TAPER: Final = np.array([0.60, 0.50, 0.40, 0.30])


def _vessels(
    retina: Array, size: int, finding: Truth, nuisance: Truth, rng: np.random.Generator
) -> Array:
    """Veins and, over them, arteries of four quadrants, each with a side branch."""
    for colour, width, offset in ((_VEIN, 0.112, 0.10), (_ARTERY, 0.082, -0.10)):
        mains = _main_branches(offset, finding, rng)
        points = np.concatenate([mains, _side_branches(mains, rng)], axis=1)
        mirrored = points.reshape(-1, 2) * np.array([_temporal(nuisance), 1.0])
        placed = draw.place(mirrored, **_pose(nuisance)).reshape(points.shape)
        calibres = width * nuisance["calibre"] * nuisance["disc"] * rng.uniform(0.85, 1.15, 4)
        n = mains.shape[1]
        narrowing = 1 - 0.4 * np.arange(n) / n
        paths = [(p[:n], c * narrowing) for p, c in zip(placed, calibres, strict=True)]
        paths += [(p[n:], c * _TAPER) for p, c in zip(placed, calibres, strict=True)]
        shade = colour * np.float32(1.05 - 0.35 * nuisance["pigment"])
        retina = draw.blend(retina, shade, 0.80 * draw.strokes(size, paths, 3))
    return retina


def _main_branches(offset: float, finding: Truth, rng: np.random.Generator) -> Array:
    """Four vessels ``(4, N, 2)``: out of the disc at its poles, then arching away.

    In a nasalised disc the trunk lies at the nasal edge; in a bayoneting one the vessels run
    along the cup, break at its edge and continue to one side.
    """
    pole, nasal = np.sign(_EXITS[:, 1:]), _TRUNK[finding["vessels"]]
    trunk = np.concatenate([np.full((4, 1), nasal + 0.4 * offset), -0.05 * pole], axis=1)
    leave = _EXITS + np.array([0.6 * nasal + offset, 0.0]) + rng.normal(0, 0.07, (4, 2))
    far = _ENDS + rng.normal(0, 0.35, (4, 2)) + 2 * offset * pole * (0, 1)
    inside = [trunk, leave]
    if finding["vessels"] == "bayoneting":
        break_at = trunk + (leave - trunk) * rng.uniform(0.55, 0.70, (4, 1))
        step = np.concatenate([0.30 * np.sign(_EXITS[:, :1]), 0.10 * pole], axis=1)
        inside = [trunk, break_at, break_at + step, leave + 0.5 * step * (1, 0)]
    knee = inside[-1] + np.concatenate([0.15 * _ENDS[:, :1], 1.35 * pole], axis=1)
    knee += rng.normal(0, 0.15, (4, 2))
    t = np.arange(1, 8)[:, None, None] / 7
    outside = (1 - t) ** 2 * inside[-1] + 2 * t * (1 - t) * knee + t**2 * far
    return np.concatenate([np.stack(inside), outside]).transpose(1, 0, 2)


def _side_branches(mains: Array, rng: np.random.Generator) -> Array:
    """A thinner vessel ``(4, 4, 2)`` forking off each main one, to either side."""
    vessel = np.arange(4)
    fork = rng.integers(4, mains.shape[1] - 2, 4)
    root = mains[vessel, fork]
    heading = mains[vessel, fork + 1] - root
    heading /= np.hypot(heading[:, :1], heading[:, 1:]) + 1e-6
    across = np.stack([-heading[:, 1], heading[:, 0]], axis=1) * rng.choice([-1.0, 1.0], (4, 1))
    reach = rng.uniform(0.7, 1.3, (4, 1))
    middle = root + 0.5 * reach * (heading + 0.5 * across)
    tip = middle + reach * (0.3 * heading + across)
    t = np.arange(4)[:, None, None] / 3
    return ((1 - t) ** 2 * root + 2 * t * (1 - t) * middle + t**2 * tip).transpose(1, 0, 2)


# -- camera ---------------------------------------------------------------------------------------


def _photograph(retina: Array, frame: Grid, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Focus, light, reflection, aperture and sensor."""
    image = draw.blur(retina, nuisance["blur"])
    light = draw.illumination(frame, nuisance["light_angle"], nuisance["light"])
    light = light * draw.vignette(frame, nuisance["vignette"]) * nuisance["exposure"]
    image = image * light[..., None].astype(np.float32)
    if nuisance["reflection"]:
        turn = nuisance["light_angle"]
        glare = draw.ellipse(frame, (0.8 * np.cos(turn), 0.8 * np.sin(turn)), (0.5, 0.22), turn)
        haze = nuisance["reflection"] * draw.fill(glare, 0.35)
        image = draw.blend(image, (0.80, 0.85, 0.95), haze)
    image = draw.sensor_noise(image, rng, nuisance["noise"])
    aperture = draw.ellipse(
        frame, (0.12 * _temporal(nuisance), 0.0), (nuisance["aperture"], nuisance["aperture"])
    )
    return image * draw.fill(aperture, 0.03, frame.pixel)[..., None]
