"""Anatomy, findings and film of the phantom chest radiograph: specification in, grey levels out.

The patient's left is at x > 0. Lengths are in frame units, before the pose is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array, Grid

Truth = Mapping[str, Any]

#: Half-width of the inner thorax: the denominator of the cardiothoracic ratio.
THORAX: Final = 0.74
#: Height of the diaphragm's dome above the costophrenic angle.
_DOME: Final = 0.32
#: Attenuation that a lung full of air takes away.
_AIR: Final = 0.74

#: Sign of x on each side of the patient.
SIDES: Final = {"right": -1.0, "left": 1.0}
#: Height of the middle of each lung zone.
ZONES: Final = {"upper": -0.30, "mid": 0.02, "lower": 0.30}


def draw_film(spec: FindingSpec, size: int) -> Array:
    """Grey levels of ``spec``: ``(size, size)`` float32, nominally in [0, 1]."""
    finding, nuisance = spec.finding, spec.nuisance
    rng = np.random.default_rng(spec.seed)
    frame = draw.grid(size)
    g = frame.posed(**_pose(nuisance))
    anatomy = Grid(-g.x, g.y, g.pixel) if finding["dextrocardia"] else g
    dome = nuisance["diaphragm"]
    heart = _heart(anatomy, finding["ctr"], finding["heart"], dome, _push(finding))
    lung = _lungs(g, anatomy, dome)
    air = lung * (1 - 0.96 * heart)
    if "zone" in finding:
        air = air * (1 - _opacity(g, finding, nuisance, rng))
    if "volume" in finding:
        air = air * (1 - _effusion(g, finding, dome))
    film = _attenuation(g, air, lung, heart, nuisance, rng)
    film = _devices(film, g, nuisance["device"], _pose(nuisance))
    return _expose(film, frame, nuisance, rng)


# -- anatomy --------------------------------------------------------------------------------------


def _dome_line(g: Grid, anatomy: Grid, dome: float) -> Array:
    """Height of the diaphragm above every x; the patient's right dome stands a little higher."""
    span = (np.abs(g.x) - 0.36) / (THORAX - 0.36)
    fall = np.where(span > 0, np.float32(_DOME) * span * span * span.clip(0, 2), 0.10 * span * span)
    return fall + np.float32(dome) + np.where(anatomy.x > 0, np.float32(0.04), np.float32(0))


def _lungs(g: Grid, anatomy: Grid, dome: float) -> Array:
    """Mask of both lungs, without the heart."""
    side = np.abs(g.x)
    u = np.abs((side - 0.36) / 0.38)
    v = np.abs((g.y - 0.28) / 1.03)
    level = (u**2.6 + v**2.6 + 1e-6) ** (1 / 2.6)
    wall = (level - 1) * 0.36
    knob = 0.08 * np.exp(-(((g.y + 0.27) / 0.10) ** 2)) * (anatomy.x > 0)
    hilum = 0.05 * np.exp(-(((g.y - 0.02) / 0.14) ** 2))
    medial = 0.12 + knob + hilum - side
    floor = g.y - _dome_line(g, anatomy, dome)
    outline = np.maximum(np.maximum(wall, medial), floor * 0.8)
    return draw.fill(outline, 0.035, g.pixel)


def _push(finding: Truth) -> float:
    """How far a large effusion pushes the heart: away from its side."""
    away = -SIDES.get(finding.get("side", ""), 0.0)
    return away * 0.07 * max(0.0, finding.get("height", 0.0) - 0.6) / 0.5


def _heart(anatomy: Grid, ctr: float, shape: str, dome: float, push: float) -> Array:
    """Mask of the cardiac silhouette; its width is ``ctr`` times the inner thorax."""
    width = ctr * 2 * THORAX
    tilt, roundness = (0.26, 0.80) if shape == "globular" else (0.52, 0.74)
    cos, sin = np.cos(tilt), np.sin(tilt)
    long_axis = width / 2 / np.hypot(cos, roundness * sin)
    half_height = long_axis * np.hypot(sin, roundness * cos)
    seat = 0.72 if shape == "globular" else 0.88  # a large heart sinks into the diaphragm
    centre = (0.16 * width + push, dome + 0.10 - half_height * seat)
    outline = draw.ellipse(anatomy, centre, (long_axis, roundness * long_axis), tilt)
    # The great vessels close the gap between the ventricles and the upper mediastinum.
    neck = draw.ellipse(anatomy, (0.03 + push, centre[1] - half_height), (0.15, 0.32))
    return draw.fill(np.minimum(outline, neck), 0.04, anatomy.pixel)


