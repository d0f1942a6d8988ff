"""Rows: the primitives of each image, what was seen of its texts, and why something is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.images import notes_of
from cas_metric.primitives import ccs, clinical_alignment, dd, dd_probability, sfs, vdc
from cas_metric.protocol import PRIMITIVES
from cas_metric.scoring.diagnosis import Judge
from cas_metric.scoring.embeddings import ImageSet, Texts, gather
from cas_metric.scoring.inputs import Inputs

#: Columns of every row, in file order; ``patient``, ``prompt``, ``note`` (the image is blank or
#: faint) and ``seen`` (the class that the probe sees) follow where there are any, then the
#: attributes by which images are grouped.
COLUMNS: Final = (
    *("id", "method", "seed", "label", "image", "reference"),
    *("vdc", "ccs", "dd", "dd_prob", "sfs", "cas"),
    *("prompt_tokens", "checklist_tokens", "prompt_truncated", "checklist_truncated"),
    *("status", "error"),
)
OPTIONAL_COLUMNS: Final = ("patient", "prompt", "note", "seen")

#: Decimals of a score in the rows. Six lie well above the noise of float32 arithmetic, so that
#: rows stay the same from run to run, and well below any difference that means something.
#: Aggregates are computed from the rounded rows: whoever reads the files gets the same numbers.
DECIMALS: Final = 6

#: Rows scored at once, which bounds the memory of the gathered embeddings.
TOGETHER: Final = 256

Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Side:
    """One table of images with all that its scores are computed from.

    Attributes:
        table: Rows in the order of :mod:`cas_metric.scoring.inputs`.
        images: Their embeddings.
        references: Embeddings that SFS compares with.
        reference_rows: ``(N,)`` row in ``references``; -1 without one.
        reference_names: ``(N,)`` paths of the reference images, as the real manifest writes them.
        judged_by: ``(N,)`` row of the real image by which a cross-fitted probe is chosen.
        missing_reference: Why a row has no reference.
    """

    table: pd.DataFrame
    images: ImageSet
    references: ImageSet
    reference_rows: NDArray[np.int64]
    reference_names: Sequence[str]
    judged_by: NDArray[np.int64]
    missing_reference: str


def score_side(side: Side, inputs: Inputs, texts: Texts, judge: Judge) -> pd.DataFrame:
    """One row an image, in the order of ``side.table``."""
    table = side.table
    checklists = {label: inputs.checklist(label) for label in table["label"].unique()}
    prompt_rows = texts.rows(table["prompt"].tolist())
    checklist_rows = texts.rows([checklists[label] for label in table["label"]])
    scores = _scores(side, texts, prompt_rows, checklist_rows, judge)
    seen = _seen(side, judge, inputs.classes)
    rows = table[["id", "method", "seed", "label", "image", "patient", "prompt"]].copy()
    rows["reference"] = list(side.reference_names)
    for name, values in scores.items():
        rows[name] = values
    for name, positions in (("prompt", prompt_rows), ("checklist", checklist_rows)):
        rows[f"{name}_tokens"] = _known(texts.tokens, positions, "Int64")
        rows[f"{name}_truncated"] = _known(texts.truncated, positions, "boolean")
    reasons = _reasons(side, texts, checklists, scores, judge)
    rows["error"] = reasons
    rows["note"] = [", ".join(notes_of(steps)) for steps in side.images.steps]
    rows["seen"] = seen
    failed = ~side.images.usable
    rows["status"] = np.select([failed, np.array(reasons) != ""], ["failed", "partial"], "ok")
    optional = [name for name in OPTIONAL_COLUMNS if (rows[name] != "").any()]
    by = [name for name in inputs.by if name in table and name not in (*COLUMNS, *optional)]
    return rows[[*COLUMNS, *optional]].assign(**{name: table[name] for name in by})


def _scores(
    side: Side,
    texts: Texts,
    prompt_rows: NDArray[np.int64],
    checklist_rows: NDArray[np.int64],
    judge: Judge,
) -> Scores:
    """Rounded scores of every row, a block of rows at a time."""
    labels = side.table["class_index"].to_numpy(dtype=np.int64)
    images, references = side.images.embeddings, side.references.embeddings
    blocks = []
    for start in range(0, len(labels), TOGETHER):
        block = slice(start, start + TOGETHER)
        image, label = images[block], labels[block]
        logits = judge.logits(image, side.judged_by[block])
        blocks.append(
            {
                "vdc": vdc(image, gather(texts.embeddings, prompt_rows[block])),
                "ccs": ccs(image, gather(texts.embeddings, checklist_rows[block])),
                **_diagnosis(logits, label),
                "sfs": sfs(image, gather(references, side.reference_rows[block])),
            }
        )
    scores: Scores = {}
    for name in blocks[0]:
        parts: list[Any] = [block[name] for block in blocks]
        scores[name] = np.concatenate(parts).astype(np.float64)
        scores[name] = np.round(scores[name], DECIMALS)
    four = (scores[name] for name in PRIMITIVES)
    cas: NDArray[np.float64] = clinical_alignment(*four)
    scores["cas"] = np.round(cas, DECIMALS)
    return scores


def _seen(side: Side, judge: Judge, classes: Sequence[str]) -> list[str]:
    """The class that the probe sees in each image; empty without a probe or an embedding."""
    seen = []
    for start in range(0, len(side.table), TOGETHER):
        block = slice(start, start + TOGETHER)
        logits = judge.logits(side.images.embeddings[block], side.judged_by[block])
        if logits is None:
            return [""] * len(side.table)
        known = np.atleast_1d(np.isfinite(logits).all(axis=-1))
        found = zip(logits, known, strict=True)
        seen += [classes[int(one.argmax())] if ok else "" for one, ok in found]
    return seen


def _diagnosis(logits: NDArray[np.float32] | None, labels: NDArray[np.int64]) -> Scores:
    """DD and the probability of the label; NaN without a probe, an embedding or a class."""
    nothing: NDArray[np.float64] = np.full(len(labels), np.nan)
    if logits is None:
        return {"dd": nothing, "dd_prob": nothing}
    known = (labels >= 0) & np.isfinite(logits).all(axis=-1)
    label = labels.clip(min=0)
    return {
        "dd": np.where(known, dd(logits, label), nothing),
        "dd_prob": np.where(known, dd_probability(logits, label), nothing),
    }


def _known(
    values: NDArray[np.generic], rows: NDArray[np.int64], dtype: str
) -> pd.api.extensions.ExtensionArray:
    """Values at ``rows`` as a nullable column, missing for row -1."""
    found = [values[row].item() if row >= 0 else None for row in rows]
    return pd.array(found, dtype=dtype)


def _reasons(
    side: Side, texts: Texts, checklists: Mapping[str, str], scores: Scores, judge: Judge
) -> list[str]:
    """Why each row lacks a score; empty where it has all."""
    no_text = "" if texts.limit else "the encoder reads no text"
    reference_errors = side.references.errors
    reasons = []
    for row, record in enumerate(side.table.itertuples(index=False)):
        if side.images.errors[row]:
            reasons.append(side.images.errors[row])
            continue
        partner = side.reference_rows[row]
        unread = reference_errors[partner] if partner >= 0 else side.missing_reference
        why = {
            "vdc": no_text or "no prompt",
            "ccs": no_text or f"no checklist of {record.label!r}",
            "dd": judge.reason or f"label {record.label!r} is no class",
            "sfs": unread,
        }
        lacking = [name for name in PRIMITIVES if np.isnan(scores[name][row])]
        reasons.append("; ".join(f"{name}: {why[name]}" for name in lacking))
    return reasons
