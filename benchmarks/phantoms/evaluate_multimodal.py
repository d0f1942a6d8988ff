"""What phantom-llava says of phantoms that it has never met, beside what is true.

``python -m benchmarks.phantoms.evaluate_multimodal [--mllm SPEC] [--count N]`` puts the questions
of the packages, through the code that puts them, and prints a table of each.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.phantoms import questions as ask
from benchmarks.phantoms.corpus import HELD_OUT_SEED
from cas_metric.mllm import Answer, Request
from cas_metric.mllm.asking import Asking, put_questions
from cas_metric.mllm.labeller import read_report
from cas_metric.phantoms import DOMAINS, renderer
from cas_metric.statistics.graded import auroc
from cas_metric.statistics.tables import markdown_table
from craft_trainer.enrichment.questions import fields_of


def pictures(domain: str, count: int, folder: Path) -> list[tuple[ask.Picture, Path]]:
    """Held-out phantoms of all classes in turn, and their files."""
    classes = renderer(domain).classes
    found = []
    for number in range(count):
        label = classes[number % len(classes)]
        one = ask.picture(domain, label, "faithful", HELD_OUT_SEED, number)
        path = folder / f"{domain}-{number}.png"
        Image.fromarray(one.pixels).save(path)
        found.append((one, path))
    return found


def said(requests: Sequence[Request], mllm: str) -> list[Answer]:
    """The answers; a faulty one is not asked for again, since greedy decoding repeats it."""
    return list(put_questions(requests, Asking(mllm, repairs=0, cache="none")).answers)


def _shown(request: Request, path: Path) -> Request:
    return dataclasses.replace(request, images=(path,))


def facts_table(mllm: str, shown: dict[str, list[tuple[ask.Picture, Path]]]) -> str:
    """Stage 1: accepted answers, and each field of them."""
    lines = []
    for domain, some in shown.items():
        requests = [_shown(ask.describe(domain, one.spec.label), path) for one, path in some]
        answers = said(requests, mllm)
        right: dict[str, list[bool]] = defaultdict(list)
        for (one, _), answer in zip(some, answers, strict=True):
            told = fields_of(answer.value) if answer.accepted else {}
            for name, true in ask.described(one).items():
                right[name].append(_same(told.get(name), true))
        accepted = sum(answer.accepted for answer in answers)
        shares = ", ".join(f"{name} {np.mean(found):.2f}" for name, found in right.items())
        lines.append([domain, str(len(some)), f"{accepted / len(some):.2f}", shares])
    return markdown_table(["domain", "images", "accepted", "right, by field"], lines)


def _same(told: Any, true: Any) -> bool:
    return set(told) == set(true) if isinstance(told, list) else told == true


def items_table(mllm: str, shown: dict[str, list[tuple[ask.Picture, Path]]], seed: int) -> str:
    """Items of the own and of another checklist: verdicts, and P(yes)."""
    lines = []
    for domain, some in shown.items():
        rng = np.random.default_rng([seed, DOMAINS.index(domain)])
        pack, classes = ask.load_domain(domain), renderer(domain).classes
        own = [one.spec.label for one, _ in some]
        other = [str(rng.choice([c for c in classes if c != label])) for label in own]
        whole, single, truth = [], [], []
        for checklists in (own, other):
            for (one, path), checklist in zip(some, checklists, strict=True):
                whole.append(_shown(ask.audit(domain, checklist), path))
                single += [_shown(item, path) for item in ask.graded(domain, checklist)]
                truth += ask.items_present(pack, one.drawn, checklist)
        verdicts: list[bool | None] = []
        for request, answer in zip(whole, said(whole, mllm), strict=True):
            for name in request.schema.model_fields:
                told = getattr(answer.value, name).verdict if answer.accepted else None
                verdicts.append(None if told is None else told == "present")
        scores = [one.value.score for one in said(single, mllm)]
        right = np.mean([told == true for told, true in zip(verdicts, truth, strict=True)])
        certain = np.mean([(p >= 0.5) == true for p, true in zip(scores, truth, strict=True)])
        apart = auroc(np.array(scores), np.array(truth, dtype=float))
        cells = [f"{right:.2f}", f"{certain:.2f}", f"{apart:.3f}"]
        lines.append([domain, str(len(truth)), *cells])
    headings = ["domain", "items", "verdict right", "P(yes) on the right side", "AUROC of P(yes)"]
    return markdown_table(headings, lines)


def reports_table(mllm: str, shown: dict[str, list[tuple[ask.Picture, Path]]]) -> str:
    """Reports: whether the label, and it alone, is read off them."""
    lines = []
    for domain, some in shown.items():
        pack = ask.load_domain(domain)
        answers = said([_shown(ask.report(domain), path) for _, path in some], mllm)
        named = alone = 0
        for (one, _), answer in zip(some, answers, strict=True):
            if not answer.accepted:
                continue
            found = read_report(answer.value.findings, answer.value.impression, pack)
            present = [name for name, status in found.items() if status == "present"]
            named += one.spec.label in present
            alone += present == [one.spec.label]
        cells = [f"{named / len(some):.2f}", f"{alone / len(some):.2f}"]
        lines.append([domain, str(len(some)), *cells])
    return markdown_table(["domain", "images", "label named", "label alone"], lines)


def rankings_table(mllm: str, count: int, folder: Path) -> str:
    """Two candidates of different quality: how often the better one comes first."""
    lines = []
    for kinds in (("faithful", "wrong"), ("faithful", "damaged"), ("damaged", "wrong")):
        requests, truth = [], []
        for number in range(count):
            domain, label = ask.pairs()[number % len(ask.pairs())]
            others = [c for c in renderer(domain).classes if c != label]
            files = []
            for kind in kinds:
                drawn = others[number % len(others)] if kind == "wrong" else label
                kind_drawn = "faithful" if kind == "wrong" else kind
                one = ask.picture(domain, drawn, kind_drawn, HELD_OUT_SEED, 10_000 + number)
                files.append(folder / f"{kind}-{number}.png")
                Image.fromarray(one.pixels).save(files[-1])
            turned = number % 2
            order = tuple(reversed(files)) if turned else tuple(files)
            requests.append(dataclasses.replace(ask.judge(domain, label, 2), images=order))
            truth.append("AB"[turned])
        answers = said(requests, mllm)
        right = [
            a.accepted and a.value.ranking[0] == t for a, t in zip(answers, truth, strict=True)
        ]
        lines.append([f"{kinds[0]} above {kinds[1]}", str(count), f"{np.mean(right):.2f}"])
    return markdown_table(["pair", "questions", "better one first"], lines)


def drafts_table(mllm: str) -> str:
    """Checklists of classes by name alone."""
    lines = []
    for domain in DOMAINS:
        drafts = ask.draft(domain)
        answers = said(list(drafts.values()), mllm)
        same = sum(
            answer.accepted and answer.value.model_dump() == ask.drafted(domain, label)
            for label, answer in zip(drafts, answers, strict=True)
        )
        accepted = sum(answer.accepted for answer in answers)
        lines.append([domain, str(len(drafts)), str(accepted), str(same)])
    return markdown_table(["domain", "classes", "accepted", "word for word the pack's"], lines)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mllm", default="phantom-llava")
    parser.add_argument("--count", type=int, default=60, help="held-out phantoms of each domain")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shown = {domain: pictures(domain, options.count, folder) for domain in DOMAINS}
        for title, table in (
            ("Facts", lambda: facts_table(options.mllm, shown)),
            ("Items", lambda: items_table(options.mllm, shown, seed=0)),
            ("Reports", lambda: reports_table(options.mllm, shown)),
            ("Rankings", lambda: rankings_table(options.mllm, options.count, folder)),
            ("Checklists", lambda: drafts_table(options.mllm)),
        ):
            print(f"## {title}\n\n{table()}\n", flush=True)


if __name__ == "__main__":
    main()
