"""Everything that the critic can see before training: prompts, checklists, references, probe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files, embed_texts
from cas_metric.encoders import Encoder
from cas_metric.errors import InputError, PreflightError
from cas_metric.scoring.probe import Probe, fit
from craft_trainer.data.dataset import Examples
from craft_trainer.rewards.clinical_alignment import Targets, active


def prepare_targets(
    examples: Examples,
    critic: Encoder,
    cache: EmbeddingCache,
    weights: Mapping[str, float],
    probe_path: Path | None = None,
) -> tuple[Targets, Probe | None]:
    """Embed prompts, checklists and reference images once, and load or fit the probe.

    The probe is fitted on the reference images themselves, the real training split (§A.2).

    Args:
        examples: Training images.
        critic: Frozen encoder of the rewards.
        cache: Embeddings that are already known are not computed again.
        weights: Rewards with a weight of 0 need nothing.
        probe_path: A saved probe in the critic's space.

    Returns:
        Targets with one row an example on the critic's device, and the probe where ``dd`` counts.

    Raises:
        PreflightError: Texts or images that a reward with a weight needs are missing; all listed.

    Examples:
        >>> from craft_trainer.data.dataset import read_examples
        >>> from cas_metric.embedding.cache import EmbeddingCache
        >>> from cas_metric.encoders import load_encoder
        >>> critic, examples = load_encoder("phantom-medsiglip"), read_examples(train, None)
        >>> with EmbeddingCache("none") as cache:
        ...     targets, probe = prepare_targets(examples, critic, cache, {"vdc": 1.0})
        >>> targets.prompt.shape[0] == len(examples.paths), probe
        (True, None)
    """
    wanted = active(weights)
    checklists = [examples.checklist(label) for label in examples.labels]
    problems = []
    if "vdc" in wanted:
        problems += [
            f"{path.name}: has no prompt, which vdc needs"
            for path, prompt in zip(examples.paths, examples.prompts, strict=True)
            if not prompt
        ]
    if "ccs" in wanted:
        lacking = sorted(
            {x for x, text in zip(examples.labels, checklists, strict=True) if not text}
        )
        problems += [f"class {label!r} has no checklist, which ccs needs" for label in lacking]
    if problems:
        raise PreflightError(problems, fix="complete them, or set the weight of the reward to 0")
    reference = _references(examples, critic, cache)
    probe = None
    if "dd" in wanted:
        probe = _probe(examples, critic, reference, probe_path)
    labels = [
        _class_index(label, probe.classes if probe else examples.classes)
        for label in examples.labels
    ]
    device = critic.device
    targets = Targets(
        prompt=_texts(examples.prompts, critic, cache).to(device),
        checklist=_texts(checklists, critic, cache).to(device),
        reference=reference.to(device),
        label=torch.tensor(labels, device=device),
    )
    return targets, probe


def _texts(texts: list[str] | tuple[str, ...], critic: Encoder, cache: EmbeddingCache) -> Tensor:
    """``(N, D)``; zeros for empty texts, which no reward with a weight asks for."""
    known = sorted(set(texts) - {""})
    if not known:
        return torch.zeros(len(texts), critic.dim)
    embedded = torch.from_numpy(embed_texts(known, critic, cache).embeddings)
    row = {text: index for index, text in enumerate(known)}
    table = torch.cat([embedded, torch.zeros(1, critic.dim)])
    return table[[row.get(text, len(known)) for text in texts]]


def _references(examples: Examples, critic: Encoder, cache: EmbeddingCache) -> Tensor:
    found = embed_image_files(examples.paths, critic, cache)
    if found.errors:
        problems = [f"{path.name}: {reason}" for path, reason in found.errors.items()]
        raise PreflightError(problems, fix="replace or remove these images")
    return torch.from_numpy(found.embeddings)


def _probe(examples: Examples, critic: Encoder, reference: Tensor, path: Path | None) -> Probe:
    if path is not None:
        return Probe.load(path, critic)
    labels = np.array([examples.classes.index(label) for label in examples.labels])
    return fit(reference, labels, examples.classes, fingerprint=critic.fingerprint)


def _class_index(label: str, classes: tuple[str, ...]) -> int:
    if label not in classes:
        raise InputError(
            f"the probe does not know the class {label!r}",
            fix=f"its classes are {', '.join(classes)}: fit one on these images",
        )
    return classes.index(label)
