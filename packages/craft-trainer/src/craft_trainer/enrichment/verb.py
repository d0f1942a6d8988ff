"""The two jobs of ``craft-trainer enrich``: prompts for images, and drafts of checklists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.mllm import Answer, Price, Request
from craft_trainer.enrichment.checklists import draft_pack, questions_for_checklists
from craft_trainer.enrichment.questions import question
from craft_trainer.enrichment.results import Enrichment, write_enrichment
from craft_trainer.enrichment.rows import read_rows

#: Told what a user should know, a line each.
Tell = Callable[[Sequence[str]], None]


class Asked(Protocol):
    """Answers, who gave them, and what that took."""

    answers: Sequence[Answer]
    model: dict[str, Any]
    notes: tuple[str, ...]
    timing: dict[str, Any]


class Ask(Protocol):
    """Puts questions to a model; ``what`` is what is counted, e.g. ``images``."""

    def __call__(self, requests: Sequence[Request], *, what: str) -> Any:
        """One answer a request."""


def enrich_prompts(
    train: Path,
    out: Path,
    ask: Ask,
    *,
    domain: str | None = None,
    label_only: bool = False,
    limit: int | None = None,
    price: Price | None = None,
    tell: Tell = lambda notes: None,
) -> dict[str, Any]:
    """Have every image described under its label, and write a manifest of what is accepted.

    Args:
        train: Manifest or folder of the images and labels.
        out: Folder for the results: see :func:`write_enrichment`.
        ask: Puts the questions.
        domain: Domain pack; by default what the folder's cas.yaml names.
        label_only: Whether a typical image of each label is described, without looking at any.
        limit: Only the first images.
        price: Of tokens, where it is known.
        tell: Told what was noticed in the manifest.

    Returns:
        Counts, tokens and cost, as plain values.

    Raises:
        CasError: Rows or domain must be corrected, or the model is not available.
    """
    rows = read_rows(train, domain, with_images=not label_only, limit=limit)
    tell(rows.manifest.notes)
    keys = rows.manifest.rows["id"]
    requests = [
        question(key, label, rows.schema, None if label_only else path, window=rows.manifest.window)
        for key, label, path in zip(keys, rows.labels, rows.paths, strict=True)
    ]
    asked: Asked = ask(requests, what="images")
    enrichment = Enrichment(
        rows, requests, asked.answers, asked.model, asked.notes, label_only, price
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
    }


def draft_checklists(
    domain: str | None, out: Path, ask: Ask, *, tell: Tell = lambda notes: None
) -> dict[str, Any]:
    """Have a checklist drafted for every class without one, and write the pack with the drafts.

    Raises:
        CasError: No domain is named, every class has a checklist, or the model is not available.
    """
    if not domain:
        raise InputError("--checklists needs a pack to write for", fix="name it with --domain")
    pack = load_domain(domain)
    requests = questions_for_checklists(pack)
    if not requests:
        raise InputError(
            f"every class of the domain {pack.name!r} has a checklist",
            fix="remove those that are to be drafted anew from a copy of the pack",
        )
    asked: Asked = ask(requests, what="classes")
    path = out / f"{pack.name}.yaml"
    accepted = [answer for answer in asked.answers if answer.accepted]
    if accepted:
        write_bytes(path, draft_pack(pack, asked.answers, asked.model, str(path)).encode())
        tell([f"{path} holds drafts: a clinician has to review them before they are used"])
    missing = {answer.key: answer.reason for answer in asked.answers if not answer.accepted}
    tell([f"{name}: {reason}" for name, reason in missing.items()])
    return {
        "out": str(path) if accepted else None,
        "accepted": len(accepted),
        "rejected": len(missing),
        "reasons": missing,
        "this_run": asked.timing,
    }


def require_one_job(train: Path | None, *, checklists: bool) -> None:
    """Refuse to do neither job, or both.

    Raises:
        InputError: Images are named and checklists asked for, or neither.
    """
    if checklists == (train is not None):
        raise InputError(
            "--checklists drafts for a domain pack and takes no TRAIN"
            if checklists
            else "no images are named",
            fix="craft-trainer enrich TRAIN …, or craft-trainer enrich --checklists --domain …",
        )


def price_of(price_in: float | None, price_out: float | None) -> Price | None:
    """Price of a million tokens each way; InputError where one of two is given."""
    if (price_in is None) != (price_out is None):
        raise InputError("one price of two is given", fix="give both --price-in and --price-out")
    return None if price_in is None or price_out is None else Price(price_in, price_out)


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
