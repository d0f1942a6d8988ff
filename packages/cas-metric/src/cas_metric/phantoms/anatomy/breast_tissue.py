"""Architecture of the eight breast lesions: specification in, dye concentrations out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cas_metric.phantoms import draw
from cas_metric.phantoms.anatomy.breast_slide import (
    Tissue,
    normal_tissue,
    nuclei,
    palisade,
    photomicrograph,
    stroma,
)
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.draw import Array, Grid
from cas_metric.phantoms.fields import Mosaic, around, mosaic, scatter, segments, spots


@dataclass(frozen=True)
class Field:
    """What an architecture is drawn with.

    Attributes:
        g: Coordinates, turned and magnified.
        pose: The same as keywords of ``draw.place``.
        finding: The finding as specified.
        rng: Random numbers of the lesion.
    """

    g: Grid
    pose: Mapping[str, Any]
    finding: Mapping[str, Any]
    rng: np.random.Generator

    @property
    def extent(self) -> float:
        """Characteristic length of the architecture in scene units."""
        return float(self.finding["extent"])

    @property
    def count(self) -> int:
        """How many lobules, ducts, fronds, islands."""
        return int(self.finding["count"])

    @property
    def chromatin(self) -> float:
        """Haematoxylin in the nuclei of the lesion."""
        return 1.25 * float(self.finding["chromatin"])


def draw_section(spec: FindingSpec, size: int) -> Array:
    """Colours of ``spec``: ``(size, size, 3)`` float32, nominally in [0, 1].

    Lesion, normal tissue and slide draw from separate streams, so that a change of the finding
    leaves the rest as it was. An empty finding is normal tissue.
    """
    finding, nuisance = spec.finding, spec.nuisance
    lesion, normal, slide = (np.random.default_rng([spec.seed, k]) for k in range(3))
    frame = draw.grid(size)
    pose: dict[str, Any] = {"angle": nuisance["angle"], "scale": nuisance["magnification"]}
    if not finding:
        return photomicrograph(normal_tissue(normal, frame.posed(**pose)), frame, nuisance, slide)
    g = frame.posed(**pose, shift=tuple(finding["place"]))
    tissue = _ARCHITECTURES[spec.label](
        Field(g, {**pose, "shift": tuple(finding["place"])}, finding, lesion)
    )
    if finding["reach"] < _WHOLE_FRAME:
        quiet = normal_tissue(normal, frame.posed(**pose))
        ragged = 0.06 * draw.smooth_noise(normal, size, 6)
        edge = draw.ellipse(g, (0.0, 0.0), (finding["reach"], finding["reach"])) + ragged
        tissue.lay(draw.fill(-edge, 0.08, g.pixel), quiet.haematoxylin, quiet.eosin)
    return photomicrograph(tissue, frame, nuisance, slide)


#: ``reach`` of a lesion that fills the frame.
_WHOLE_FRAME: Final = 2.0


def _middles(g: Grid, cells: Mosaic) -> Grid:
    """The centre of its cell at every pixel, so that a cell is drawn whole or not at all."""
    return Grid(g.x - cells.dx, g.y - cells.dy, g.pixel)


def adenosis(f: Field) -> Tissue:
    """Lobules crowded with small round acini, in fibrous stroma."""
    tissue = stroma(f.rng, f.g, density=0.28, angle=f.rng.uniform(0, np.pi))
    centres = around(f.rng, f.count, 0.58)
    radii = 0.80 / np.sqrt(f.count + 0.6) * f.rng.uniform(0.94, 1.08, f.count)
    n = max(4, round(2 / (2.25 * f.extent)))
    acini = mosaic(f.rng, f.g, n, jitter=0.45)
    lobules = spots(_middles(f.g, acini), centres, radii)
    member = lobules.outline < 0
    size = f.extent * f.rng.uniform(0.88, 1.12, n * n).astype(np.float32)[acini.which]
    depth = np.minimum(size - acini.distance, acini.wall - 0.008)
    gland = draw.fill(-depth, 0.02, f.g.pixel) * member
    tissue.lay(gland, 0.42, 0.40)
    row = palisade(f.rng, acini, depth, f.g.pixel, at=0.022, radius=0.023, around=9)
    tissue.stain(row * gland, f.chromatin)
    share = 0.42 if f.finding["variant"] == "open" else 0.22
    lumen = draw.fill(acini.distance - share * size, 0.02, f.g.pixel) * gland
    tissue.lay(lumen, 0.0, 0.05)
    return tissue


def tubular_adenoma(f: Field) -> Tissue:
    """Closely packed round or oval tubules with open lumina and hardly any stroma."""
    tissue = stroma(f.rng, f.g, density=0.25)
    oval = f.finding["variant"] == "oval"
    g = f.g.posed(aspect=1.45) if oval else f.g
    n = max(3, round(2 / (2.05 * f.extent)))
    tubules = mosaic(f.rng, g, n, jitter=0.42)
    size = f.extent * f.rng.uniform(0.92, 1.12, n * n).astype(np.float32)[tubules.which]
    depth = np.minimum(size - tubules.distance, 1.2 * tubules.wall - 0.012)
    gland = draw.fill(-depth, 0.02, g.pixel)
    tissue.lay(gland, 0.36, 0.42)
    around = max(9, round(2 * np.pi * f.extent / 0.062))
    row = palisade(f.rng, tubules, depth, g.pixel, at=0.034, radius=0.026, around=around)
    tissue.stain(row * gland, f.chromatin)
    lumen = draw.fill(0.078 + 0.05 * f.extent - depth, 0.025, g.pixel)
    tissue.lay(lumen, 0.0, 0.03)
    return tissue


def fibroadenoma(f: Field) -> Tissue:
    """Slit-like compressed ducts in pale, even collagen."""
    heading = f.rng.uniform(0, np.pi)
    tissue = stroma(f.rng, f.g, density=0.22, pale=0.72, angle=heading)
    slits = []
    for centre in scatter(f.rng, f.count, 0.72):
        turn = heading + f.rng.normal(0, 0.5)
        half = f.extent * f.rng.uniform(0.8, 1.1)
        bow = f.rng.uniform(0.25, 0.6) * f.rng.choice([-1, 1]) * half
        bent = draw.curve([(-half, -bow / 2), (0.0, 1.2 * bow), (half, -bow / 2)], 9)
        slits.append(draw.place(bent, angle=turn, shift=(centre[0], centre[1])))
        if f.finding["variant"] == "branching":
            side = np.array([(0.0, 0.35 * bow), (0.35 * half, 0.35 * bow + 0.7 * half)])
            slits.append(draw.place(side, angle=turn, shift=(centre[0], centre[1])))
    paths = [draw.place(slit, **f.pose) for slit in slits]
    width = f.pose["scale"]
    lining = draw.strokes(f.g.size, [(path, 0.165 * width) for path in paths])
    lumen = draw.strokes(f.g.size, [(path, 0.045 * width) for path in paths])
    tissue.lay(lining, 0.45, 0.45)
    cells = nuclei(f.rng, f.g, 36, radius=0.027, density=0.95)
    tissue.stain(cells * lining * (1 - lumen), f.chromatin)
    tissue.lay(lumen, 0.0, 0.03)
    return tissue


def phyllodes_tumor(f: Field) -> Tissue:
    """Broad leaf-like fronds of cellular stroma that project into clefts."""
    cellular = 0.85 if f.finding["variant"] == "highly cellular" else 0.6
    tissue = stroma(f.rng, f.g, density=cellular, angle=f.rng.uniform(0, np.pi))
    bend = 0.10 * draw.smooth_noise(f.rng, f.g.size, 3)
    g = Grid(f.g.x + bend, f.g.y - bend, f.g.pixel)
    across = np.linspace(-1.0, 1.0, f.count) + f.rng.uniform(-0.08, 0.08, f.count)
    side = np.where(np.arange(f.count) % 2 == 0, -1.0, 1.0)
    starts = np.stack([across, 0.85 * side], axis=1)
    ends = np.stack([across + f.rng.uniform(-0.15, 0.15, f.count), -0.30 * side], axis=1)
    widths = f.extent * np.stack([np.full(f.count, 0.9), f.rng.uniform(1.25, 1.6, f.count)], axis=1)
    leaves = segments(g, starts, ends, widths).distance
    wall = 0.62 - np.abs(g.y) + 0.10 * np.sin(3 * g.x)
    surface = np.minimum(leaves, wall)
    tissue.lay(draw.fill(-surface, 0.02, g.pixel), 0.0, 0.03)
    lining = draw.fill(np.abs(surface + 0.035) - 0.035, 0.02, g.pixel)
    tissue.lay(lining, 0.55, 0.45)
    cells = nuclei(f.rng, f.g, 36, radius=0.027, density=0.9)
    tissue.stain(cells * lining, f.chromatin)
    return tissue


def ductal_carcinoma(f: Field) -> Tissue:
    """Irregular angulated nests of dark pleomorphic nuclei in desmoplastic stroma."""
    tissue = stroma(f.rng, f.g, density=0.4, pale=1.12, angle=f.rng.uniform(0, np.pi))
    n = max(3, round(2 / (2 * f.extent)))
    jag = 0.05 * draw.smooth_noise(f.rng, f.g.size, 14)
    nests = mosaic(f.rng, f.g, n, jitter=1.0, warp=1.2 * jag)
    present = f.rng.random(n * n) < (0.80 if f.finding["density"] == "crowded" else 0.52)
    septum = 0.24 * f.extent
    depth = nests.wall - septum + jag
    nest = draw.fill(-depth, 0.03, f.g.pixel) * present[nests.which]
    tissue.lay(nest, 0.55, 0.50)
    cells = nuclei(f.rng, f.g, 20, radius=0.046, spread=0.38, density=0.94)
    tissue.stain(cells * nest, 1.22 * f.chromatin)
    if f.finding["variant"] == "small lumina":
        open_ = f.rng.random(n * n) < 0.7
        lumen = draw.fill(nests.distance - 0.22 * f.extent + 0.6 * jag, 0.02, f.g.pixel)
        tissue.lay(lumen * nest * open_[nests.which], 0.0, 0.05)
    return tissue


def lobular_carcinoma(f: Field) -> Tissue:
    """Small dark nuclei in single file, in lines or around a duct, through loose stroma."""
    targetoid = f.finding["variant"] == "targetoid"
    tissue = stroma(f.rng, f.g, density=0.12, pale=0.85)
    bend = draw.smooth_noise(f.rng, f.g.size, 3)
    x, y = f.g.x, f.g.y
    if targetoid:
        cx, cy = f.rng.uniform(-0.3, 0.3, 2)
        across = np.hypot(x - cx, y - cy)
        turn = np.arctan2(y - cy, x - cx)
    else:
        across = y
    across = across + 0.055 * bend
    row = np.round(across / f.extent)
    along = turn * row * f.extent if targetoid else x
    step = 0.086
    shifts = f.rng.random(64, dtype=np.float32)
    rows = row.astype(int) % 64
    place = along / step + shifts[rows]
    cell = np.round(place)
    table = f.rng.random((64, 64), dtype=np.float32)
    draws = table[rows, cell.astype(int) % 64]
    distance = np.hypot((place - cell) * step, across - row * f.extent + 0.025 * (draws - 0.5))
    files = draw.smooth_noise(f.rng, f.g.size, 4) > -0.55
    cells = draw.fill(distance - 0.031, 0.02, f.g.pixel) * files * (draws < 0.92)
    if targetoid:
        duct = across - 0.20
        cells = cells * (row * f.extent > 0.24)
        tissue.lay(draw.fill(duct, 0.03, f.g.pixel), 0.55, 0.45)
        tissue.lay(draw.fill(duct + 0.11, 0.03, f.g.pixel), 0.0, 0.04)
    tissue.stain(cells, 1.1 * f.chromatin)
    return tissue


def mucinous_carcinoma(f: Field) -> Tissue:
    """Islands of tumour cells that float in pale blue lakes of mucin."""
    clouds = draw.fractal_noise(f.rng, f.g.size, 3, 2)
    haze = 0.21 + 0.03 * clouds
    tissue = Tissue(haze, np.full_like(haze, 0.03))
    septa = []
    for turn in f.rng.uniform(0, np.pi, 2):
        offset = f.rng.uniform(0.55, 0.95) * f.rng.choice([-1, 1])
        bow = offset + f.rng.uniform(-0.3, 0.3)
        strand = draw.curve([(-1.5, offset), (0.0, bow), (1.5, offset)], 12)
        septa.append((draw.place(draw.place(strand, angle=turn), **f.pose), 0.06))
    tissue.lay(draw.strokes(f.g.size, septa), 0.10, 0.60)
    strips = f.finding["variant"] == "strips"
    centres = scatter(f.rng, f.count, 0.75, tries=24)
    field = spots(
        f.g,
        centres,
        f.extent * f.rng.uniform(0.75, 1.15, f.count),
        angles=f.rng.uniform(0, np.pi, f.count),
        aspect=3.2 if strips else 1.2,
    )
    ragged = 0.025 * draw.smooth_noise(f.rng, f.g.size, 12)
    island = draw.fill(field.outline + ragged, 0.03, f.g.pixel)
    tissue.lay(island, 0.50, 0.48)
    cells = nuclei(f.rng, f.g, 30, radius=0.030, density=0.92)
    tissue.stain(cells * island, f.chromatin)
    return tissue


def papillary_carcinoma(f: Field) -> Tissue:
    """Slender branching fronds: pink cores lined by crowded dark cells, in open space."""
    starts, ends = _fronds(f.rng, f.count)
    bend = draw.smooth_noise(f.rng, f.g.size, 4)
    g = Grid(f.g.x + 0.05 * bend, f.g.y - 0.05 * bend, f.g.pixel)
    core = 0.07 if f.finding["variant"] == "delicate" else 0.12
    widths = np.tile([core, 0.75 * core], (len(starts), 1))
    fronds = segments(g, starts, ends, widths)
    scallop = 0.020 * draw.smooth_noise(f.rng, f.g.size, 16)
    empty = np.zeros_like(bend)
    tissue = Tissue(empty, empty + np.float32(0.03))
    lined = draw.fill(fronds.distance - f.extent + scallop, 0.02, g.pixel)
    tissue.lay(lined, 0.62, 0.42)
    stalk = draw.fill(fronds.distance, 0.025, g.pixel)
    cells = nuclei(f.rng, f.g, 38, radius=0.028, density=0.97)
    tissue.stain(cells * lined * (1 - stalk), 1.1 * f.chromatin)
    tissue.lay(stalk, 0.05, 0.85)
    return tissue


def _fronds(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Start and end points of two opposite stems with ``count`` branches between them."""
    starts, ends = [], []
    for stem in range(2):
        side = -1.0 if stem == 0 else 1.0
        x = side * 0.45 + rng.uniform(-0.1, 0.1)
        root, top = np.array([x, side * 1.5]), np.array([x + rng.uniform(-0.2, 0.2), -0.55 * side])
        starts.append(root)
        ends.append(top)
        for i in range(count // 2 + (count % 2) * (1 - stem)):
            base = root + (top - root) * (0.35 + 0.6 * i / max(count / 2, 1))
            lean = rng.uniform(0.55, 1.0) * (1 if i % 2 else -1)
            length = rng.uniform(0.45, 0.7)
            tip = base + length * np.array([np.sin(lean), -side * np.cos(lean)])
            middle = base + 0.55 * (tip - base)
            twig = middle + 0.30 * np.array([np.sin(-0.6 * lean), -side * np.cos(-0.6 * lean)])
            starts += [base, middle]
            ends += [tip, twig]
    return np.array(starts), np.array(ends)


_ARCHITECTURES: Final[Mapping[str, Callable[[Field], Tissue]]] = {
    "Adenosis": adenosis,
    "Fibroadenoma": fibroadenoma,
    "Phyllodes Tumor": phyllodes_tumor,
    "Tubular Adenoma": tubular_adenoma,
    "Ductal Carcinoma": ductal_carcinoma,
    "Lobular Carcinoma": lobular_carcinoma,
    "Mucinous Carcinoma": mucinous_carcinoma,
    "Papillary Carcinoma": papillary_carcinoma,
}
