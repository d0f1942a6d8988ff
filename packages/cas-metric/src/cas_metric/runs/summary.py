"""``summary.json``: every aggregate of a run, and how it was made.

All that changes from one run over the same inputs to the next is in the block ``timing``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cas_metric import protocol
from cas_metric.files import installed, told_words
from cas_metric.images import count_steps
from cas_metric.runs.folder import Origin
from cas_metric.scoring.inputs import Inputs
from cas_metric.scoring.pipeline import Scores
from cas_metric.scoring.self_test import blind
from cas_metric.statistics.aggregate import (
    case_clusters,
    of_cases,
    scored,
    summarise,
    without_patient,
)
from cas_metric.statistics.tail import tail_statistics, threshold

if TYPE_CHECKING:
    from cas_metric.domains import Domain
    from cas_metric.encoders import Encoder

#: Packages that decide the bits of a result.
PACKAGES: Final = (
    *("cas-metric", "torch", "transformers", "tokenizers", "numpy", "pandas", "pillow", "pyarrow"),
)

#: Share of blank images from which on a run warns of them.
BLANK_SHARE: Final = 0.01

#: What to add where a primitive cannot be had.
REMEDIES: Final = {
    "vdc": "a `prompt` column in metadata.csv with the enriched prompt of each image",
    "ccs": "a domain pack with a checklist for every class: --domain NAME or FILE "
    "(`cas domains list`, `cas domains new`)",
    "dd": "labels of at least two classes (sub-folders or a `label` column), or --probe FILE",
    "sfs": "a real partner of each image: the same `id`, or a `reference` column",
}


def build_summary(
    scores: Scores,
    encoder: Encoder,
    command: Sequence[str],
    *,
    seconds: float,
    precision: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        scores: What the run found.
        encoder: The space that it was scored in.
        command: The command line, or any list of words that says how the run was started.
        seconds: Wall time of the whole run.
        precision: What :func:`~cas_metric.scoring.precision.precision_change` measured, if any.
        origin: What the run was made from.
        warnings: What makes the numbers meaningless, to be read before any of them.
    """
    inputs, conditions = scores.inputs, scores.conditions
    domain, methods = inputs.domain, _methods(scores)
    return {
        "protocol": protocol.version_of(conditions),
        "departures": list(protocol.departures(conditions)),
        "domain": domain.name if domain else "",
        "embedded_world": bool(domain and domain.embedded),
        "classes": list(inputs.classes),
        "encoder": {
            "name": encoder.name,
            "revision": encoder.revision,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "token_limit": encoder.token_limit,
            "dtype": encoder.dtype,
            "text_policy": encoder.text_policy,
        },
        "precision": dict(precision) if precision is not None else None,
        "probe": scores.judge.describe(),
        "methods": methods,
        "real": summarise(scores.real),
        "floor": summarise(scores.floor),
        "tau": _tau(scores.real),
        "subgroups": _subgroups(scores, methods),
        "missing": missing(scores),
        "text": _text(scores),
        "failures": list(scores.material.failures),
        "self_test": {name: dict(one) for name, one in scores.self_test.items()},
        "blank": _blank(scores.rows),
        "warnings": [
            *warnings,
            *_blindness(scores, encoder),
            *_blank_warnings(scores.rows),
            *without_patient(scores.rows, "generated images"),
            *without_patient(scores.real, "real images"),
            *_taught(scores),
        ],
        "notes": list(scores.notes),
        "provenance": {
            "command": told_words(command),
            "origin": origin.as_dict() if origin is not None else None,
            "device": getattr(encoder, "device_description", str(encoder.device)),
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "versions": {name: installed(name) for name in PACKAGES},
            "domain_file": inputs.pack or None,
            "inputs": _inputs(scores),
        },
        "timing": {
            "seconds": round(seconds, 3),
            **{f"{step}_seconds": round(value, 3) for step, value in scores.seconds.items()},
            "images_embedded": scores.material.embedded,
            "images_from_cache": scores.material.cached,
        },
    }


def missing(scores: Scores) -> dict[str, dict[str, Any]]:
    """Primitives that some image lacks though it could be read.

    Returns:
        By primitive: ``images`` that lack it, ``of`` how many, the first ``reason``, and what to
        ``add``.
    """
    found = {}
    tables = pd.concat([scored(scores.rows), scored(scores.real)])
    for name in protocol.PRIMITIVES:
        lacking = tables[tables[name].isna()]
        if len(lacking):
            parts = lacking["error"].iloc[0].split("; ")
            reason = next((p for p in parts if p.startswith(f"{name}: ")), parts[0])
            found[name] = {
                "images": len(lacking),
                "of": len(tables),
                "reason": reason.removeprefix(f"{name}: "),
                "add": REMEDIES[name],
            }
    return found


def _methods(scores: Scores) -> list[dict[str, Any]]:
    return [
        {"method": name, **summarise(rows), **_against_real(rows, scores)}
        for name, rows in scores.rows.groupby("method", sort=True)
    ]


def _against_real(rows: pd.DataFrame, scores: Scores) -> dict[str, Any]:
    """The tail of one method, against the real images of the cases that it has scored images of."""
    known = set(scored(scores.real)["image"])
    cases = set(scored(rows)["reference"]) & known
    return {
        "coverage": {"cases": len(cases), "of": len(known)},
        "tail": _tail(rows, of_cases(scores.real, rows)),
    }


