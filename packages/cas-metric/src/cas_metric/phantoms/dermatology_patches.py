"""Signs made of one or a few large lesions: patches, plaques, scars and tumours of the skin."""

from __future__ import annotations

from typing import Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.dermatology_canvas import Stage
from cas_metric.phantoms.draw import Array, Grid
from cas_metric.phantoms.fields import scatter, segments, spots

_SERUM: Final = np.array([0.93, 0.78, 0.38], dtype=np.float32)
_KERATIN: Final = np.array([0.95, 0.88, 0.70], dtype=np.float32)
_BLOOD: Final = np.array([0.30, 0.05, 0.05], dtype=np.float32)
_WHITE: Final = np.array([0.97, 0.94, 0.91], dtype=np.float32)


def _outline(s: Stage, centre: Array, radius: float, rough: float, points: int = 12) -> Array:
    """Distance to an irregular round outline."""
    at = (float(centre[0]), float(centre[1]))
    return draw.blob(s.g, at, radius * draw.wobble(s.rng, points, rough))


def _islands(s: Stage, rough: float, spread: float, scale: float = 1.0, points: int = 12) -> Array:
    """Distance to ``count`` irregular lesions of radius ``extent``; smaller where there are more."""
    centres = scatter(s.rng, s.count, spread, tries=16) if s.count > 1 else np.zeros((1, 2))
    radius = s.extent * scale * (1.0, 1.0, 0.82, 0.70, 0.62, 0.56)[min(s.count, 5)]
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
    grit = core * _grit(s, 30, {"thin": 0.35, "thick": -0.15}[s.finding["variant"]], 0.35)
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
    canvas = draw.blend(canvas, (0.97, 0.86, 0.78), 0.66 * vesicle)
    height = field.radius * np.clip(1 - field.rho**2, 0, 1)
    return s.relief(canvas, height, strength=0.45, gloss=0.55)


def basal_cell_carcinoma(canvas: Array, s: Stage) -> Array:
    """A pearly shiny nodule with a rolled rim, a central depression and fine red vessels."""
    outline = _outline(s, np.zeros(2), s.extent, 0.05, 9)
    rho = np.clip(outline / np.float32(s.extent) + 1, 0, None)
    body = draw.fill(outline, 0.04, s.g.pixel)
    pearl = np.array([0.98, 0.84, 0.82], dtype=np.float32) * (1 - 0.42 * s.depth)
    canvas = draw.blend(canvas, pearl, 0.72 * body)
    vessels = []
    for turn in s.rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(s.count) / s.count:
        heading = turn + s.rng.uniform(-0.3, 0.3)
        reach = s.extent * np.array([1.05, 0.75, 0.42])
        bends = heading + np.array([0.0, s.rng.uniform(-0.35, 0.35), s.rng.uniform(-0.5, 0.5)])
        points = np.stack([reach * np.cos(bends), reach * np.sin(bends)], axis=1)
        vessels.append((draw.place(draw.curve(points, 8), **s.pose), 0.026))
    canvas = draw.blend(canvas, (0.70, 0.08, 0.12), 0.85 * draw.strokes(s.size, vessels))
    ulcer = s.finding["variant"] == "central ulcer"
    pit = draw.fill(outline + np.float32((0.58 if ulcer else 0.66) * s.extent), 0.07, s.g.pixel)
    canvas = draw.blend(canvas, (0.42, 0.16, 0.13) if ulcer else (0.62, 0.38, 0.34), 0.80 * pit)
    rim = np.exp(-(((rho - 0.72) / 0.24) ** 2))
    return s.relief(canvas, 0.26 * s.extent * rim, strength=0.45, gloss=0.42)


def eczema(canvas: Array, s: Stage) -> Array:
    """Ill-defined dry patches that fade into the skin, with fine flakes and scratches."""
    clouds = draw.fractal_noise(s.rng, s.size, 6, 2)
    outline = _islands(s, 0.14, 0.62) + 0.09 * clouds
    patch = draw.fill(outline, 0.42, s.g.pixel)
    canvas = s.tint(canvas, patch * np.clip(0.9 + 0.12 * clouds, 0, 1))
    if s.finding["variant"] == "scratched":
        scratches = []
        heading = s.rng.uniform(0, np.pi)
        for x, y in s.rng.uniform(-0.6, 0.6, (6, 2)) * s.extent:
            step = 0.16 * np.array([np.cos(heading), np.sin(heading)])
            scratches.append((draw.place(np.array([(x, y) - step, (x, y) + step]), **s.pose), 0.03))
        canvas = draw.blend(canvas, (0.50, 0.10, 0.09), 0.7 * draw.strokes(s.size, scratches))
    flakes = patch * _grit(s, 34, 1.0, 0.4)
    return draw.blend(canvas, (0.95, 0.90, 0.86), 0.50 * flakes)


