"""Everything that the critic can see before training: prompts, checklists, references, probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files, embed_texts
from cas_metric.encoders import Encoder
from cas_metric.errors import InputError, PreflightError
from cas_metric.scoring.probe import Probe, fit
from craft_trainer.data.dataset import Examples
from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule, Targets, active
from craft_trainer.rewards.safeguards import other_references, real_level

if TYPE_CHECKING:
    from craft_trainer.config.schema import Config
    from craft_trainer.methods.craft_settings import Safeguards


def load_critic(spec: str, config: Config, device: torch.device) -> Any:
    """An encoder that gives rewards, in the precision and with the memory that are configured.

    Args:
        spec: As ``cas encoders`` lists them.
        config: Of the run.
        device: Where it goes.
    """
    from cas_metric.encoders import load_encoder

    critic = load_encoder(
        spec,
        device=str(device),
        dtype=config.critic.dtype or "float32",
        offline=config.offline,
        text_policy=config.critic.text_policy,
        compile=config.compile and device.type != "cpu",
    )
    if config.critic.checkpointing:
        checkpoint_blocks(critic.model)
    return critic


def checkpoint_blocks(model: Any) -> None:
    """Run the blocks of a frozen tower again in the backward pass.

    A model of transformers does so in training alone; a frozen one has neither dropout nor
    statistics that training would change, so that it computes the same.
    """
    if not hasattr(model, "gradient_checkpointing_enable"):
        raise InputError(
            f"critic.checkpointing: {type(model).__name__} cannot run its blocks again",
            fix="take a critic of transformers, or leave it out",
        )
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for part in model.modules():
        if getattr(part, "gradient_checkpointing", False) or _is_block(part):
            part.training = True


def offload_text(critic: Any) -> None:
    """Move the text tower of a critic off the device: every text is embedded by now."""
    text = getattr(critic.model, "text_model", None)
    if isinstance(text, torch.nn.Module):
        text.to("cpu")


def _is_block(part: Any) -> bool:
    """Whether transformers can run it again: it looks at ``training`` of the block itself."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return isinstance(part, GradientCheckpointingLayer)


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
        Targets with one row an example, and the probe where ``dd`` counts. The targets are on the
        CPU: three vectors an image, which are 2.6 GB of MedSigLIP's and 191,000 images.

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
    none = [""] * len(examples)
    targets = Targets(
        prompt=_texts(examples.prompts if "vdc" in wanted else none, critic, cache),
        checklist=_texts(checklists if "ccs" in wanted else none, critic, cache),
        reference=reference,
        label=torch.tensor(labels),
    )
    return targets, probe


def prepare_guarded(
    examples: Examples,
    critic: Encoder,
    cache: EmbeddingCache,
    weights: Mapping[str, float],
    probe_path: Path | None,
    safeguards: Safeguards,
) -> tuple[Targets, Probe | None, Tensor | None]:
    """As :func:`prepare_targets`, with the targets that safeguards ask for.

    Returns:
        Targets, the probe, and ``(C, D)`` checklists of all classes for a contrastive
        CCS.

    Raises:
        PreflightError: As of :func:`prepare_targets`.
        InputError: A contrast is asked for, and a class has no checklist.
    """
    targets, probe = prepare_targets(examples, critic, cache, weights, probe_path)
    own, rivals = targets.reference, None
    if safeguards.ccs_contrast and "ccs" in active(weights):
        texts = rival_texts(examples, probe.classes if probe else examples.classes)
        rivals = _texts(texts, critic, cache)
    kind = safeguards.sfs_against
    targets = replace(targets, reference=other_references(own, examples.labels, kind))
    if safeguards.clip_at_real:
        # An image's likeness to itself is no level that another one could be held to.
        apart = other_references(own, examples.labels, "other" if kind == "paired" else kind)
        cam = ClinicalAlignmentModule(critic, probe, weights, rivals=rivals)
        level = real_level(cam, replace(targets, reference=apart), own)
        targets = replace(targets, ceiling=level)
    return targets, probe, rivals


def rival_texts(examples: Examples, classes: Sequence[str]) -> list[str]:
    """The checklists of all classes, for a contrastive CCS.

    Raises:
        InputError: A class has none, or there is no other class.
    """
    texts = [examples.checklist(name) for name in classes]
    lacking = [name for name, text in zip(classes, texts, strict=True) if not text]
    if len(texts) < 2 or lacking:
        without = f"; without one: {', '.join(lacking)}" if lacking else ""
        raise InputError(
            f"safeguards.ccs_contrast needs the checklists of at least two classes{without}",
            fix="name a domain pack with them, or switch it off",
        )
    return texts


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
    found = embed_image_files(examples.paths, critic, cache, windows=examples.windows)
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