def _tail(rows: pd.DataFrame, real: pd.DataFrame) -> dict[str, Any] | None:
    """None where either has no CAS."""
    if rows["cas"].notna().sum() == 0 or real["cas"].notna().sum() == 0:
        return None
    statistics = tail_statistics(
        rows["cas"].to_numpy(),
        real["cas"].to_numpy(),
        clusters=case_clusters(rows),
        real_clusters=case_clusters(real),
    )
    return statistics.as_dict()


def _subgroups(scores: Scores, methods: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By method, then of the real images: groups and gaps; empty where nothing is grouped."""
    if not scores.inputs.by:
        return {}
    from cas_metric.statistics.subgroups import by_method

    by, tau = scores.inputs.by, _tau(scores.real)
    taus = {one["method"]: (one["tail"] or {}).get("tau") for one in methods}
    found = {"methods": by_method(scores.rows, by, tau=taus)}
    if set(by) <= set(scores.real):
        found["real"] = by_method(scores.real.assign(method="Real"), by, tau=tau)
    return {
        kind: {name: one.as_dict() for name, one in ones.items()} for kind, ones in found.items()
    }


def _blindness(scores: Scores, encoder: Encoder) -> list[str]:
    """What the self-test says against the numbers."""
    lines = []
    for name in blind(scores.self_test):
        one = scores.self_test[name]
        lines.append(
            f"{encoder.name} is blind in {name.upper()} on these images, and so in CAS: "
            f"'{one['question']}' holds for {one['score']:.2f} of the real images, chance is "
            f"{one['chance']:.2f}"
        )
    return lines


def _blank(rows: pd.DataFrame) -> dict[str, int]:
    """Generated images in which nothing, or hardly anything, can be seen, by kind."""
    if "note" not in rows:
        return {}
    return {str(kind): int(n) for kind, n in rows["note"].value_counts().items() if kind}


def _blank_warnings(rows: pd.DataFrame) -> list[str]:
    return [
        f"{count} of {len(rows)} generated images are {kind}: what made them may have failed"
        for kind, count in _blank(rows).items()
        if count >= max(1, BLANK_SHARE * len(rows))
    ]


def _taught(scores: Scores) -> list[str]:
    """Images and patients that the probe was taught with and is asked about."""
    train, real, images = scores.inputs.train, scores.inputs.real, scores.material.images
    if train is None:
        return []
    files = set(images["train"].digests) - {""}
    patients = set(train["patient"]) - {""}
    told = {
        "are training images, byte for byte": [one in files for one in images["real"].digests],
        "are of patients of the training images": real["patient"].isin(patients).tolist(),
    }
    return [
        f"{sum(same)} of {len(real)} real images {what}: the probe knows them, so their DD, and "
        "with it tau, is too high: see `cas leakage`"
        for what, same in told.items()
        if any(same)
    ]


def _tau(real: pd.DataFrame) -> float | None:
    return threshold(real["cas"].to_numpy()) if real["cas"].notna().any() else None


def _text(scores: Scores) -> dict[str, Any]:
    """How many prompts were cut, by method, and how long each class's checklist is."""
    rows = scores.rows
    prompts = {}
    for name, group in rows.groupby("method", sort=True):
        tokens = group["prompt_tokens"].dropna()
        prompts[str(name)] = {
            "n": len(tokens),
            "truncated": int(group["prompt_truncated"].fillna(False).sum()),
            "most_tokens": int(tokens.max()) if len(tokens) else 0,
        }
    known = rows.dropna(subset=["checklist_tokens"]).drop_duplicates("label").sort_values("label")
    checklists = {
        record.label: {
            "sha256": _text_digest(scores.inputs.checklist(record.label)),
            "tokens": int(record.checklist_tokens),
            "truncated": bool(record.checklist_truncated),
        }
        for record in known.itertuples(index=False)
    }
    limit = scores.material.texts.limit
    return {"token_limit": limit, "prompts": prompts, "checklists": checklists}


def changed_checklists(summary: Mapping[str, Any], domain: Domain) -> list[str]:
    """Classes of a run that the domain describes otherwise than when it was scored.

    Args:
        summary: Of the run; of one that kept no digests all of its classes count.
        domain: With at least the classes of the run.
    """
    return [
        label
        for label, one in summary["text"]["checklists"].items()
        if one.get("sha256") != _text_digest(domain.checklist_text(label))
    ]


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _inputs(scores: Scores) -> dict[str, dict[str, Any]]:
    """Where the images of each set lie, and a digest of all that entered from them."""
    return {
        name: {
            "root": scores.inputs.roots[name],
            "images": len(images.digests),
            "sha256": _digest(scores.inputs, name, images.digests),
            "window": window.bounds if (window := scores.inputs.windows[name]) else None,
            "pixels": count_steps(images.steps),
        }
        for name, images in scores.material.images.items()
    }


def _digest(inputs: Inputs, name: str, digests: Sequence[str]) -> str:
    """sha256 over the row and the content of every image, in order."""
    columns = ["id", "label", "prompt", "reference", "patient", "method", "seed"]
    table: pd.DataFrame = getattr(inputs, name)[columns].astype(str)
    whole = hashlib.sha256()
    for row, digest in zip(table.itertuples(index=False), digests, strict=True):
        whole.update(json.dumps([*row, digest], ensure_ascii=False).encode() + b"\n")
    return whole.hexdigest()
