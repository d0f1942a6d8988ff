"""Scoring a generated set: the run from checked inputs to one row an image.

Three tables are made: the generated images against their real partners; the real images against
themselves, as the paper does; and, since SFS is 1 there by construction, the floor: each real
image against another real image of its class.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric import protocol
from cas_metric.domains import Domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import Progress
from cas_metric.embedding.ranks import ALONE, Ranks
from cas_metric.manifest import Manifest
from cas_metric.scoring.diagnosis import Judge, make_judge
from cas_metric.scoring.embeddings import Material, embed_all_images, embed_all_texts
from cas_metric.scoring.inputs import Inputs, prepare
from cas_metric.scoring.per_image import Side, score_side
from cas_metric.scoring.probe import Probe
from cas_metric.scoring.self_test import self_test

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder

#: Method names of the two reference tables.
REAL = "Real"
FLOOR = "Floor"


@dataclass(frozen=True)
class Options:
    """How to go about it; nothing here changes a score but by the last bits of an embedding.

    Attributes:
        batch_size: Images in one forward pass; None chooses by the device.
        num_workers: Threads that decode; None takes the processors at hand.
        strict_text: Whether a text beyond the encoder's limit is an error.
        max_failures: More failed images than this are an error; None allows any number.
        progress: Told how many of the images that the cache lacks are done.
    """

    batch_size: int | None = None
    num_workers: int | None = None
    strict_text: bool = False
    max_failures: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything that a run found out.

    Attributes:
        rows: One row a generated image, by method, seed and id; columns of
            :data:`cas_metric.scoring.per_image.COLUMNS`.
        real: The real images against themselves, by id.
        floor: Each real image against another one of its class, by id.
        inputs: What was scored.
        material: What it was computed from.
        judge: The probe, or the probes, behind DD.
        self_test: What the encoder can tell apart on the real images; see
            :mod:`cas_metric.scoring.self_test`.
        conditions: What was done where the protocol prescribes something.
        seconds: Wall time by step.
        notes: What a person should know before trusting the numbers.
    """

    rows: pd.DataFrame
    real: pd.DataFrame
    floor: pd.DataFrame
    inputs: Inputs
    material: Material
    judge: Judge
    self_test: Mapping[str, Mapping[str, Any]]
    conditions: protocol.Conditions
    seconds: Mapping[str, float]
    notes: tuple[str, ...]


def score_manifests(
    generated: Manifest,
    real: Manifest,
    *,
    encoder: Encoder,
    cache: EmbeddingCache,
    domain: Domain | None = None,
    train: Manifest | None = None,
    probe: Probe | None = None,
    unpaired: bool = False,
    options: Options | None = None,
) -> Scores:
    """Score every generated image of a manifest, in one process.

    Args:
        generated: Images to score.
        real: Their real partners.
        encoder: The space in which to score.
        cache: Store of embeddings.
        domain: Classes and checklists; without one CCS and CAS stay empty.
        train: Real training split to fit the probe on.
        probe: A fitted probe, in place of ``train``. Without either the probe is cross-fitted on
            ``real`` and the result is ``custom``.
        unpaired: Accept generated images without a partner; SFS and CAS then stay empty.
        options: How to go about it.

    Raises:
        PreflightError: The manifests do not fit, or a text is too long under ``strict_text``;
            everything that is wrong is listed.
        InputError: The probe does not fit the classes.
        TooManyFailures: More images failed than allowed.
    """
    inputs = prepare(generated, real, domain=domain, train=train, unpaired=unpaired)
    scores = score_inputs(inputs, encoder, cache, probe=probe, options=options)
    assert scores is not None  # rank 0 of one
    return scores


def score_inputs(
    inputs: Inputs,
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    probe: Probe | None = None,
    options: Options | None = None,
    ranks: Ranks = ALONE,
) -> Scores | None:
    """Score inputs that :func:`~cas_metric.scoring.inputs.prepare` has checked.

    Under a launcher every rank calls this: all embed, rank 0 gets the scores and the others None.
    """
    options = options or Options()
    started = time.perf_counter()
    texts = embed_all_texts(inputs, encoder, cache, strict=options.strict_text, ranks=ranks)
    material = embed_all_images(
        inputs,
        texts,
        encoder,
        cache,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        max_failures=options.max_failures,
        progress=options.progress,
        ranks=ranks,
    )
    embedded = time.perf_counter()
    if not ranks.main:
        return None
    judge = _judge(inputs, material, encoder, probe)
    rows = score_side(_generated_side(inputs, material), inputs, texts, judge)
    real, floor = (
        score_side(side, inputs, texts, judge) for side in _reference_sides(inputs, material)
    )
    return Scores(
        rows=rows,
        real=real,
        floor=floor,
        inputs=inputs,
        material=material,
        judge=judge,
        self_test=self_test(inputs, material.images["real"], texts, real, judge.taught),
        conditions=conditions_of(inputs, encoder, judge),
        seconds={"embedding": embedded - started, "scoring": time.perf_counter() - embedded},
        notes=(*inputs.notes, *_seen_in_training(material)),
    )


