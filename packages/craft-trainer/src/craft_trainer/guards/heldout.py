"""Held-out evaluation: CAS of fixed prompts, by an encoder that gives no reward.

The scores are those of ``cas score``: the same primitives, the official preprocessing of 8-bit
images, a probe of the evaluator's own on the training split. Prompts and noise are the same at
every look, so that two looks differ by the weights alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cas_metric import primitives
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.errors import InputError, PreflightError
from cas_metric.protocol import PRIMITIVES
from cas_metric.scoring.per_image import DECIMALS
from cas_metric.scoring.probe import Probe, fit
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.schema import Config
from craft_trainer.data.dataset import Examples, read_examples
from craft_trainer.data.rows import domain_of
from craft_trainer.guards.memorization import TrainingImages, training_images
from craft_trainer.guards.reward_hacking import Look
from craft_trainer.guards.samples import (
    as_pixels,
    diversity,
    embed_arrays,
    load_squares,
    sample_statistics,
    unreadable,
)
from craft_trainer.inference import noise_seed, sample_images
from craft_trainer.rewards.clinical_alignment import Targets
from craft_trainer.rewards.targets import prepare_targets
from craft_trainer.runtime import Progress


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The evaluator with everything that does not change from look to look.

    Attributes:
        examples: Held-out prompts with their real partners.
        evaluator: The encoder; never a critic.
        probe: In its space.
        targets: What each sample is judged against.
        training: What samples must not be copies of.
        real: The real partners, looked at like samples; their SFS is 1 by construction.
        cells: Cells a side of the VAE's, and of each critic's, grid.
        config: Of the run.
    """

    examples: Examples
    evaluator: Encoder
    probe: Probe
    targets: Targets
    training: TrainingImages
    real: Look
    cells: tuple[int, ...]
    config: Config

    def look(
        self, model: DiffusionModel, texts: Sequence[str], step: int, reward: float | None
    ) -> tuple[Look, Tensor]:
        """Sample every held-out prompt and score it.

        Args:
            model: As it is after ``step`` steps.
            texts: Conditioning text of every held-out prompt.
            step: Optimizer steps taken.
            reward: Mean reward of the training steps since the look before.

        Returns:
            The look, and the ``(N, 3, S, S)`` samples in [0, 1] on the CPU.
        """
        validation = self.config.validation
        seeds = [noise_seed(validation.seed, row) for row in range(len(texts))]
        parts = []
        # Each batch reads its texts and sends their encoders away before it samples.
        for start in range(0, len(texts), validation.batch_size):
            some = slice(start, start + validation.batch_size)
            parts.append(
                sample_images(
                    model,
                    texts[some],
                    seeds[some],
                    self.config.sampling,
                    self.config.data.resolution,
                )
            )
        images = torch.cat(parts)
        pixels = as_pixels(images)
        embeddings = embed_arrays(pixels, self.evaluator)
        statistics = {
            **sample_statistics(pixels, self.cells),
            "diversity": diversity(embeddings, self.targets.label),
            "copies": self.training.copies(pixels),
        }
        scores = score(embeddings, self.targets, self.probe)
        return Look(step, scores, statistics, reward), images


def prepare(
    config: Config,
    train: Examples,
    critics: Sequence[Encoder],
    cache: EmbeddingCache,
    *,
    latent_cells: int,
    device: torch.device,
    progress: Progress,
) -> HeldOut:
    """Load the evaluator, embed the real images, fit its probe, look at the real partners.

    Args:
        config: With ``validation.encoder`` and ``validation.manifest``.
        train: The training images.
        critics: The encoders that give the rewards of this stage.
        cache: Embeddings that are already known are not computed again.
        latent_cells: Side of a latent.
        device: Where the evaluator goes.
        progress: Told what is being done.

    Raises:
        InputError: The evaluator has a critic's weights, or held-out images are training images.
        PreflightError: Held-out rows lack a label, a prompt or a checklist; all are listed.
    """
    validation = config.validation
    assert validation.encoder is not None
    assert validation.manifest is not None
    examples = held_out_examples(config, train)
    evaluator = load_encoder(validation.encoder, device=str(device), offline=config.offline)
    for critic in critics:
        refuse_same_weights(evaluator, critic)
    embedded = embed_image_files(
        train.paths,
        evaluator,
        cache,
        windows=train.windows,
        progress=lambda done, total: progress("held-out evaluator: training images", done, total),
    )
    partners = embed_image_files(examples.paths, evaluator, cache, windows=examples.windows)
    _refuse_overlap(embedded.digests, partners.digests, validation.manifest)
    if embedded.errors:
        raise unreadable(embedded.errors)
    if validation.probe is not None:
        probe = Probe.load(validation.probe, evaluator)
    else:
        labels = [train.classes.index(label) for label in train.labels]
        probe = fit(embedded.embeddings, labels, train.classes, fingerprint=evaluator.fingerprint)
    targets = targets_of(examples, evaluator, cache, probe)
    squares = as_pixels(load_squares(examples, config.data.resolution))
    training = training_images(config, train, examples, cache, device, progress)
    reference = torch.from_numpy(partners.embeddings).to(evaluator.device)
    grids = (latent_cells, *itertools.chain.from_iterable(map(patches_of, critics)))
    cells = tuple(dict.fromkeys(grids))  # critics may share one
    real = Look(
        step=0,
        scores=score(reference, targets, probe),
        statistics={
            **sample_statistics(squares, cells),
            "diversity": diversity(reference, targets.label),
            "copies": training.copies(squares, real=True),
        },
    )
    return HeldOut(examples, evaluator, probe, targets, training, real, cells, config)


