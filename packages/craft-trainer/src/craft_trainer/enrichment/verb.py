"""The two jobs of ``craft-trainer enrich``: prompts for images, and drafts of checklists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.mllm.asking import Asking, put_questions
from cas_metric.verbs.inputs import path_name
from cas_metric.verbs.progress import Progress, counting
from craft_trainer.enrichment.checklists import draft_pack, questions_for_checklists, require_draft
from craft_trainer.enrichment.questions import question
from craft_trainer.enrichment.results import Enrichment, require_place, write_enrichment
from craft_trainer.enrichment.rows import Choice, read_rows


def enrich(
    source: str | Path | None,
    mllm: str | Asking,
    out: str | Path | None = None,
    *,
    domain: str | None = None,
    choice: Choice | None = None,
    label_only: bool = False,
    checklists: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Have images described under their labels, or checklists drafted for a pack.

    Args:
        source: Manifest or folder of the images and labels; None with ``checklists``.
        mllm: The model, as :func:`cas_metric.mllm.open_model` takes it, or with everything that
            decides how it is asked.
        out: Folder for the results; by default ``enriched`` and the name of the source, or
            ``checklists``.
        domain: Domain pack; by default what the folder's cas.yaml names.
        choice: Of the images; by default all.
        label_only: Whether a typical image of each label is described, without looking at any.
        checklists: Whether checklists are drafted, not prompts.
        progress: Told after every answer.

    Returns:
        Counts, tokens and cost, as plain values; ``notes`` says what a person should know.

    Raises:
        CasError: Rows or domain must be corrected, ``out`` holds what would be lost, or the model
            is not available.
    """
    if checklists == (source is not None):
        raise InputError(
            "--checklists drafts for a domain pack and takes no SOURCE"
            if checklists
            else "no images are named",
            fix="craft-trainer enrich SOURCE …, or craft-trainer enrich --checklists --domain …",
        )
    asking = mllm if isinstance(mllm, Asking) else Asking(mllm)
    if source is None:
        return _draft_checklists(domain, Path(out or "checklists"), asking, progress)
    path = Path(source)
    folder = Path(out) if out else Path("enriched") / path_name(path)
    chosen = choice or Choice()
    return _describe_images(path, folder, asking, domain, chosen, label_only, progress)


def _describe_images(
    path: Path,
    out: Path,
    asking: Asking,
    domain: str | None,
    choice: Choice,
    label_only: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    """Have every image described under its label, and write a manifest of what is accepted."""
    rows = read_rows(
        path, domain, with_images=not label_only, choice=choice, offline=asking.offline
    )
    require_place(rows, path, out)
    keys = rows.manifest.rows["id"]
    requests = [
        question(key, label, rows.schema, None if label_only else path, window=rows.manifest.window)
        for key, label, path in zip(keys, rows.labels, rows.paths, strict=True)
    ]
    asked = put_questions(requests, asking, counting(progress, "images"))
    enrichment = Enrichment(
        rows, requests, asked.answers, asked.model, asked.notes, label_only, asking.price
    )
    provenance = write_enrichment(enrichment, out)
    return {
        "out": str(out),
        "accepted": len(enrichment.accepted),
        "rejected": len(enrichment.rejected),
        "counts": provenance["counts"],
        "tokens": provenance["tokens"],
        "cost": provenance["cost"],
        "this_run": asked.timing,
        "notes": [*rows.manifest.notes, *asked.notes],
    }


def _draft_checklists(
    domain: str | None, out: Path, asking: Asking, progress: Progress | None
) -> dict[str, Any]:
    """Have a checklist drafted for every class without one, and write the pack with the drafts."""
    if not domain:
        raise InputError("--checklists needs a pack to write for", fix="name it with --domain")
    pack = load_domain(domain, offline=asking.offline)
    requests = questions_for_checklists(pack)
    if not requests:
        raise InputError(
            f"every class of the domain {pack.name!r} has a checklist",
            fix="remove those that are to be drafted anew from a copy of the pack",
        )
    path = out / f"{pack.name}.yaml"
    require_draft(path)
    asked = put_questions(requests, asking, counting(progress, "classes"))
    accepted = [answer for answer in asked.answers if answer.accepted]
    notes = list(asked.notes)
    if accepted:
        write_bytes(path, draft_pack(pack, asked.answers, asked.model, str(path)).encode())
        notes.append(f"{path} holds drafts: a clinician has to review them before they are used")
    missing = {answer.key: answer.reason for answer in asked.answers if not answer.accepted}
    return {
        "out": str(path) if accepted else None,
        "accepted": len(accepted),
        "rejected": len(missing),
        "reasons": missing,
        "this_run": asked.timing,
        "notes": [*notes, *(f"{name}: {reason}" for name, reason in missing.items())],
    }


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """What came of either job, for people."""
    lines = [f"{result['accepted']} accepted, {result['rejected']} rejected: {result['out']}"]
    if tokens := result.get("tokens"):
        cost = f", cost {result['cost']:.4g}" if result["cost"] is not None else ""
        lines.append(f"{tokens['input']} input and {tokens['output']} output tokens{cost}")
    run = result["this_run"]
    asked = run["questions"] - run["from_cache"]
    return [
        *lines,
        f"asked in this run: {asked} of {run['questions']}, the rest was in the cache",
    ]
