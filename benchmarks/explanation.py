"""Does an explanation name what is missing, and point at what is there? On phantoms it is known.

``python -m benchmarks.explanation`` prints, by domain and encoder:

* *attribute*: how often the one attribute that was taken out of a drawing is ranked first, among
  all of the checklist; and the share of drawings without any sign for which an attribute that the
  sign carries is first;
* *pointing game* (Zhang et al. 2018): how often the highest point of the map of the class lies on
  the finding, give or take half a patch. The finding's place is what changes in the drawing when it
  is removed, each connected part with what it encloses.

``--random 5`` replaces the weights by random ones of the same spread, five times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label
from skimage.morphology import convex_hull_image
from torch.nn import functional as F

from cas_metric.domains import load_domain
from cas_metric.encoders import load_encoder
from cas_metric.explanation.attributes import (
    attribute_texts,
    attributes_of,
    beyond_the_others,
    deviations,
)
from cas_metric.explanation.maps import along, mean_tokens, occlusion_map, token_map
from cas_metric.phantoms import renderer
from cas_metric.phantoms.base import FindingSpec
from cas_metric.verbs.explain import OTHERS

DOMAINS = ("phantom-chexpert", "phantom-fitzpatrick17k", "phantom-origa")
ENCODERS = ("phantom-siglip", "phantom-metaclip", "phantom-medsiglip")
HEALTHY = ("No Finding", "Normal")
#: The least change of a grey value that counts, and as a share of the largest one.
_CHANGE, _SHARE = 24, 0.35
_TOLERANCE = 4

Edit = Callable[[FindingSpec], FindingSpec]


class Plant(NamedTuple):
    """One attribute taken out: of which class, which, and how."""

    label: str
    attribute: str
    edit: Edit


def plants(domain: str, artist: Any) -> list[Plant]:
    """The edits whose attribute the checklist names and the renderer can take out alone."""
    rng = np.random.default_rng(0)
    if domain == "phantom-chexpert":
        return [
            Plant("Cardiomegaly", "Shape/Size", artist.remove_finding),
            Plant("Cardiomegaly", "Location", lambda s: s.with_finding(dextrocardia=True)),
            Plant("Pleural Effusion", "Location", lambda s: s.with_finding(apical=True)),
        ]
    if domain == "phantom-origa":
        healthy = {"haemorrhage": "none", "nerve_fibre_defect": "none", "atrophy": 0.0}
        return [
            Plant("Glaucoma", "Optic Disc", lambda s: s.with_finding(vcdr=0.35, hcdr=0.35)),
            Plant("Glaucoma", "Vessels", lambda s: s.with_finding(vessels="regular")),
            Plant("Glaucoma", "Peripapillary Region", lambda s: s.with_finding(**healthy)),
        ]
    other = {"Lichen Planus": "pink", "Sarcoidosis": "pink", "Erythema Multiforme": "brown"}
    recoloured = [
        Plant(name, "Color", lambda s, colour=colour: s.with_finding(colour=colour))
        for name, colour in other.items()
    ]
    lupus = "Lupus Erythematosus"
    return [*recoloured, Plant(lupus, "Location", lambda s: artist.misplace_finding(s, rng))]


def with_every_sign(spec: FindingSpec) -> FindingSpec:
    """A glaucoma that has all that its checklist names; other drawings as they are."""
    if spec.label != "Glaucoma":
        return spec
    vessels = ("bayoneting", "nasalised")[spec.seed % 2]
    signs = dict.fromkeys(("notch", "haemorrhage", "nerve_fibre_defect"), "inferior")
    return spec.with_finding(vessels=vessels, atrophy=0.35, **signs)


class Space:
    """An encoder with the attributes of a domain."""

    def __init__(self, domain: str, encoder: str, random: int | None) -> None:
        self.artist, self.domain = renderer(domain), load_domain(domain)
        self.encoder = load_encoder(encoder)
        if random is not None:
            generator = torch.Generator().manual_seed(random)
            with torch.no_grad():
                for weights in self.encoder.model.parameters():
                    if weights.dim() > 1:
                        spread = float(weights.std())
                        weights.copy_(torch.randn(weights.shape, generator=generator) * spread)
        texts = attribute_texts(self.domain)
        whole = [self.domain.checklist_text(name) for name in self.domain.class_names]
        vectors = self.encoder.embed_texts([*texts, *whole]).embeddings.numpy()
        self.vectors: Mapping[str, np.ndarray] = dict(zip(texts, vectors, strict=False))
        self.checklists = vectors[len(texts) :]

    def inputs(self, specs: list[FindingSpec]) -> torch.Tensor:
        """Model input of some drawings."""
        return self.encoder.official_preprocess([self.artist.render(spec) for spec in specs])

    def embed(self, specs: list[FindingSpec]) -> np.ndarray:
        """Embeddings of some drawings."""
        with torch.no_grad():
            return self.encoder.embed_pixels(self.inputs(specs)).numpy()

    def places(self, name: str, specs: list[FindingSpec], real: np.ndarray) -> np.ndarray:
        """``(N, K)`` attributes of a class by what ``cas explain`` orders them by."""
        asked = attributes_of(self.domain, name, self.vectors)
        own, known = asked.contrasts(self.embed(specs)), asked.contrasts(real)
        return beyond_the_others(deviations(own, known), deviations(known, known))


def attribute_rates(space: Space, count: int, seed: int) -> list[str]:
    """How often the attribute that was taken out is first."""
    lines = []
    for plant in plants(space.domain.name, space.artist):
        rng = np.random.default_rng([seed, 1])
        real = space.embed([space.artist.sample(plant.label, rng) for _ in range(2 * count)])
        drawn = [with_every_sign(space.artist.sample(plant.label, rng)) for _ in range(count)]
        names = attributes_of(space.domain, plant.label, space.vectors).names
        place = names.index(plant.attribute)
        found = space.places(plant.label, [plant.edit(spec) for spec in drawn], real)
        whole = space.places(plant.label, drawn, real)
        first = (found.argmin(axis=1) == place).mean()
        fallen = ((found - whole).argmin(axis=1) == place).mean()
        lines.append(
            f"  {plant.label} without {plant.attribute}: first {first:.2f} "
            f"(of the change {fallen:.2f}, chance {1 / len(names):.2f})"
        )
    return lines


def finding_mask(artist: Any, spec: FindingSpec) -> np.ndarray:
    """``(H, W)`` bool: where the finding is."""
    there, gone = (artist.render(s).astype(float) for s in (spec, artist.remove_finding(spec)))
    change = np.abs(there - gone).max(axis=-1)
    parts, number = label(change > max(_CHANGE, _SHARE * change.max()), np.ones((3, 3)))
    mask = np.zeros(change.shape, dtype=bool)
    for k in range(1, number + 1):
        if (parts == k).sum() >= _TOLERANCE:
            mask |= convex_hull_image(parts == k)
    return mask


def pointing(space: Space, count: int, seed: int) -> str:
    """Hits of the map by tokens and by occlusion, and of a random point."""
    rng = np.random.default_rng([seed, 2])
    names = [name for name in space.domain.class_names if name not in HEALTHY]
    hits: dict[str, list[bool]] = {"tokens": [], "out of focus": [], "occlusion": []}
    fresh = np.random.default_rng([seed, 3])
    usual = {
        name: mean_tokens(
            space.encoder, space.inputs([space.artist.sample(name, fresh) for _ in range(OTHERS)])
        )
        for name in space.domain.class_names
    }
    chance = []
    for number in range(count):
        name = names[number % len(names)]
        spec = space.artist.sample(name, rng)
        near = distance_transform_edt(~finding_mask(space.artist, spec)) <= _TOLERANCE
        own = space.domain.class_names.index(name)
        others = np.delete(space.checklists, own, axis=0).mean(axis=0)
        score, inputs = along(space.checklists[own] - others), space.inputs([spec])
        start = torch.cat([mean for key, mean in usual.items() if key != name]).mean(0, True)
        maps = {
            "tokens": token_map(space.encoder, inputs, score, start),
            "out of focus": token_map(space.encoder, inputs, score),
            "occlusion": occlusion_map(space.encoder, inputs, score),
        }
        for kind, found in maps.items():
            size = near.shape[0]
            wide = F.interpolate(
                torch.from_numpy(found)[None, None], size=(size, size), mode="bilinear"
            )[0, 0].numpy()
            hits[kind].append(bool(near[np.unravel_index(wide.argmax(), wide.shape)]))
        chance.append(near.mean())
    told = ", ".join(f"{kind} {np.mean(found):.2f}" for kind, found in hits.items())
    return f"  pointing game: {told} (chance {np.mean(chance):.2f})"


def main() -> None:
    """Print both tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", nargs="+", default=DOMAINS)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11, help="11: chosen on; 12, 13: confirmed on")
    parser.add_argument("--attributes", action="store_true", help="without the pointing game")
    parser.add_argument("--random", type=int, default=0, help="draws of random weights instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = range(options.random) if options.random else (None,)
    for domain, encoder, draw in product(options.domains, options.encoders, weights):
        space = Space(domain, encoder, draw)
        print(f"{domain} {encoder}{'' if draw is None else f' (random weights {draw})'}")
        for line in attribute_rates(space, options.count, options.seed):
            print(line)
        if not options.attributes:
            print(pointing(space, options.count, options.seed), flush=True)


if __name__ == "__main__":
    main()
