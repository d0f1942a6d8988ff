"""The linear probe of Eq. 4: which class does an embedding show?

One linear layer on L2-normalised embeddings, fitted with Adam as §A.2 says, on real images only.
A probe belongs to the embedding space that it was fitted in: it carries the encoder's fingerprint
and cannot be loaded with another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from cas_metric import protocol
from cas_metric.encoders import Encoder
from cas_metric.errors import InputError
from cas_metric.files import write_bytes

#: Folds of the cross-fitted probe (ours).
FOLDS: Final = 5

#: The one key of the file's metadata: several would be written in no fixed order.
_METADATA: Final = "cas_probe"


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe.

    Attributes:
        classes: Class names in the order of the logits.
        fingerprint: Of the encoder whose embeddings it judges.
        weight: ``(C, D)`` float32.
        bias: ``(C,)`` float32.
        info: How it was made: number of images, training accuracy, protocol constants.
    """

    classes: tuple[str, ...]
    fingerprint: str
    weight: Tensor
    bias: Tensor
    info: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, embeddings: Tensor) -> Tensor:
        """``(N, C)`` logits of ``(N, D)`` embeddings of any norm; gradients flow to them."""
        normalised = F.normalize(embeddings.float(), dim=-1)
        weight, bias = self.weight.to(embeddings.device), self.bias.to(embeddings.device)
        return F.linear(normalised, weight, bias)

    def save(self, path: str | Path) -> None:
        """Write the probe as a safetensors file; equal probes give equal bytes."""
        metadata = {
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
            "info": dict(self.info),
        }
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        write_bytes(Path(path), save(tensors, {_METADATA: json.dumps(metadata, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder) -> Probe:
        """Read a probe.

        Args:
            path: Written by :meth:`save`.
            encoder: Whose embeddings it is to judge.

        Raises:
            InputError: No such file, no probe, or one fitted on another encoder's embeddings.
        """
        refit = "fit one with --train, or with `cas score` on a real folder that names its train"
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {})[_METADATA])
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            classes, fingerprint = tuple(metadata["classes"]), str(metadata["fingerprint"])
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file", fix=refit) from error
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no probe: {error}", fix=refit) from error
        if weight.shape != (len(classes), encoder.dim) or bias.shape != (len(classes),):
            raise InputError(
                f"{path}: a probe of {tuple(weight.shape)} for {len(classes)} classes does not fit "
                f"{encoder.name} with {encoder.dim} dimensions",
                fix=refit,
            )
        if fingerprint != encoder.fingerprint:
            raise InputError(
                f"{path} was fitted on another encoder ({fingerprint[:12]}) than {encoder.name} "
                f"({encoder.fingerprint[:12]}): weights, "
                f"preprocessing, dtype or text policy differ",
                fix=refit,
            )
        return cls(classes, fingerprint, weight.float(), bias.float(), metadata.get("info") or {})


def fit(
    embeddings: ArrayLike | Tensor,
    labels: Sequence[int] | NDArray[np.int64],
    classes: Sequence[str],
    *,
    fingerprint: str,
    seed: int = protocol.PROBE_SEED,
) -> Probe:
    """Fit a probe as §A.2 says: Adam, 50 epochs, batches of 256, on unit vectors.

    The result depends on the order of the rows, as that of any stochastic gradient does: give them
    in a canonical one. The global random state is neither read nor changed.

    Args:
        embeddings: ``(N, D)``, of any norm.
        labels: ``(N,)`` class indices.
        classes: Names, in the order of the indices.
        fingerprint: Of the encoder.
        seed: Of the initial weights and the order of batches.

    Raises:
        InputError: Fewer than two classes have images, or a value is not finite.
    """
    inputs = F.normalize(torch.as_tensor(embeddings).detach().float().cpu(), dim=-1)
    targets = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    if not torch.isfinite(inputs).all():
        raise InputError("the probe cannot be fitted: an embedding is not finite")
    if len(targets.unique()) < 2:
        raise InputError(
            "the probe needs images of at least two classes",
            fix="add the classes that the images are to be told from",
        )
    generator = torch.Generator().manual_seed(seed)
    layer = _initial_layer(inputs.shape[1], len(classes), generator)
    _optimise(layer, inputs, targets, generator)
    weight, bias = (parameter.detach() for parameter in layer)
    accuracy = (F.linear(inputs, weight, bias).argmax(dim=-1) == targets).float().mean()
    info = {
        "images": len(targets),
        "training_accuracy": round(float(accuracy), 6),
        "optimizer": "Adam",
        "learning_rate": protocol.PROBE_LEARNING_RATE,
        "epochs": protocol.PROBE_EPOCHS,
        "batch_size": protocol.PROBE_BATCH_SIZE,
        "weight_decay": protocol.PROBE_WEIGHT_DECAY,
        "seed": seed,
    }
    return Probe(tuple(classes), fingerprint, weight, bias, info)


def _initial_layer(dim: int, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight and bias drawn as ``torch.nn.Linear`` draws them, but from ``generator``."""
    bound = dim**-0.5
    weight = torch.empty(classes, dim).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator)
    return weight.requires_grad_(), bias.requires_grad_()


def _optimise(
    layer: tuple[Tensor, Tensor], inputs: Tensor, targets: Tensor, generator: torch.Generator
) -> None:
    optimizer = torch.optim.Adam(
        layer, lr=protocol.PROBE_LEARNING_RATE, weight_decay=protocol.PROBE_WEIGHT_DECAY
    )
    with torch.enable_grad(), _one_thread():
        for _ in range(protocol.PROBE_EPOCHS):
            order = torch.randperm(len(inputs), generator=generator)
            for batch in order.split(protocol.PROBE_BATCH_SIZE):
                optimizer.zero_grad()
                F.cross_entropy(F.linear(inputs[batch], *layer), targets[batch]).backward()
                optimizer.step()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch from splitting operations over threads.

    These are too small to gain from it, and on a busy machine the threads wait for each other many
    times as long as they compute. It also makes the result independent of the number of processors.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class CrossFittedProbe:
    """Probes of which none has seen the images that it judges.

    Each was fitted on all folds but one. A real image is judged by the probe of its own fold. A
    generated image is judged by the probe of the fold in which its reference lies, so that a
    faithful copy of the reference is not recognised from training; without a reference the mean of
    all logits decides.

    Attributes:
        probes: One a fold.
        folds: ``(N,)`` fold of each real image that was given to :func:`cross_fit`.
    """

    probes: tuple[Probe, ...]
    folds: NDArray[np.int64]

    def logits(self, embeddings: Tensor, folds: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """``(N, C)`` logits of ``(N, D)`` embeddings.

        Args:
            embeddings: Of any norm.
            folds: ``(N,)`` fold of each image, or of its reference; -1 where there is none.
        """
        chosen = torch.as_tensor(np.asarray(folds), dtype=torch.int64)
        every = torch.stack([probe.logits(embeddings) for probe in self.probes])
        own = every[chosen.clamp(min=0), torch.arange(len(chosen))]
        return torch.where((chosen >= 0)[:, None], own, every.mean(dim=0))


def cross_fit(
    embeddings: ArrayLike | Tensor,
    labels: Sequence[int] | NDArray[np.int64],
    classes: Sequence[str],
    *,
    fingerprint: str,
    groups: Sequence[str],
    folds: int = FOLDS,
    seed: int = protocol.PROBE_SEED,
) -> CrossFittedProbe:
    """Fit one probe a fold, on the images of the other folds.

    Args:
        embeddings: ``(N, D)``, in a canonical order.
        labels: ``(N,)`` class indices.
        classes: Names, in the order of the indices.
        fingerprint: Of the encoder.
        groups: ``(N,)`` what must stay in one fold: the patient, or the digest of the file.
        folds: Number of folds; fewer where there are fewer groups.
        seed: Of the folds and the probes.

    Raises:
        InputError: The images left to fit on are of fewer than two classes.
    """
    targets = np.asarray(labels, dtype=np.int64)
    assigned = assign_folds(targets, groups, folds, seed)
    rows = torch.as_tensor(embeddings)
    probes = []
    for fold in range(int(assigned.max(initial=-1)) + 1):
        kept = np.flatnonzero(assigned != fold)
        probes.append(fit(rows[kept], targets[kept], classes, fingerprint=fingerprint, seed=seed))
    return CrossFittedProbe(tuple(probes), assigned)


def assign_folds(
    labels: NDArray[np.int64], groups: Sequence[str], folds: int, seed: int
) -> NDArray[np.int64]:
    """Fold of each row: groups stay whole, and every class is spread over the folds.

    Groups are dealt in a seeded order, each to the fold that has the fewest groups of its class
    (that of its first row), then the fewest rows.

    Returns:
        ``(N,)`` numbers from 0; none of the folds is empty.
    """
    names, first, codes = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    folds = min(folds, len(names))
    of_class = np.zeros((folds, int(labels.max(initial=0)) + 1), dtype=np.int64)
    rows = np.zeros(folds, dtype=np.int64)
    sizes = np.bincount(codes, minlength=len(names))
    fold_of = np.empty(len(names), dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(names)):
        label = labels[first[group]]
        fold_of[group] = fold = np.lexsort((rows, of_class[:, label]))[0]
        of_class[fold, label] += 1
        rows[fold] += sizes[group]
    return fold_of[codes]