def held_out_examples(config: Config, train: Examples) -> Examples:
    """The rows of ``validation.manifest`` that are looked at, spread over the classes.

    Raises:
        PreflightError: As of :func:`~craft_trainer.data.dataset.read_examples`.
    """
    validation = config.validation
    assert validation.manifest is not None
    every = read_examples(validation.manifest, domain_of(train.manifest, config.data.domain))
    return take(every, spread(every.labels, validation.prompts))


def spread(labels: Sequence[str], count: int) -> list[int]:
    """``count`` rows, one of each class in turn, in the order given; all where there are fewer."""
    by_class: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        by_class.setdefault(label, []).append(row)
    turns = itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [row for turn in turns for row in turn if row is not None][:count]


def take(examples: Examples, rows: Sequence[int]) -> Examples:
    """Some rows of a manifest, in the order given."""
    return dataclasses.replace(
        examples,
        paths=tuple(examples.paths[row] for row in rows),
        labels=tuple(examples.labels[row] for row in rows),
        prompts=tuple(examples.prompts[row] for row in rows),
        manifest=examples.manifest.take(list(rows)),
    )


def targets_of(
    examples: Examples, evaluator: Encoder, cache: EmbeddingCache, probe: Probe
) -> Targets:
    """Prompt, checklist and real partner of each held-out prompt, and its class in the probe."""
    texts_and_partners = {name: 1.0 for name in PRIMITIVES if name != "dd"}
    targets, _ = prepare_targets(examples, evaluator, cache, texts_and_partners)
    unknown = sorted(set(examples.labels) - set(probe.classes))
    if unknown:
        raise PreflightError(
            [f"class {label!r} is not among the training images" for label in unknown],
            fix="take held-out images of the same classes",
        )
    labels = [probe.classes.index(label) for label in examples.labels]
    return dataclasses.replace(targets, label=torch.tensor(labels)).to(evaluator.device)


@torch.no_grad()
def score(embeddings: Tensor, targets: Targets, probe: Probe) -> dict[str, tuple[float, ...]]:
    """The primitives and CAS of ``(N, D)`` embeddings, to the decimals of ``cas score``."""
    logits = probe.logits(embeddings)
    scores = {
        "vdc": primitives.vdc(embeddings, targets.prompt),
        "ccs": primitives.ccs(embeddings, targets.checklist),
        "dd": primitives.dd(logits, targets.label),
        "sfs": primitives.sfs(embeddings, targets.reference),
    }
    scores["cas"] = primitives.clinical_alignment(**scores)
    scores["dd_prob"] = primitives.dd_probability(logits, targets.label)
    return {
        name: tuple(np.round(value.double().cpu().numpy(), DECIMALS).tolist())
        for name, value in scores.items()
    }


def patches_of(encoder: Encoder) -> tuple[int, ...]:
    """Patches a side of a vision transformer; empty where the encoder does not say."""
    config: Any = getattr(getattr(encoder, "model", None), "config", None)
    patch = getattr(getattr(config, "vision_config", config), "patch_size", None)
    return (encoder.image_size // patch,) if patch else ()


def refuse_same_weights(evaluator: Encoder, critic: Encoder) -> None:
    """Refuse an evaluator that is the critic, under whatever name or text policy.

    Raises:
        InputError: Their weights are equal.
    """
    ours, theirs = _weights(evaluator), _weights(critic)
    if ours.keys() == theirs.keys() and all(
        ours[name].shape == theirs[name].shape
        and torch.equal(ours[name].float().cpu(), theirs[name].float().cpu())
        for name in ours
    ):
        raise InputError(
            f"the held-out evaluator {evaluator.name} has the very weights of the critic "
            f"{critic.name}: it would praise whatever was trained for it",
            fix="name another checkpoint in validation.encoder, e.g. siglip beside medsiglip",
        )


def _weights(encoder: Any) -> dict[str, Tensor]:
    return dict(encoder.model.state_dict())


def _refuse_overlap(train: Sequence[str], held_out: Sequence[str], manifest: Any) -> None:
    shared = len(set(held_out) & set(train) - {""})
    if shared:
        raise InputError(
            f"{shared} of the {len(held_out)} held-out images of {manifest} are training images",
            fix="hold out images that the model does not see, e.g. the test split",
        )
