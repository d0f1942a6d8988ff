"""Signs made of many small lesions, and the table of all painters of the phantom skin diseases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy import skin_lesions as patches
from cas_metric.phantoms.anatomy.skin import (
    TONES,
    draw_features,
    draw_skin,
    face_pose,
    photograph,
    skin_colour,
)
from cas_metric.phantoms.anatomy.skin_stage import Stage
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array
from cas_metric.phantoms.fields import Spots, around, scatter, spots

_PUS: Final = np.array([0.96, 0.90, 0.66], dtype=np.float32)
_HAIR: Final = np.array([0.10, 0.06, 0.05], dtype=np.float32)
_CRUST: Final = np.array([0.30, 0.12, 0.08], dtype=np.float32)


def draw_photograph(spec: FindingSpec, size: int) -> Array:
    """Colours of ``spec``: ``(size, size, 3)`` float32, nominally in [0, 1].

    Skin, sign and camera draw from separate streams, so that a change of the finding leaves the
    rest of the photograph as it was. An empty finding is bare skin.
    """
    finding, nuisance = spec.finding, spec.nuisance
    skin, sign, camera = (np.random.default_rng([spec.seed, k]) for k in range(3))
    frame = draw.grid(size)
    canvas = draw_skin(frame, nuisance, skin)
    if finding:
        x, y = finding["place"]
        pose = {"angle": finding["angle"], "shift": (x, y)}
        if spec.label == "Lupus Erythematosus":  # the face is its frame of reference
            pose = face_pose(nuisance)
            pose["shift"] = (pose["shift"][0] + x, pose["shift"][1] + y)
        turn = nuisance["light_angle"]
        stage = Stage(
            g=frame.posed(**pose),
            pose=pose,
            finding=finding,
            rng=sign,
            skin=skin_colour(nuisance),
            depth=list(TONES).index(nuisance["tone"]) / (len(TONES) - 1),
            light=(float(np.cos(turn)), float(np.sin(turn))),
        )
        canvas = _PAINTERS[spec.label](canvas, stage)
    if nuisance["site"] == "face":  # skin disease spares eyes and lips
        canvas = draw_features(canvas, frame, nuisance)
    return photograph(canvas, frame, nuisance, camera)


def _bump(field: Spots, height: float = 0.5) -> Array:
    """Elevation of a rounded papule on every spot."""
    return height * field.radius * np.clip(1 - field.rho * field.rho, 0, 1)


def _inside(field: Spots, s: Stage, edge: float = 0.03, at: float = 1.0) -> Array:
    """Mask of every spot up to ``at`` radii."""
    return draw.fill((field.rho - at) * field.radius, edge, s.g.pixel)


def acne(canvas: Array, s: Stage) -> Array:
    """Comedones and inflamed pimples of mixed size, strewn over oily skin."""
    mixture = {
        "mostly blackheads": (0.60, 0.15, 0.25),
        "mostly whiteheads": (0.15, 0.60, 0.25),
        "mostly inflamed pimples": (0.20, 0.15, 0.65),
    }[s.finding["variant"]]
    centres = scatter(s.rng, s.count, 0.78)
    draws = s.rng.random((s.count, 2))
    kind = (draws[:, 0, None] > np.cumsum(mixture)[:2]).sum(1)  # black, white, inflamed
    scale = np.array([0.50, 0.75, 1.25])[kind]
    field = spots(s.g, centres, s.extent * scale * (0.8 + 0.5 * draws[:, 1]))
    kinds = kind[field.which]
    red = np.array([0.25, 0.45, 1.0], dtype=np.float32)[kinds]
    canvas = s.tint(canvas, red * np.exp(-((field.rho / 1.35) ** 2)))
    oil = np.clip(draw.smooth_noise(s.rng, s.size, 5) - 0.9, 0, 1)
    canvas = canvas + 0.10 * oil[..., None]
    canvas = s.relief(canvas, _bump(field), strength=0.45, gloss=0.25)
    canvas = draw.blend(canvas, (0.10, 0.07, 0.06), 0.92 * _inside(field, s) * (kinds == 0))
    return draw.blend(canvas, (0.97, 0.92, 0.84), 0.85 * _inside(field, s, at=0.62) * (kinds == 1))


def folliculitis(canvas: Array, s: Stage) -> Array:
    """Domes of pus with a red collar, each pierced by a dark hair."""
    centres = scatter(s.rng, s.count, 0.72)
    radii = s.extent * s.rng.uniform(0.85, 1.15, s.count)
    field = spots(s.g, centres, radii)
    collar = draw.fill((field.rho - 1.75) * field.radius, 0.08, s.g.pixel)
    canvas = s.tint(canvas, collar)
    canvas = draw.blend(canvas, _PUS, 0.95 * _inside(field, s))
    canvas = s.relief(canvas, _bump(field, 0.7), strength=0.35, gloss=0.2)
    heading = s.rng.uniform(0, 2 * np.pi) + s.rng.uniform(-0.3, 0.3, s.count)
    hairs = []
    for centre, turn in zip(centres, heading, strict=True):
        tip = centre + 0.34 * np.array([np.cos(turn), np.sin(turn)])
        bend = centre + 0.18 * np.array([np.cos(turn + 0.3), np.sin(turn + 0.3)])
        hairs.append((draw.place(draw.curve([centre, bend, tip], 6), **s.pose), 0.03))
    return draw.blend(canvas, _HAIR, 0.95 * draw.strokes(s.size, hairs))


def prurigo_nodularis(canvas: Array, s: Stage) -> Array:
    """Firm domes with a dark rim and a crusted or scratched top."""
    centres = scatter(s.rng, s.count, 0.70)
    field = spots(s.g, centres, s.extent * s.rng.uniform(0.85, 1.15, s.count))
    rim = np.exp(-(((field.rho - 1.0) / 0.26) ** 2))
    canvas = s.tint(canvas, _inside(field, s))
    canvas = canvas * (1 - 0.66 * rim)[..., None]
    canvas = s.relief(canvas, _bump(field, 0.8), strength=0.55)
    rough = draw.smooth_noise(s.rng, s.size, 26)
    if s.finding["variant"] == "crusted":
        top = _inside(field, s, 0.06, at=0.50) * np.clip(0.8 + 0.4 * rough, 0, 1)
    else:
        lines = np.clip(1.2 * np.cos(field.v * 9), 0, 1)
        top = _inside(field, s, 0.05, at=0.75) * lines
    return draw.blend(canvas, _CRUST, 0.85 * top)


def lichen_planus(canvas: Array, s: Stage) -> Array:
    """Violaceous flat-topped polygons with a shine and fine white lines."""
    gap = 0.62 if s.finding["variant"] == "grouped" else 0.42
    centres = scatter(s.rng, s.count, gap * np.sqrt(s.count / 8) + 0.1)
    turns = s.rng.uniform(0, np.pi, s.count)
    field = spots(s.g, centres, s.extent * s.rng.uniform(0.85, 1.2, s.count), angles=turns)
    sides = 2 * np.pi / 5
    phi = np.arctan2(field.v, field.u)
    across = np.cos((phi + np.pi) % sides - sides / 2)
    field = field._replace(rho=field.rho * across / np.float32(0.88))
    inside = _inside(field, s, 0.025)
    canvas = s.tint(canvas, inside)
    plateau = np.clip((1 - field.rho) * field.radius, 0, 0.035)
    canvas = s.relief(canvas, plateau * 1.2, strength=0.6, gloss=0.3)
    lines = np.maximum(
        np.exp(-(((field.u + 0.3 * field.v) / 0.13) ** 2)),
        np.exp(-(((field.v - 0.35 * field.u) / 0.13) ** 2)),
    )
    lines = lines * _inside(field, s, 0.05, at=0.80)
    return draw.blend(canvas, (0.93, 0.86, 0.95), 0.62 * lines)


def erythema_multiforme(canvas: Array, s: Stage) -> Array:
    """Targets: dark centre, pale ring, red outer ring."""
    centres = around(s.rng, s.count, 0.60)
    radii = s.extent * s.rng.uniform(0.9, 1.1, s.count)
    field = spots(s.g, centres, radii, angles=s.rng.uniform(0, np.pi, s.count), aspect=1.1)
    outer = _inside(field, s, 0.05)
    canvas = s.tint(canvas, outer)
    pale = draw.fill((np.abs(field.rho - 0.54) - 0.16) * field.radius, 0.05, s.g.pixel)
    light = np.array([0.93, 0.80, 0.74], dtype=np.float32) * (1 - 0.35 * s.depth)
    canvas = draw.blend(canvas, light, 0.85 * pale)
    centre = _inside(field, s, 0.05, at=0.36)
    dusk = np.array([0.40, 0.10, 0.18], dtype=np.float32) * (1 - 0.45 * s.depth)
    canvas = draw.blend(canvas, dusk, 0.90 * centre)
    return s.relief(canvas, 0.03 * outer, strength=0.4)


def granuloma_annulare(canvas: Array, s: Stage) -> Array:
    """Rings of small smooth papules around skin that looks normal."""
    arc = 2 * np.pi if s.finding["variant"] == "complete" else 1.45 * np.pi
    middles = around(s.rng, s.count, 0.50)
    rings = s.extent * (1.0 if s.count == 1 else 0.74) * s.rng.uniform(0.92, 1.08, s.count)
    centres, radii = [], []
    for middle, ring in zip(middles, rings, strict=True):
        papule = 0.24 * ring**0.75 * 0.75
        number = max(7, int(arc * ring / (1.75 * papule)))
        turns = s.rng.uniform(0, 2 * np.pi) + arc * np.arange(number) / number
        reach = ring * s.rng.uniform(0.94, 1.06, number)
        centres.append(middle + np.stack([reach * np.cos(turns), reach * np.sin(turns)], axis=1))
        radii.append(papule * s.rng.uniform(0.88, 1.15, number))
    field = spots(s.g, np.concatenate(centres), np.concatenate(radii))
    canvas = s.tint(canvas, np.maximum(_inside(field, s, 0.04), 0.5 * np.exp(-(field.rho**2) / 3)))
    return s.relief(canvas, _bump(field, 0.8), strength=0.5, gloss=0.12)


def pityriasis_rosea(canvas: Array, s: Stage) -> Array:
    """A herald patch and small ovals along the skin lines, each with a collarette of scale."""
    side = 1.0 if s.rng.random() < 0.5 else -1.0
    herald = (0.50 * side, -0.46)
    daughters = []
    below = s.count * 2 // 5  # the flank of the herald has less room
    for flank, number, top in ((-side, s.count - below, -0.72), (side, below, 0.02)):
        height = top + (0.78 - top) * (np.arange(number) + 0.5) / number
        across = np.where(np.arange(number) % 2 == 0, 0.58, 0.24)
        across = across + s.rng.uniform(-0.06, 0.06, number)
        daughters.append(np.stack([flank * across, height, np.full(number, flank)], axis=1))
    ovals = np.concatenate(daughters)
    sizes = 0.42 * s.extent * s.rng.uniform(0.85, 1.15, s.count)
    field = spots(
        s.g,
        np.concatenate([[herald], ovals[:, :2]]),
        np.concatenate([[s.extent], sizes]),
        # Branches of a fir tree: they hang down to both sides.
        angles=0.6 * np.concatenate([[side], ovals[:, 2]]),
        aspect=np.concatenate([[1.4], np.full(s.count, 1.8)]),
    )
    canvas = s.tint(canvas, _inside(field, s, 0.05))
    flakes = np.clip(0.75 + 0.35 * draw.smooth_noise(s.rng, s.size, 26), 0, 1)
    width = 0.012 + 0.09 * field.radius
    ring = np.exp(-(((field.rho - 0.68) * field.radius / width) ** 2)) * flakes
    return draw.blend(canvas, (0.96, 0.92, 0.88), 0.72 * ring)


def scabies(canvas: Array, s: Stage) -> Array:
    """Wavy burrows that end in a dark dot, and small red bumps around them."""
    burrows, dots = [], []
    for start in around(s.rng, s.count, 0.50):
        turn = np.arctan2(start[0], -start[1]) + s.rng.uniform(-0.5, 0.5)
        t = np.linspace(-1, 1, 24)
        swing = 0.085 * (1 + 0.35 * np.sin(2.2 * t + s.rng.uniform(0, 2 * np.pi)))
        wave = swing * np.sin(2.2 * np.pi * t + s.rng.uniform(0, 2 * np.pi))
        line = np.stack([s.extent * t, wave], axis=1)
        line = draw.place(line, angle=turn, shift=tuple(start))
        burrows.append(draw.place(line, **s.pose))
        dots.append(line[-1])
    shadow = draw.strokes(s.size, [(line, 0.15) for line in burrows], 2)
    canvas = s.tint(canvas, 0.60 * draw.blur(shadow, 0.03))
    ridge = draw.strokes(s.size, [(line, 0.05) for line in burrows])
    canvas = draw.blend(canvas, (0.93, 0.89, 0.84), 0.80 * ridge)
    canvas = s.relief(canvas, 0.03 * ridge, strength=0.4)
    papules = int(s.finding["papules"])
    centres = np.concatenate([dots, scatter(s.rng, papules, 0.85)])
    radii = np.concatenate([np.full(s.count, 0.042), s.rng.uniform(0.045, 0.065, papules)])
    field = spots(s.g, centres, radii)
    mite = field.which < s.count
    bumps = _inside(field, s)
    canvas = s.tint(canvas, bumps * ~mite, "red")
    return draw.blend(canvas, (0.12, 0.08, 0.07), 0.85 * bumps * mite)


_PAINTERS: Final[Mapping[str, Callable[[Array, Stage], Array]]] = {
    "Acne": acne,
    "Actinic Keratosis": patches.actinic_keratosis,
    "Allergic Contact Dermatitis": patches.allergic_contact_dermatitis,
    "Basal Cell Carcinoma": patches.basal_cell_carcinoma,
    "Eczema": patches.eczema,
    "Erythema Multiforme": erythema_multiforme,
    "Folliculitis": folliculitis,
    "Granuloma Annulare": granuloma_annulare,
    "Keloid": patches.keloid,
    "Lichen Planus": lichen_planus,
    "Lupus Erythematosus": patches.lupus_erythematosus,
    "Melanoma": patches.melanoma,
    "Mycosis Fungoides": patches.mycosis_fungoides,
    "Pityriasis Rosea": pityriasis_rosea,
    "Prurigo Nodularis": prurigo_nodularis,
    "Psoriasis": patches.psoriasis,
    "Sarcoidosis": patches.sarcoidosis,
    "Scabies": scabies,
    "Squamous Cell Carcinoma": patches.squamous_cell_carcinoma,
    "Vitiligo": patches.vitiligo,
}
