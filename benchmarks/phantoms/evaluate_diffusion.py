"""Measure phantom-sd and write its model card.

``python -m benchmarks.phantoms.evaluate_diffusion [--base phantom-sd] [--sheet FILE] [--write]``

1. Samples drawn zero-shot from the prompts of unseen phantoms, the classes of a domain in turn:
   phantom-siglip and a probe in its space name their class, phantom-siglip their modality. A model
   that knows no diagnosis is right about the class as often as a guess, ``1 / classes``.
2. The autoencoder: does phantom-siglip name the class of a reconstruction as often as of the
   original?
3. Fréchet distance on features of phantom-dino between samples and unseen phantoms, drawn from
   captions that name the modality, all that the model was told, without guidance and with it;
   beside it that between two sets of unseen phantoms of the same size.
"""

from __future__ import annotations

import argparse
from itertools import cycle, islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.phantoms.corpus import COUNTS, HELD_OUT_SEED, draw
from benchmarks.phantoms.diffusion_captions import MODALITIES
from benchmarks.phantoms.evaluate import embed
from cas_metric.domains import load_domain
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.images import to_uint8
from cas_metric.scoring.probe import Probe, fit
from cas_metric.sets.fidelity import frechet_distance
from cas_metric.statistics.bimodality import wilson
from cas_metric.statistics.tables import markdown_table
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.loading import load_model
from craft_trainer.config.sections import Sampling
from craft_trainer.inference import sample_images, write_image

#: Unseen phantoms a domain: prompts of samples, a second set, and what the probe is fitted on.
SAMPLES, FITTED = 120, 400
SAMPLING: Final = Sampling(
    steps=20, guidance=3.0, timestep_spacing="trailing", sampler="dpmpp_2m_sde"
)
#: Strengths of guidance at which distances are measured.
STRENGTHS: Final = (1.0, 1.5, 3.0)
_BATCH: Final = 20


class Phantoms(NamedTuple):
    """``images`` ``(N, 64, 64, 3)`` uint8, ``labels`` ``(N,)`` class indices, ``prompts``."""

    images: np.ndarray
    labels: np.ndarray
    prompts: list[str]


def unseen(domain: str, count: int, offset: int) -> Phantoms:
    """``count`` phantoms that no training has seen; another offset gives others."""
    images, labels, prompts = zip(*draw(domain, count, HELD_OUT_SEED + offset, 64), strict=True)
    return Phantoms(np.stack(images), np.array(labels), list(prompts))


def sample(model: DiffusionModel, prompts: list[str], sampling: Sampling = SAMPLING) -> np.ndarray:
    """One picture a prompt, ``(N, 64, 64, 3)`` uint8, by the trainer's own sampler."""
    parts = [
        sample_images(
            model,
            prompts[start : start + _BATCH],
            list(range(start, min(start + _BATCH, len(prompts)))),
            sampling,
            64,
        )
        for start in range(0, len(prompts), _BATCH)
    ]
    return to_uint8(torch.cat(parts).permute(0, 2, 3, 1).numpy())


def rebuild(model: DiffusionModel, images: np.ndarray) -> np.ndarray:
    """Pictures through the autoencoder and back, without noise."""
    parts = []
    for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(_BATCH):
        mean, _ = model.encode_images(part / 255).chunk(2, dim=1)
        with torch.no_grad():
            parts.append(model.decode(mean * model.pipeline.vae.config.scaling_factor))
    return to_uint8(torch.cat(parts).permute(0, 2, 3, 1).numpy())


class Judge:
    """phantom-siglip as a classifier of classes, by checklist and by probe, and of modalities."""

    def __init__(self) -> None:
        self.encoder: Encoder = load_encoder("phantom-siglip", device="cpu")
        self.checklists = {
            domain: self.encoder.embed_texts(
                [load_domain(domain).checklist_text(label) for label in classes(domain)]
            ).embeddings
            for domain in COUNTS
        }
        self.probes: dict[str, Probe] = {}
        for domain in COUNTS:
            known = unseen(domain, FITTED, offset=2)
            features = embed(self.encoder, list(known.images))
            self.probes[domain] = fit(
                features, known.labels, classes(domain), fingerprint=self.encoder.fingerprint
            )

    def features(self, images: np.ndarray) -> Tensor:
        """``(N, D)``."""
        return embed(self.encoder, list(images))

    def by_checklist(self, domain: str, features: Tensor) -> np.ndarray:
        """``(N,)`` class indices."""
        return (features @ self.checklists[domain].T).argmax(dim=1).numpy()

    def by_probe(self, domain: str, features: Tensor) -> np.ndarray:
        """``(N,)`` class indices."""
        return self.probes[domain].logits(features).argmax(dim=1).numpy()

    def modality(self, features: Tensor) -> np.ndarray:
        """``(N,)`` names of the domain whose best checklist is nearest."""
        best = [(features @ texts.T).amax(dim=1) for texts in self.checklists.values()]
        return np.array(list(COUNTS))[torch.stack(best).argmax(dim=0).numpy()]


def classes(domain: str) -> tuple[str, ...]:
    """Class names in the order of their indices in the corpus."""
    from cas_metric.phantoms import renderer

    return renderer(domain).classes


