"""Signs made of one or a few large lesions: patches, plaques, scars and tumours of the skin."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy.skin_stage import Stage
from cas_metric.phantoms.draw import Array, Grid
from cas_metric.phantoms.fields import around, scatter, segments, spots

_SERUM: Final = np.array([0.93, 0.78, 0.38], dtype=np.float32)
_KERATIN: Final = np.array([0.95, 0.88, 0.70], dtype=np.float32)
_BLOOD: Final = np.array([0.30, 0.05, 0.05], dtype=np.float32)
_WHITE: Final = np.array([0.97, 0.94, 0.91], dtype=np.float32)


def _outline(s: Stage, centre: Array, radius: float, rough: float, points: int = 12) -> Array:
    """Distance to an irregular round outline."""
    at = (float(centre[0]), float(centre[1]))
    return draw.blob(s.g, at, radius * draw.wobble(s.rng, points, rough))


def _islands(s: Stage, rough: float, spread: float, points: int = 12) -> Array:
    """Distance to ``count`` irregular lesions of radius ``extent``, smaller if there are more."""
    centres = around(s.rng, s.count, spread)
    radius = s.extent * (1.0, 0.78, 0.70, 0.60, 0.52)[min(s.count, 5) - 1]
    return np.minimum.reduce(
        [_outline(s, c, radius * s.rng.uniform(0.85, 1.1), rough, points) for c in centres]
    )


def _grit(s: Stage, cells: int, threshold: float, softness: float = 0.5) -> Array:
    """Random specks in [0, 1]: where a fine noise exceeds ``threshold``."""
    noise = draw.smooth_noise(s.rng, s.size, cells)
    return np.clip((noise - threshold) / softness, 0, 1)


def actinic_keratosis(canvas: Array, s: Stage) -> Array:
    """A small rough patch under a gritty yellowish crust."""
    outline = _islands(s, 0.14, 0.4)
    canvas = s.tint(canvas, draw.fill(outline, 0.14, s.g.pixel))
    core = draw.fill(outline + 0.05, 0.10, s.g.pixel)
    grit = core * _grit(s, 38, {"thin": 0.35, "thick": -0.25}[s.finding["variant"]], 0.35)
    crust = np.array([0.90, 0.74, 0.34], dtype=np.float32) * (1 - 0.2 * s.depth)
    canvas = draw.blend(canvas, crust, 0.85 * grit)
    return s.relief(canvas, 0.035 * grit, strength=0.55)


def allergic_contact_dermatitis(canvas: Array, s: Stage) -> Array:
    """A red weeping patch with the straight edges of what touched the skin, full of vesicles."""
    x, y, r = s.g.x, s.g.y, np.float32(s.extent)
    shape = s.finding["variant"]
    if shape == "band-shaped":
        outline = np.maximum(np.abs(y) - 0.62 * r, np.abs(x) - 2.3 * r)
    elif shape == "triangular":
        slopes = np.abs(x) * np.float32(0.87) + y * np.float32(0.5)
        outline = np.maximum(slopes - 0.62 * r, -y - 0.75 * r)
    else:
        outline = np.maximum(np.abs(x), np.abs(y)) - 0.9 * r
    canvas = s.tint(canvas, draw.fill(outline, 0.05, s.g.pixel))
    weep = draw.fill(outline + 0.08, 0.06, s.g.pixel)
    canvas = draw.blend(canvas, _SERUM, 0.45 * weep * _grit(s, 12, 0.75))
    spread = 1.1 * s.extent if shape == "band-shaped" else 0.62 * s.extent
    centres = scatter(s.rng, s.count, spread, aspect=3.5 if shape == "band-shaped" else 1.0)
    field = spots(s.g, centres, s.rng.uniform(0.065, 0.09, s.count))
    vesicle = draw.fill(field.outline, 0.03, s.g.pixel)
    canvas = draw.blend(
        canvas, (0.95, 0.78, 0.66) if s.depth < 0.5 else (0.80, 0.58, 0.46), 0.6 * vesicle
    )
    height = field.radius * np.clip(1 - field.rho**2, 0, 1)
    return s.relief(canvas, height, strength=0.45, gloss=0.45)


def basal_cell_carcinoma(canvas: Array, s: Stage) -> Array:
    """A pearly shiny nodule with a rolled rim, a central depression and fine red vessels."""
    outline = _outline(s, np.zeros(2), s.extent, 0.06, 9)
    rho = np.clip(outline / np.float32(s.extent) + 1, 0, None)
    body = draw.fill(outline, 0.04, s.g.pixel)
    pearl = np.array([0.98, 0.82, 0.79], dtype=np.float32) * (1 - 0.38 * s.depth)
    canvas = draw.blend(canvas, pearl, 0.66 * body)
    vessels = []
    turns = 2 * np.pi * (np.arange(s.count) + s.rng.uniform(-0.3, 0.3, s.count)) / s.count
    for turn in turns + s.rng.uniform(0, 2 * np.pi):
        reach = s.extent * np.array([1.05, 0.80, s.rng.uniform(0.35, 0.55)])
        bends = turn + np.array([0.0, s.rng.uniform(-0.5, 0.5), s.rng.uniform(-0.7, 0.7)])
        points = np.stack([reach * np.cos(bends), reach * np.sin(bends)], axis=1)
        vessels.append((draw.place(draw.curve(list(points), 8), **s.pose), 0.024))
    canvas = draw.blend(canvas, (0.72, 0.10, 0.14), 0.80 * draw.strokes(s.size, vessels))
    ulcer = s.finding["variant"] == "central ulcer"
    pit = draw.fill(outline + np.float32((0.58 if ulcer else 0.66) * s.extent), 0.08, s.g.pixel)
    canvas = draw.blend(canvas, (0.40, 0.15, 0.12) if ulcer else (0.66, 0.42, 0.37), 0.78 * pit)
    dome = np.clip(1 - rho**3, 0, 1) - 0.75 * np.exp(-((rho / 0.42) ** 2))
    return s.relief(canvas, 0.34 * s.extent * dome, strength=0.36, gloss=0.40)


def eczema(canvas: Array, s: Stage) -> Array:
    """Ill-defined dry patches that fade into the skin, with fine flakes and scratches."""
    clouds = draw.fractal_noise(s.rng, s.size, 6, 2)
    outline = _islands(s, 0.14, 0.62) + 0.09 * clouds
    patch = draw.fill(outline, 0.42, s.g.pixel)
    canvas = s.tint(canvas, patch * np.clip(0.72 + 0.14 * clouds, 0, 1))
    if s.finding["variant"] == "scratched":
        scratches = []
        heading = s.rng.uniform(0, np.pi)
        for x, y in s.rng.uniform(-0.6, 0.6, (6, 2)) * s.extent:
            step = 0.16 * np.array([np.cos(heading), np.sin(heading)])
            line = np.stack([np.array([x, y]) - step, np.array([x, y]) + step])
            scratches.append((draw.place(line, **s.pose), 0.03))
        canvas = draw.blend(canvas, (0.50, 0.10, 0.09), 0.7 * draw.strokes(s.size, scratches))
    flakes = patch * _grit(s, 40, 0.85, 0.4)
    return draw.blend(canvas, (0.95, 0.90, 0.86), 0.50 * flakes)


def keloid(canvas: Array, s: Stage) -> Array:
    """A bulky smooth shiny scar with claws that reach into the skin."""
    length = s.extent
    turns = 2 * np.pi * (np.arange(s.count) + s.rng.uniform(-0.25, 0.25, s.count)) / s.count
    turns += s.rng.uniform(0, 2 * np.pi)
    heading = np.stack([np.cos(turns), 0.8 * np.sin(turns)], axis=1)
    roots = heading * (0.50, 0.22) * length
    reach = length * s.rng.uniform(0.75, 1.0, (s.count, 1))
    bend = np.stack([-heading[:, 1], heading[:, 0]], axis=1) * s.rng.uniform(
        -0.3, 0.3, (s.count, 1)
    )
    elbows = roots + 0.42 * reach * heading
    tips = elbows + 0.42 * reach * (heading + 1.4 * bend)
    web = segments(
        s.g,
        np.concatenate([roots, elbows]),
        np.concatenate([elbows, tips]),
        length * np.repeat([[0.40, 0.20], [0.20, 0.05]], s.count, axis=0),
    )
    body = draw.ellipse(s.g, (0.0, 0.0), (0.70 * length, 0.36 * length))
    # A smooth minimum: the claws grow out of the body without a seam.
    soft = 0.10 * length
    distance = -soft * np.logaddexp(-body / soft, -web.distance / soft)
    inside = draw.fill(distance, 0.05, s.g.pixel)
    canvas = draw.blend(canvas, canvas.mean(axis=(0, 1)), 0.75 * inside)
    canvas = s.tint(canvas, inside)
    height = 0.55 * np.sqrt(np.clip(-distance, 0, None) * length)
    return s.relief(canvas, draw.blur(height, 0.03), strength=0.42, gloss=0.34)


def lupus_erythematosus(canvas: Array, s: Stage) -> Array:
    """The butterfly: a rash over both cheeks, joined across the nose."""
    half = Grid(np.abs(s.g.x), s.g.y, s.g.pixel)
    wing = s.extent
    cheeks = draw.ellipse(half, (0.17 + 0.62 * wing, 0.06), (wing, 0.62 * wing), -0.35)
    bridge = draw.ellipse(half, (0.0, -0.14), (0.28, 0.15))
    scallops = draw.smooth_noise(s.rng, s.size, 10)
    outline = np.minimum(cheeks, bridge) + 0.035 * scallops
    rash = draw.fill(outline, 0.07, s.g.pixel)
    canvas = s.tint(canvas, rash * np.clip(0.92 + 0.1 * scallops, 0, 1))
    if s.finding["variant"] == "scaly":
        canvas = draw.blend(canvas, (0.95, 0.90, 0.86), 0.55 * rash * _grit(s, 24, 0.9, 0.4))
    return canvas


def melanoma(canvas: Array, s: Stage) -> Array:
    """An asymmetric notched patch in several shades of brown and black."""
    points = 16
    turn = 2 * np.pi * np.arange(points) / points
    radii = s.extent * draw.wobble(s.rng, points, 0.13) * (1 + 0.38 * np.cos(turn))
    deep = s.finding["variant"] == "notched"
    notches = s.rng.choice(points, 3 if deep else 5, replace=False)
    radii[notches] *= 0.48 if deep else 0.68
    outline = draw.blob(s.g, (-0.2 * s.extent, 0.0), radii)
    body = draw.fill(outline, 0.035, s.g.pixel)
    pigment = np.array([0.42, 0.22, 0.12], dtype=np.float32) * (1 - 0.55 * s.depth)
    canvas = draw.blend(canvas, pigment, np.clip(0.90 * s.finding["vividness"], 0, 1) * body)
    clouds = draw.smooth_noise(s.rng, s.size, 6) + 0.4 * draw.smooth_noise(s.rng, s.size, 12)
    black = body * np.clip(0.6 + 1.3 * clouds, 0, 1)
    canvas = draw.blend(canvas, (0.07, 0.045, 0.045), 0.92 * black)
    shades: dict[str, Any] = {
        "blue-grey": (0.42, 0.47, 0.58),
        "red": (0.66, 0.16, 0.16),
        "white": _WHITE,
    }
    where = scatter(s.rng, 3, 0.52 * s.extent)
    for name, at in zip(shades, where, strict=True):
        if name in s.finding["shades"]:
            spot = _outline(s, at, 0.34 * s.extent, 0.15, 8)
            canvas = draw.blend(canvas, shades[name], 0.8 * draw.fill(spot, 0.08, s.g.pixel) * body)
    return canvas


def mycosis_fungoides(canvas: Array, s: Stage) -> Array:
    """Large irregular patches of finely wrinkled, cigarette-paper skin."""
    outline = _islands(s, 0.17, 0.50, points=10)
    patch = draw.fill(outline, 0.09, s.g.pixel)
    canvas = s.tint(canvas, patch)
    bend = 0.10 * draw.smooth_noise(s.rng, s.size, 5)
    folds = np.cos((s.g.y + bend) * np.float32(2 * np.pi * 7))
    cross = np.cos((0.75 * s.g.x + 0.66 * s.g.y - bend) * np.float32(2 * np.pi * 5))
    broken = np.clip(0.8 + 0.5 * draw.smooth_noise(s.rng, s.size, 9), 0, 1)
    wrinkles = (np.clip(folds - 0.2, 0, 1) + 0.7 * np.clip(cross - 0.35, 0, 1)) * broken
    canvas = canvas * (1 + 0.12 * patch - 0.46 * patch * np.clip(wrinkles, 0, 1))[..., None]
    return s.relief(canvas, 0.02 * patch * wrinkles, strength=0.4, gloss=0.05)


def psoriasis(canvas: Array, s: Stage) -> Array:
    """Sharply bounded red plaques under thick silvery scale."""
    rough = 0.05 if s.finding["variant"] == "round" else 0.20
    outline = _islands(s, rough, 0.52)
    plaque = draw.fill(outline, 0.04, s.g.pixel)
    canvas = s.tint(canvas, plaque)
    sheets = draw.fractal_noise(s.rng, s.size, 13, 2, 0.8)
    scale = draw.fill(outline + 0.09, 0.06, s.g.pixel) * np.clip(0.80 + 1.3 * sheets, 0, 1)
    silver = np.array([0.91, 0.92, 0.95], dtype=np.float32) * (1 - 0.22 * s.depth)
    canvas = draw.blend(canvas, silver, 0.90 * scale)
    return s.relief(canvas, 0.05 * scale * (1 + 0.4 * sheets) + 0.05 * plaque, strength=0.5)


def sarcoidosis(canvas: Array, s: Stage) -> Array:
    """Smooth firm red-brown plaques or nodules."""
    nodules = s.finding["variant"] == "nodules"
    centres = around(s.rng, s.count, 0.60)
    radii = s.extent * (0.72 if nodules else 1.0) * s.rng.uniform(0.85, 1.12, s.count)
    turns = s.rng.uniform(0, np.pi, s.count)
    field = spots(s.g, centres, radii, angles=turns, aspect=1.05 if nodules else 1.5)
    lumps = 0.025 * draw.smooth_noise(s.rng, s.size, 9)
    inside = draw.fill(field.outline + lumps, 0.10, s.g.pixel)
    canvas = draw.blend(canvas, canvas.mean(axis=(0, 1)), 0.8 * inside)
    canvas = s.tint(canvas, inside)
    dome = np.clip(1 - field.rho**4, 0, 1) * field.radius
    return s.relief(canvas, (0.42 if nodules else 0.16) * dome, strength=0.45, gloss=0.06)


def squamous_cell_carcinoma(canvas: Array, s: Stage) -> Array:
    """A firm red nodule with a raised rim around a crater of rough white keratin or blood."""
    outline = _outline(s, np.zeros(2), s.extent, 0.11, 11)
    rho = np.clip(outline / np.float32(s.extent) + 1, 0, None)
    canvas = s.tint(canvas, draw.fill(outline, 0.10, s.g.pixel))
    rough = draw.fractal_noise(s.rng, s.size, 14, 2)
    crater = draw.fill(outline + np.float32(0.36 * s.extent) + 0.03 * rough, 0.05, s.g.pixel)
    canvas = draw.blend(canvas, _KERATIN, 0.92 * crater * np.clip(0.85 + 0.5 * rough, 0, 1))
    bleeding = s.finding["variant"] == "bleeding"
    crust = crater * np.clip((rough - (-0.1 if bleeding else 0.8)) / 0.5, 0, 1)
    canvas = draw.blend(canvas, _BLOOD, 0.90 * crust)
    rim = np.exp(-(((rho - 0.85) / 0.2) ** 2))
    height = 0.24 * s.extent * rim + 0.03 * crater * rough
    return s.relief(canvas, height, strength=0.5)


def vitiligo(canvas: Array, s: Stage) -> Array:
    """Sharply bounded white patches; the skin's texture goes on in them."""
    outline = _islands(s, 0.24, 0.62, points=11)
    patch = draw.fill(outline, 0.03, s.g.pixel)[..., None]
    white = _WHITE if s.finding["colour"] == "chalk-white" else _WHITE * np.float32(0.93)
    strength = np.float32(min(0.95 * s.finding["vividness"], 1.1))
    return canvas * (1 + (white / s.skin - 1) * strength * patch)