def conditions_of(inputs: Inputs, encoder: Encoder, judge: Judge) -> protocol.Conditions:
    """What was done where the protocol prescribes something.

    The evaluator goes by its alias only where the content of its files is the published one.
    """
    return protocol.Conditions(
        evaluator=_published_name(encoder),
        dtype=encoder.dtype,
        text_policy=encoder.text_policy,
        probe=judge.kind,
        reference="paired" if inputs.paired else "none",
    )


def _published_name(encoder: Encoder) -> str:
    """What the protocol calls an encoder, remembered with its facts where it was opened here."""
    if known := getattr(encoder, "identity", ""):
        return str(known)
    from cas_metric.encoders.identity import identify

    return identify(encoder).description


def _judge(inputs: Inputs, material: Material, encoder: Encoder, probe: Probe | None) -> Judge:
    real, train = material.images["real"], material.images.get("train")
    return make_judge(
        inputs,
        encoder,
        real.embeddings,
        train.embeddings if train is not None else None,
        probe=probe,
        real_groups=real.groups(inputs.real["patient"].tolist()),
    )


def _generated_side(inputs: Inputs, material: Material) -> Side:
    partners = inputs.generated["reference_row"].to_numpy(dtype=np.int64, copy=True)
    return Side(
        table=inputs.generated,
        images=material.images["generated"],
        references=material.images["real"],
        reference_rows=partners,
        reference_names=_names(inputs, partners),
        judged_by=partners,
        missing_reference="no real partner",
    )


def _reference_sides(inputs: Inputs, material: Material) -> tuple[Side, Side]:
    """Real against itself, and against another image of its class."""
    images = material.images["real"]
    own = np.arange(len(inputs.real), dtype=np.int64)
    others = other_of_class(
        inputs.real["class_index"].to_numpy(dtype=np.int64),
        images.groups(inputs.real["patient"].tolist()),
        images.usable,
        protocol.PROBE_SEED,
    )
    sides = []
    for name, partners in ((REAL, own), (FLOOR, others)):
        sides.append(
            Side(
                table=inputs.real.assign(method=name),
                images=images,
                references=images,
                reference_rows=partners,
                reference_names=_names(inputs, partners),
                judged_by=own,
                missing_reference="no other real image of the class",
            )
        )
    return sides[0], sides[1]


def other_of_class(
    classes: NDArray[np.int64], groups: Sequence[str], usable: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
    """Choose for each image another of its class and of another group.

    Within a class the choice is a derangement (every image is chosen exactly once) wherever one
    exists: no group may hold more than half of the class.

    Args:
        classes: ``(N,)`` class indices; an image of class -1 gets no other.
        groups: ``(N,)`` the patient, or the digest of the file: copies are not another image.
        usable: ``(N,)`` whether the image can be chosen, and have another chosen for it.
        seed: Of the choice.

    Returns:
        ``(N,)`` positions; -1 where the class has no image of another group.
    """
    rng = np.random.default_rng(seed)
    chosen = np.full(len(classes), -1, dtype=np.int64)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    for label in np.unique(classes[(classes >= 0) & usable]):
        members = rng.permutation(np.flatnonzero((classes == label) & usable))
        members = members[np.argsort(codes[members], kind="stable")]
        chosen[members] = _shifted(members, codes[members], rng)
    return chosen


def _shifted(
    members: NDArray[np.int64], codes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Partners of ``members``, which are sorted by group.

    Going round by the size of the largest group leads out of every group, if it holds at most
    half of them. Those that a larger one leaves with one of their own draw from the rest.
    """
    step = int(np.bincount(codes).max())
    partners, theirs = np.roll(members, -step), np.roll(codes, -step)
    for position in np.flatnonzero(theirs == codes):
        rest = members[codes != codes[position]]
        partners[position] = rng.choice(rest) if len(rest) else -1
    return partners


def _names(inputs: Inputs, rows: np.ndarray) -> list[str]:
    images = inputs.real["image"].tolist()
    return [images[row] if row >= 0 else "" for row in rows]


def _seen_in_training(material: Material) -> list[str]:
    """A note where real images to be scored are also in the training split, byte for byte."""
    train = material.images.get("train")
    if train is None:
        return []
    seen = set(train.digests) - {""}
    real = material.images["real"].digests
    count = sum(digest in seen for digest in real)
    if not count:
        return []
    return [
        f"{count} of {len(real)} real images are also in the training split of the probe: their "
        "DD, and with it tau, is too good"
    ]