def _attenuation(
    g: Grid, air: Array, lung: Array, heart: Array, nuisance: Truth, rng: np.random.Generator
) -> Array:
    """Sum of what lies in the beam; about 0 outside the body and 1 below the diaphragm."""
    side = np.abs(g.x)
    habitus = nuisance["habitus"]
    shoulder = -0.80 + 0.30 * side**3 - 0.1 * habitus - g.y
    torso = np.maximum(shoulder, side - (0.90 + 0.22 * habitus))
    body = draw.fill(np.minimum(torso, np.maximum(side - 0.24, g.y + 0.5)), 0.08, g.pixel)
    film = body * (0.86 + 0.12 * habitus - 0.16 * g.x * g.x + 0.05 * g.y)
    film += 0.10 * draw.fill(side - 0.10, 0.10) * body  # spine
    film += 0.04 * heart
    film += _bones(g) * body
    film -= 0.12 * draw.fill(np.maximum(side - 0.035, g.y + 0.22), 0.06) * body  # trachea
    depth = 1 - 0.25 * ((side - 0.36) / 0.38) ** 2
    film -= _AIR * air * depth * (1 - 0.18 * habitus)
    film += air * _markings(g, nuisance, rng)
    film += _breasts(g, nuisance["breasts"]) * (0.4 + 0.6 * lung)
    stomach = draw.ellipse(g, (0.36, nuisance["diaphragm"] + 0.26), (0.13, 0.08), 0.2)
    film -= 0.25 * draw.fill(stomach, 0.06) * (nuisance["dy"] > 0)  # gas bubble, in half of them
    return film


def _bones(g: Grid) -> Array:
    """Posterior and anterior ribs, vertebrae and clavicles."""
    side = np.abs(g.x)
    cage = draw.fill(((side / 0.80) ** 2 + ((g.y - 0.12) / 0.98) ** 2) ** 0.5 - 1, 0.05)
    posterior = (g.y - 0.55 * (side - 0.18) ** 2 + 0.02) / 0.155
    anterior = (g.y + 0.52 * side - 0.35 * side * side) / 0.20
    ribs = 0.12 * _bands(posterior, 0.46) * draw.fill(0.08 - side, 0.08)
    ribs = ribs + 0.06 * _bands(anterior, 0.42) * draw.fill(0.30 - side, 0.2)
    ribs = ribs * (0.25 + 0.75 * draw.fill(g.y - 0.45, 0.35))  # drowned by the abdomen below
    vertebrae = 0.03 * _bands(g.y / 0.13, 0.75) * draw.fill(side - 0.08, 0.04)
    line = -0.60 - 0.16 * side + 0.06 * np.sin(6.0 * side)
    ends = np.maximum(0.07 - side, side - 0.80)
    clavicles = draw.fill(np.maximum(np.abs(g.y - line) - 0.028, ends), 0.03, g.pixel)
    return ribs * cage + vertebrae + 0.16 * clavicles


def _bands(phase: Array, share: float) -> Array:
    """Bands that repeat with period 1 and fill ``share`` of it, brighter along their edges."""
    distance = np.abs(phase - np.round(phase)) * 2 / share
    inside = np.clip((1.15 - distance) / 0.3, 0, 1)
    return inside * (0.65 + 0.35 * distance.clip(0, 1) ** 2)