def keloid(canvas: Array, s: Stage) -> Array:
    """A raised smooth shiny scar with claws that reach into the skin."""
    length = s.extent
    ends = np.array([(-0.65 * length, 0.0), (0.65 * length, 0.0)])
    turns = np.pi * (np.arange(s.count) % 2) + s.rng.uniform(-0.9, 0.9, s.count)
    roots = np.stack([np.linspace(-0.6, 0.6, s.count) * length, np.zeros(s.count)], axis=1)
    roots = roots[s.rng.permutation(s.count)]
    lean = np.where(np.arange(s.count) % 2, 1.0, -1.0)
    reach = length * s.rng.uniform(0.55, 0.85, s.count)
    tips = roots + np.stack([0.5 * reach * np.cos(turns), lean * reach], axis=1)
    web = segments(
        s.g,
        np.concatenate([ends[:1], roots]),
        np.concatenate([ends[1:], tips]),
        np.concatenate([[[0.42, 0.50]], np.tile([0.36, 0.06], (s.count, 1))]) * length,
    )
    inside = draw.fill(web.distance, 0.05, s.g.pixel)
    flat = canvas.mean(axis=(0, 1)) * np.float32(1.02)
    canvas = draw.blend(canvas, flat, 0.7 * inside)
    canvas = s.tint(canvas, inside)
    height = 0.75 * draw.blur(np.clip(-web.distance, 0, 0.3 * length), 0.03)
    canvas = s.relief(canvas, height, strength=0.42, gloss=0.30)
    return canvas + (0.20 * np.clip(height / (0.11 * length) - 0.75, 0, 0.6))[..., None]


def lupus_erythematosus(canvas: Array, s: Stage) -> Array:
    """The butterfly: a rash over both cheeks, joined across the nose."""
    half = Grid(np.abs(s.g.x), s.g.y, s.g.pixel)
    wing = np.float32(s.extent)
    cheeks = draw.ellipse(half, (0.17 + 0.62 * wing, 0.06), (wing, 0.62 * wing), -0.35)
    bridge = draw.ellipse(half, (0.0, -0.14), (0.28, 0.15))
    scallops = draw.smooth_noise(s.rng, s.size, 10)
    outline = np.minimum(cheeks, bridge) + 0.02 * scallops
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
    shades = {"blue-grey": (0.42, 0.47, 0.58), "red": (0.66, 0.16, 0.16), "white": _WHITE}
    where = scatter(s.rng, 3, 0.52 * s.extent, tries=16)
    for name, at in zip(shades, where, strict=True):
        if name in s.finding["shades"]:
            spot = _outline(s, at, 0.34 * s.extent, 0.15, 8)
            canvas = draw.blend(canvas, shades[name], 0.8 * draw.fill(spot, 0.08, s.g.pixel) * body)
    return canvas


def mycosis_fungoides(canvas: Array, s: Stage) -> Array:
    """Large irregular patches of wrinkled, cigarette-paper skin."""
    outline = _islands(s, 0.17, 0.50, points=10)
    patch = draw.fill(outline, 0.09, s.g.pixel)
    canvas = s.tint(canvas, patch)
    bend = 0.09 * draw.smooth_noise(s.rng, s.size, 5)
    folds = np.cos((s.g.y + bend) * np.float32(2 * np.pi * 5.5))
    cross = np.cos((0.8 * s.g.x + 0.6 * s.g.y - bend) * np.float32(2 * np.pi * 4.0))
    wrinkles = np.clip(folds - 0.35, 0, 1) + 0.5 * np.clip(cross - 0.45, 0, 1)
    canvas = canvas * (1 + 0.15 * patch - 0.48 * patch * np.clip(wrinkles, 0, 1))[..., None]
    return s.relief(canvas, 0.02 * patch * wrinkles, strength=0.5, gloss=0.05)


def psoriasis(canvas: Array, s: Stage) -> Array:
    """Sharply bounded red plaques under thick silvery scale."""
    rough = 0.05 if s.finding["variant"] == "round" else 0.20
    outline = _islands(s, rough, 0.52)
    plaque = draw.fill(outline, 0.04, s.g.pixel)
    canvas = s.tint(canvas, plaque)
    sheets = draw.fractal_noise(s.rng, s.size, 11, 2)
    scale = draw.fill(outline + 0.10, 0.06, s.g.pixel) * np.clip(0.62 + 0.95 * sheets, 0, 1)
    silver = np.array([0.93, 0.93, 0.95], dtype=np.float32) * (1 - 0.22 * s.depth)
    canvas = draw.blend(canvas, silver, 0.92 * scale)
    return s.relief(canvas, 0.05 * scale + 0.05 * plaque, strength=0.5)


def sarcoidosis(canvas: Array, s: Stage) -> Array:
    """Smooth firm red-brown plaques or nodules."""
    nodules = s.finding["variant"] == "nodules"
    centres = scatter(s.rng, s.count, 0.60, tries=16)
    radii = s.extent * (0.72 if nodules else 1.0) * s.rng.uniform(0.85, 1.12, s.count)
    turns = s.rng.uniform(0, np.pi, s.count)
    field = spots(s.g, centres, radii, angles=turns, aspect=1.05 if nodules else 1.5)
    inside = draw.fill(field.outline, 0.09, s.g.pixel)
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