def share(right: np.ndarray) -> str:
    """A share of hits with its 95% Wilson interval."""
    low, high = wilson(int(right.sum()), len(right))
    return f"{right.mean():.3f} [{low:.3f}, {high:.3f}]"


def distances(
    real: tuple[np.ndarray, np.ndarray], drawn: tuple[np.ndarray, ...], encoder: Encoder
) -> list[str]:
    """Fréchet distance of two real sets, and of each drawn one to the first, with the ratio."""
    first, second = (embed(encoder, list(one)).numpy() for one in real)
    near = frechet_distance(second, first)
    far = [frechet_distance(embed(encoder, list(one)).numpy(), first) for one in drawn]
    return [f"{near:.4f}", *(f"{value:.4f} ({value / near:.1f})" for value in far)]


def measure(model: DiffusionModel, sheet: Path | None) -> str:
    """The three tables."""
    judge, dino = Judge(), load_encoder("phantom-dino", device="cpu")
    zero_shot, rebuilt_rows, distance_rows, rows_of_sheet = [], [], [], []
    for domain in COUNTS:
        first, second = unseen(domain, SAMPLES, offset=0), unseen(domain, SAMPLES, offset=1)
        told = list(islice(cycle(MODALITIES[domain]), SAMPLES))
        at = [SAMPLING.model_copy(update={"guidance": strength}) for strength in STRENGTHS]
        sets = tuple(sample(model, told, one) for one in at)
        features = judge.features(sample(model, first.prompts))
        zero_shot.append(
            (
                domain,
                f"{1 / len(classes(domain)):.3f}",
                share(judge.by_checklist(domain, features) == first.labels),
                share(judge.by_probe(domain, features) == first.labels),
                share(judge.modality(features) == domain),
            )
        )
        again = rebuild(model, first.images)
        original, copy = judge.features(first.images), judge.features(again)
        error = np.abs(again.astype(float) - first.images).mean()
        rebuilt_rows.append(
            (
                domain,
                share(judge.by_checklist(domain, original) == first.labels),
                share(judge.by_checklist(domain, copy) == first.labels),
                f"{error:.1f}",
                f"{(original * copy).sum(dim=1).mean():.3f}",
            )
        )
        real = (first.images, second.images)
        distance_rows.append((domain, *distances(real, sets, dino)))
        rows_of_sheet += [first.images[:12], again[:12], *(drawn[:12] for drawn in sets)]
        print(zero_shot[-1], rebuilt_rows[-1], distance_rows[-1], flush=True)
    if sheet is not None:
        page = np.concatenate([np.concatenate(list(row), axis=1) for row in rows_of_sheet], axis=0)
        write_image(torch.from_numpy(page).permute(2, 0, 1) / 255, sheet)
    return "\n".join(
        [
            f"Class of {SAMPLES} zero-shot samples a domain, from prompts that name it:",
            "",
            markdown_table(
                ("domain", "chance", "class by checklist", "class by probe", "modality"), zero_shot
            ),
            "",
            "Reconstructions by the autoencoder (class by checklist; error in grey levels of 255):",
            "",
            markdown_table(
                ("domain", "originals", "reconstructions", "mean error", "cosine"), rebuilt_rows
            ),
            "",
            "Fréchet distance to unseen phantoms on phantom-dino features, in brackets over that",
            "between two unseen sets; captions name the modality, guidance 1 is none:",
            "",
            markdown_table(
                ("domain", "real", *(f"guidance {strength:g}" for strength in STRENGTHS)),
                distance_rows,
            ),
        ]
    )


def card(tables: str) -> str:
    """The model card."""
    return "\n".join(
        [
            "---",
            "license: apache-2.0",
            "library_name: diffusers",
            "---",
            "# phantom-sd",
            "",
            "A tiny Stable Diffusion pipeline of drawn phantoms, 64×64 pixels, shipped with",
            "craft-trainer so that training works without a download. It has never seen a medical",
            "image and says nothing about one.",
            "",
            "Its captions named the modality alone: it knows what the four modalities look like",
            "and no diagnosis. Its text encoder has read the prompts of all domains, without",
            "pictures. Trained from a seed by `python -m benchmarks.phantoms.diffusion_text`,",
            "`diffusion_vae` and `diffusion_unet`. Velocity prediction, as Stable Diffusion 2.1.",
            "",
            "Measured by `python -m benchmarks.phantoms.evaluate_diffusion`, with "
            f"{SAMPLING.steps} steps of {SAMPLING.sampler}, guidance {SAMPLING.guidance:g}, "
            f"{SAMPLING.timestep_spacing} timesteps, on phantoms of unseen seeds; intervals 95%.",
            "",
            tables,
            "",
        ]
    )


def main() -> None:
    """Print the card, and with ``--write`` put it beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="phantom-sd")
    parser.add_argument("--sheet", type=Path, help="PNG: real, rebuilt, and samples by guidance")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = card(measure(load_model(options.base, device=torch.device("cpu")), options.sheet))
    print(text)
    if options.write:
        from craft_trainer.bases.weights import EMBEDDED

        (EMBEDDED["phantom-sd"] / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