def _markings(g: Grid, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Vessels fanning out of the hila, and fine texture."""
    paths = []
    for side in (-1.0, 1.0):
        for target in np.linspace(-1.15, 1.0, 6):
            reach = 0.34 + 0.1 * rng.random()
            bend = target + rng.uniform(-0.35, 0.35)
            start = np.array([0.17 * side, 0.0])
            middle = start + 0.5 * reach * np.array([side * np.cos(bend), np.sin(bend)])
            end = start + reach * np.array([side * np.cos(target), 1.2 * np.sin(target)])
            points = draw.place(np.stack([start, middle, end]), **_pose(nuisance))
            paths.append((points, (0.045, 0.028, 0.012)))
    vessels = draw.blur(draw.strokes(g.size, paths, 2), 0.018)
    return 0.24 * vessels + 0.035 * draw.fractal_noise(rng, g.size, 10, 2)


def _pose(nuisance: Truth) -> dict[str, Any]:
    """How the patient stands: keywords of ``Grid.posed`` and ``draw.place``."""
    return {
        "angle": nuisance["angle"],
        "scale": nuisance["scale"],
        "shift": (nuisance["dx"], nuisance["dy"]),
        "aspect": nuisance["aspect"],
    }


def _breasts(g: Grid, amount: float) -> Array | float:
    """Soft symmetric shadows over the lower zones: they whiten, but are no finding."""
    if amount == 0:
        return 0.0
    mirrored = Grid(np.abs(g.x), g.y, g.pixel)
    outline = draw.ellipse(mirrored, (0.44, 0.26), (0.32, 0.26))
    return 0.15 * amount * draw.fill(outline, 0.12)


# -- findings -------------------------------------------------------------------------------------


def _opacity(g: Grid, finding: Truth, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Share of the air that a consolidation has replaced: patchy, with ill-defined borders."""
    side, radius = SIDES[finding["side"]], finding["radius"]
    height = ZONES[finding["zone"]] + nuisance["diaphragm"] - 0.34
    beside = 0.46 if finding["zone"] == "lower" and side > 0 else 0.40  # clear of the heart
    centre = (side * (beside + rng.uniform(-0.07, 0.07)), height + rng.uniform(-0.06, 0.06))
    outline = draw.blob(g, centre, radius * draw.wobble(rng, 9, 0.16))
    clouds = draw.fractal_noise(rng, g.size, 7, 3)
    patch = draw.fill(outline + 0.08 * clouds, 0.18, g.pixel)
    density = finding["strength"] * patch * (1 + 0.16 * clouds)
    if finding["bronchograms"]:
        density = density * (1 - 0.75 * _bronchi(g, centre, side, radius, nuisance, rng))
    return np.clip(density, 0, 1)


def _bronchi(
    g: Grid, centre: Any, side: float, radius: float, nuisance: Truth, rng: np.random.Generator
) -> Array:
    """Branching air-filled tubes that stay dark inside a consolidation."""
    root = np.array([centre[0] - side * 0.8 * radius, centre[1] - 0.3 * radius])
    paths = []
    for turn in (-0.55, 0.1, 0.7):
        heading = turn + rng.uniform(-0.2, 0.2)
        tip = root + 1.6 * radius * np.array([side * np.cos(heading), np.sin(heading)])
        paths.append((draw.place(np.stack([root, tip]), **_pose(nuisance)), (0.055, 0.03)))
    return draw.strokes(g.size, paths)


def _effusion(g: Grid, finding: Truth, dome: float) -> Array:
    """Share of the air that pleural fluid has replaced: all of it below a concave meniscus."""
    height = finding["height"]
    across = np.clip((np.abs(g.x) - 0.12) / (THORAX - 0.12), 0, 1)
    rise = 0.42 + 0.58 * across**3.5 + 0.16 * (1 - across) ** 4
    angle = dome + _DOME  # height of the costophrenic angle
    surface = angle - height * rise
    level = g.y + 0.75 - 0.8 * height * rise if finding["apical"] else surface - g.y
    fluid = draw.fill(level, 0.09, g.pixel)
    if finding["side"] != "bilateral":
        fluid = fluid * (g.x * SIDES[finding["side"]] > 0)
    return fluid


# -- what lies on the patient and what the detector does ------------------------------------------


def _devices(film: Array, g: Grid, device: str, pose: Mapping[str, Any]) -> Array:
    """Metal and plastic on or in the patient, whiter than bone."""
    if device == "pacemaker":
        box = draw.ellipse(g, (0.50, -0.42), (0.13, 0.10), 0.4)
        film = draw.blend(film, 1.25, draw.fill(box, 0.02, g.pixel))
        lead = draw.curve([(0.42, -0.38), (0.10, -0.62), (-0.14, -0.1), (0.18, 0.30)], 10)
        mask = draw.strokes(g.size, [(draw.place(lead, **pose), 0.028)])
        film = draw.blend(film, 1.2, 0.9 * mask)
    elif device == "picc line":
        line = draw.curve([(-0.98, -0.25), (-0.60, -0.62), (-0.06, -0.62), (-0.08, 0.02)], 10)
        mask = draw.strokes(g.size, [(draw.place(line, **pose), 0.028)])
        film = draw.blend(film, 1.15, 0.8 * mask)
    elif device == "ECG leads":
        ends = np.array([(-0.55, -0.45), (0.60, -0.40), (0.58, 0.30)])
        wires = [draw.curve([end, (end[0] * 0.8, 0.6), (0.1, 1.1)], 8) for end in ends]
        mask = draw.strokes(g.size, [(draw.place(wire, **pose), 0.016) for wire in wires])
        film = draw.blend(film, 1.1, 0.6 * mask)
        for end in ends:
            pad = draw.ellipse(g, (end[0], end[1]), (0.05, 0.05))
            film = draw.blend(film, 1.15, 0.8 * draw.fill(pad, 0.02, g.pixel))
    return film


#: Strokes of the side markers in a unit box.
_GLYPHS: Final = {
    "L": (((0.0, 0.0), (0.0, 1.0), (0.7, 1.0)),),
    "R": (((0.0, 1.0), (0.0, 0.0), (0.6, 0.1), (0.6, 0.4), (0.0, 0.5), (0.7, 1.0)),),
}


def _expose(film: Array, frame: Grid, nuisance: Truth, rng: np.random.Generator) -> Array:
    """Window, marker, collimation and noise: grey in [0, 1]."""
    grey = 0.5 + nuisance["contrast"] * 0.80 * (film - 0.60) + nuisance["exposure"]
    grey = np.clip(grey, 0, 1) ** np.float32(nuisance["gamma"])
    if nuisance["marker"] != "none":
        corner = (0.80, -0.90) if nuisance["marker"] == "L" else (-0.90, -0.90)
        paths = [(np.array(s) * 0.13 + corner, 0.035) for s in _GLYPHS[nuisance["marker"]]]
        grey = draw.blend(grey, 0.95, draw.strokes(frame.size, paths))
    grey = draw.sensor_noise(grey, rng, nuisance["noise"])
    if nuisance["collimation"]:
        edge = np.maximum(np.abs(frame.x), np.abs(frame.y)) - (1 - nuisance["collimation"])
        grey = grey * draw.fill(edge, 0.02, frame.pixel)
    return grey
