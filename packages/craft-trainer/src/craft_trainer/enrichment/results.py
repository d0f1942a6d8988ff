"""What an enrichment leaves behind: a manifest that trains and scores, and all that is known of it.

``metadata.csv``, ``cas.yaml``   accepted rows with their prompts; the images stay where they are
``answers.jsonl``                the fields of each accepted answer
``rejected.csv``                 every other row, and why
``provenance.json``              model, wording, schema, counts, tokens, cost
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from cas_metric.errors import InputError
from cas_metric.files import require_local, require_writable, to_json, write_bytes
from cas_metric.manifest import (
    FolderConfig,
    read_folder_config,
    write_folder_config,
    write_manifest,
)
from cas_metric.manifest.config import CONFIG_NAME
from cas_metric.mllm import Answer, Outcome, Price, Request, Usage
from craft_trainer.enrichment.questions import digest, enriched_prompt, fields_of, wording
from craft_trainer.enrichment.rows import TrainingRows

METADATA: Final = "metadata.csv"
ANSWERS: Final = "answers.jsonl"
REJECTED: Final = "rejected.csv"
PROVENANCE: Final = "provenance.json"

#: Columns of ``rejected.csv``.
REJECTED_COLUMNS: Final = ("id", "image", "label", "outcome", "reason", "attempts", "last_answer")


@dataclass(frozen=True)
class Enrichment:
    """Answers to the questions about some rows.

    Attributes:
        rows: The rows.
        requests: One a row.
        answers: One a row.
        model: Identity of who answered.
        notes: What the model's server did not take.
        label_only: Whether the images were left out.
        price: Of tokens, where it is known.
    """

    rows: TrainingRows
    requests: Sequence[Request]
    answers: Sequence[Answer]
    model: Mapping[str, Any]
    notes: Sequence[str] = ()
    label_only: bool = False
    price: Price | None = None

    @property
    def accepted(self) -> list[int]:
        """Positions of the rows that have a prompt now."""
        return [row for row, answer in enumerate(self.answers) if answer.accepted]

    @property
    def rejected(self) -> list[int]:
        """Positions of the others."""
        return [row for row, answer in enumerate(self.answers) if not answer.accepted]

    def prompt(self, row: int) -> str:
        """t_ep of an accepted row."""
        return enriched_prompt(self.rows.schema, self.answers[row].value, self.rows.labels[row])


def require_place(rows: TrainingRows, source: Path, out: Path) -> None:
    """Refuse a folder in which something would be lost, before a model is asked.

    Args:
        rows: That are to be described.
        source: What they were read from.
        out: Where the answers are to go.

    Raises:
        InputError: Nothing can be written there, it is the source, or its table or ``cas.yaml``
            comes from no enrichment of images of the same folder.
    """
    require_writable(require_local(out))
    if source.resolve() in (out.resolve(), (out / METADATA).resolve()):
        raise InputError(f"{out} is the source, whose rows would be lost", fix="give another --out")
    there = [name for name in (METADATA, CONFIG_NAME) if (out / name).exists()]
    made = read_folder_config(out) or FolderConfig()
    root = made.root.resolve() if made.root and "prompts" in made.provenance else None
    if there and root != rows.manifest.root.resolve():
        raise InputError(
            f"{out} holds {' and '.join(there)}, which no enrichment of {rows.manifest.root} wrote",
            fix="give another --out",
        )


def write_enrichment(enrichment: Enrichment, out: Path) -> dict[str, Any]:
    """Write all files into ``out``; the same answers give the same bytes.

    Returns:
        The provenance.

    Raises:
        CasError: The folder cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    provenance = describe(enrichment)
    _write_manifest(enrichment, out, provenance)
    write_bytes(out / ANSWERS, _answers(enrichment).encode())
    write_bytes(out / REJECTED, _rejected(enrichment).encode())
    write_bytes(out / PROVENANCE, to_json(provenance).encode())
    return provenance


def describe(enrichment: Enrichment) -> dict[str, Any]:
    """How the prompts came about; no time and no path, so that it can be compared."""
    from importlib.metadata import version

    rows, answers = enrichment.rows, enrichment.answers
    by_label = dict(zip(rows.labels, enrichment.requests, strict=True))
    spent = sum((answer.whole_usage for answer in _asked_once(enrichment)), Usage())
    outcomes = Counter(answer.outcome for answer in answers)
    return {
        "stage": "prompt enrichment (§3.1, Appendix B)",
        "model": dict(enrichment.model),
        "notes": list(enrichment.notes),
        "source": "label" if enrichment.label_only else "image and label",
        "domain": rows.domain.name,
        "wording": wording(by_label),
        "wording_sha256": digest(by_label),
        "prompt_template": list(rows.schema.template),
        "counts": {
            "images": len(answers),
            **{outcome: outcomes[outcome] for outcome in get_args(Outcome)},
            "repaired": sum(answer.accepted and answer.attempts > 1 for answer in answers),
        },
        "labels": {
            label: {
                "images": rows.labels.count(label),
                "accepted": sum(rows.labels[row] == label for row in enrichment.accepted),
            }
            for label in sorted(by_label)
        },
        "tokens": {"input": spent.input_tokens, "output": spent.output_tokens},
        "cost": enrichment.price.of(spent) if enrichment.price else None,
        "price_per_million": vars(enrichment.price) if enrichment.price else None,
        "versions": {name: version(name) for name in ("cas-metric", "craft-trainer")},
    }


def _asked_once(enrichment: Enrichment) -> list[Answer]:
    """One answer of every group of equal questions: a class's only one, without images."""
    if not enrichment.label_only:
        return list(enrichment.answers)
    return list(dict(zip(enrichment.rows.labels, enrichment.answers, strict=True)).values())


def _write_manifest(enrichment: Enrichment, out: Path, provenance: Mapping[str, Any]) -> None:
    """The accepted rows as a folder's manifest, whose images lie where they lay."""
    if not enrichment.accepted:
        (out / METADATA).unlink(missing_ok=True)
        return
    manifest = enrichment.rows.manifest.take(enrichment.accepted)
    prompts = [enrichment.prompt(row) for row in enrichment.accepted]
    config = manifest.config or FolderConfig()
    made = {name: provenance[name] for name in ("stage", "model", "source", "wording_sha256")}
    update = {
        "domain": enrichment.rows.spec,
        "root": manifest.root,
        "provenance": {**config.provenance, "prompts": made},
    }
    write_folder_config(out, config.model_copy(update=update))  # first: it says whose folder it is
    write_manifest(manifest.rows.assign(prompt=prompts), out, extra=manifest.extra)


def _answers(enrichment: Enrichment) -> str:
    ids = enrichment.rows.manifest.rows["id"].tolist()
    lines = [
        {
            "id": ids[row],
            "label": enrichment.rows.labels[row],
            "answer": fields_of(enrichment.answers[row].value),
            "prompt": enrichment.prompt(row),
            "attempts": enrichment.answers[row].attempts,
        }
        for row in enrichment.accepted
    ]
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def _rejected(enrichment: Enrichment) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(REJECTED_COLUMNS)
    rows = enrichment.rows.manifest.rows
    for row in enrichment.rejected:
        answer = enrichment.answers[row]
        # A model's text may hold halves of surrogates, which no file can.
        said = answer.text.encode("utf-8", "backslashreplace").decode()
        writer.writerow(
            [
                *(rows["id"].iloc[row], rows["image"].iloc[row], enrichment.rows.labels[row]),
                *(answer.outcome, answer.reason, answer.attempts, said),
            ]
        )
    return table.getvalue()
