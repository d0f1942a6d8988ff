"""The linear probe of Eq. 4: which class does an embedding show?

One linear layer on L2-normalised embeddings, fitted with Adam as §A.2 says, on real images only.
A probe belongs to the embedding space that it was fitted in: it carries the encoder's fingerprint
and cannot be loaded with another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from threadpoolctl import threadpool_limits

from cas_metric import protocol
from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.primitives import Array, unit

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder

Floats = NDArray[np.float32]

#: Folds of the cross-fitted probe (ours).
FOLDS: Final = 5

#: The one key of the file's metadata: several would be written in no fixed order.
_METADATA: Final = "cas_probe"

_REFIT: Final = "fit one with --train, or with `cas score` on a real folder that names its train"

#: How ``cas-v1`` fits a probe (§A.2); a probe's ``info`` says how it was fitted.
RECIPE: Final = {
    "optimizer": "Adam",
    "learning_rate": protocol.PROBE_LEARNING_RATE,
    "epochs": protocol.PROBE_EPOCHS,
    "batch_size": protocol.PROBE_BATCH_SIZE,
    "weight_decay": protocol.PROBE_WEIGHT_DECAY,
    "seed": protocol.PROBE_SEED,
}


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe.

    Attributes:
        classes: Class names in the order of the logits.
        fingerprint: Of the encoder whose embeddings it judges.
        weight: ``(C, D)`` float32.
        bias: ``(C,)`` float32.
        info: How it was made: the keys of :data:`RECIPE`, ``images``, ``training_accuracy``,
            ``fitted_classes`` (those that had images) and ``data`` (sha256 of what it was fitted
            on).

    Examples:
        >>> probe = fit([[1.0, 0.1], [0.1, 1.0]] * 9, [0, 1] * 9, ("a", "b"), fingerprint="")
        >>> probe.logits(np.array([[1.0, 0.0]], dtype=np.float32)).argmax(axis=1).tolist()
        [0]
        >>> probe.save("probe.safetensors")
        >>> Probe.read("probe.safetensors").classes
        ('a', 'b')
    """

    classes: tuple[str, ...]
    fingerprint: str
    weight: Floats
    bias: Floats
    info: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, embeddings: Array) -> Array:
        """``(N, C)`` logits of ``(N, D)`` embeddings of any norm; gradients flow to them.

        NumPy arrays and torch tensors alike.
        """
        xp: Any = array_namespace(embeddings)
        weight, bias = (
            xp.asarray(part, device=device(embeddings)) for part in (self.weight, self.bias)
        )
        # Products summed up, not a matrix product, which autocast and TF32 take in fewer digits and
        # whose last bits depend on how many rows it is given.
        return xp.sum(unit(embeddings)[:, None, :] * weight, axis=-1) + bias

    @property
    def departure(self) -> str:
        """In what it departs from the protocol's recipe, as far as it tells."""
        told = {name: self.info.get(name) for name in RECIPE}
        if "data" not in self.info:
            return "of unknown making"
        return ", ".join(f"{name} {told[name]}" for name in RECIPE if told[name] != RECIPE[name])

    def save(self, path: str | Path) -> None:
        """Write the probe as a safetensors file; equal probes give equal bytes."""
        write_bytes(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of that file."""
        metadata = {
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
            "info": dict(self.info),
        }
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in ("weight", "bias")}
        return save(tensors, {_METADATA: json.dumps(metadata, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder) -> Probe:
        """Read a probe for the embeddings of ``encoder``.

        Raises:
            InputError: As of :meth:`read` and :meth:`require`.
        """
        return cls.read(path).require(encoder)

    @classmethod
    def read(cls, path: str | Path) -> Probe:
        """Read a probe that :meth:`save` wrote, whichever encoder it belongs to.

        Raises:
            InputError: No such file, or no probe.
        """
        try:
            with safe_open(path, framework="np") as file:
                metadata = json.loads((file.metadata() or {})[_METADATA])
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            classes, fingerprint = tuple(metadata["classes"]), str(metadata["fingerprint"])
            if weight.ndim != 2 or not len(classes) == len(weight) == len(bias):
                raise ValueError(f"weights of {weight.shape} for {len(classes)} classes")
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: no such file, and it is to be the probe", fix=_REFIT
            ) from error
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no probe: {error}", fix=_REFIT) from error
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
        return cls(classes, fingerprint, weight, bias, metadata.get("info") or {})

    def require(self, encoder: Encoder) -> Probe:
        """The probe itself, if it was fitted on embeddings of ``encoder``.

        Raises:
            InputError: It was fitted on those of another one.
        """
        if self.weight.shape[1] != encoder.dim:
            raise InputError(
                f"a probe of {self.weight.shape} does not fit {encoder.name} with {encoder.dim} "
                "dimensions",
                fix=_REFIT,
            )
        if self.fingerprint != encoder.fingerprint:
            raise InputError(
                f"the probe was fitted on another encoder ({self.fingerprint[:12]}) than "
                f"{encoder.name} ({encoder.fingerprint[:12]}): weights, preprocessing, dtype or "
                "text policy differ",
                fix=_REFIT,
            )
        return self


def fit(
    embeddings: ArrayLike,
    labels: Sequence[int] | NDArray[np.int64],
    classes: Sequence[str],
    *,
    fingerprint: str,
    seed: int = protocol.PROBE_SEED,
) -> Probe:
    """Fit a probe as §A.2 says: Adam, 50 epochs, batches of 256, on unit vectors.

    The result depends on the order of the rows, as that of any stochastic gradient does: give them
    in a canonical one. No global random state is read or changed.

    Args:
        embeddings: ``(N, D)``, of any norm.
        labels: ``(N,)`` class indices.
        classes: Names, in the order of the indices.
        fingerprint: Of the encoder.
        seed: Of the initial weights and the order of batches.

    Raises:
        InputError: Fewer than two classes have images, or a value is not finite.

    Examples:
        >>> probe = fit([[1.0, 0.1], [0.1, 1.0]] * 9, [0, 1] * 9, ("a", "b"), fingerprint="")
        >>> probe.info["training_accuracy"]
        1.0
    """
    inputs, targets = unit(np.asarray(embeddings)), np.asarray(labels, dtype=np.int64)
    if not np.isfinite(inputs).all():
        raise InputError("the probe cannot be fitted: an embedding is not finite")
    present = np.unique(targets)
    if len(present) < 2:
        raise InputError(
            "the probe needs images of at least two classes",
            fix="add the classes that the images are to be told from",
        )
    with threadpool_limits(1, "blas"):  # the products are too small to share, threads would spin
        weight, bias = _descend(inputs, targets, len(classes), seed)
    made = Probe(tuple(classes), fingerprint, weight, bias)
    info = {
        **RECIPE,
        "seed": seed,
        "images": len(targets),
        "training_accuracy": round(float((_argmax(made, inputs) == targets).mean()), 6),
        "fitted_classes": [classes[index] for index in present],
        "data": hashlib.sha256(inputs.tobytes() + targets.tobytes()).hexdigest(),
    }
    return Probe(made.classes, fingerprint, weight, bias, info)


def _argmax(probe: Probe, inputs: Floats) -> NDArray[np.int64]:
    return (inputs @ probe.weight.T + probe.bias).argmax(axis=-1)


def _descend(
    inputs: Floats, targets: NDArray[np.int64], classes: int, seed: int
) -> tuple[Floats, Floats]:
    """Weight and bias after Adam (Kingma and Ba, 2015, algorithm 1) on the mean cross-entropy."""
    generator = TorchGenerator(seed)
    bound = inputs.shape[1] ** -0.5  # that of torch.nn.Linear
    weight = generator.uniform((classes, inputs.shape[1]), bound)
    bias = generator.uniform((classes,), bound)
    adam = _Adam((weight, bias))
    for _ in range(protocol.PROBE_EPOCHS):
        order = generator.permutation(len(inputs))
        for start in range(0, len(order), protocol.PROBE_BATCH_SIZE):
            batch = order[start : start + protocol.PROBE_BATCH_SIZE]
            rows = inputs[batch]
            logits = rows @ weight.T + bias
            gap = np.exp(logits - logits.max(axis=1, keepdims=True))
            gap /= gap.sum(axis=1, keepdims=True)
            gap[np.arange(len(batch)), targets[batch]] -= 1
            gap /= np.float32(len(batch))
            adam.step((gap.T @ rows, gap.sum(axis=0)))
    return weight, bias


class _Adam:
    """Adam with torch's defaults, on float32 arrays that it changes in place."""

    def __init__(self, parameters: Sequence[Floats]) -> None:
        self._state = [(p, np.zeros_like(p), np.zeros_like(p)) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[Floats]) -> None:
        self._steps += 1
        first, second = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        rate = np.float32(protocol.PROBE_LEARNING_RATE / first)
        for (parameter, mean, square), gradient in zip(self._state, gradients, strict=True):
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            root = np.sqrt(square) / np.float32(second**0.5) + np.float32(1e-8)
            parameter -= rate * mean / root


class TorchGenerator:
    """The draws of a seeded ``torch.Generator`` on a CPU, without torch.

    A probe is the same whether or not torch is there, and the same as ``torch.nn.Linear`` with
    ``torch.randperm`` gave. Both generators are the Mersenne Twister.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed)  # init_genrand, as torch seeds it

    def uniform(self, shape: tuple[int, ...], bound: float) -> Floats:
        """Float32 in [-bound, bound), by 24 bits each."""
        raw = self._bits.random_raw(int(np.prod(shape))) & ((1 << 24) - 1)
        low, high = np.float32(-bound), np.float32(bound)
        # In float64, since torch rounds once, with a fused multiplication and addition.
        values = raw * 2.0**-24 * float(high - low) + float(low)
        return values.astype(np.float32).reshape(shape)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """A permutation of ``range(count)`` by Fisher and Yates."""
        order = list(range(count))
        steps = self._bits.random_raw(max(count - 1, 0)) % np.arange(count, 1, -1, dtype=np.uint64)
        for here, step in enumerate(steps.tolist()):
            order[here], order[here + step] = order[here + step], order[here]
        return np.array(order, dtype=np.int64)


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

    def logits(self, embeddings: Floats, folds: Sequence[int] | NDArray[np.int64]) -> Floats:
        """``(N, C)`` logits of ``(N, D)`` embeddings.

        Args:
            embeddings: Of any norm.
            folds: ``(N,)`` fold of each image, or of its reference; -1 where there is none.
        """
        chosen = np.asarray(folds, dtype=np.int64)
        every = np.stack([probe.logits(embeddings) for probe in self.probes])
        own = every[chosen.clip(min=0), np.arange(len(chosen))]
        return np.where((chosen >= 0)[:, None], own, every.mean(axis=0))


def cross_fit(
    embeddings: ArrayLike,
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

    Examples:
        >>> vectors, labels = [[1.0, 0.1], [0.1, 1.0]] * 20, [0, 1] * 20
        >>> patients = [f"patient {row // 2}" for row in range(40)]
        >>> found = cross_fit(vectors, labels, ("a", "b"), fingerprint="", groups=patients, folds=4)
        >>> len(found.probes), bool(found.folds[0] == found.folds[1])
        (4, True)
    """
    targets = np.asarray(labels, dtype=np.int64)
    assigned = assign_folds(targets, groups, folds, seed)
    rows = np.asarray(embeddings)
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
