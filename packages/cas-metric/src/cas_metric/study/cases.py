"""Which images stand side by side: cases joined by key over all methods, drawn by label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import Manifest, pair
from cas_metric.scoring.inputs import select
from cas_metric.scoring.labels import same_labels

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.images import Window

#: Raters cannot order more images of one case with care, and keys reach 1 to 9.
MAX_CANDIDATES: Final = 9
#: How the real image is called when it is ranked along.
REAL_METHOD: Final = "real"


@dataclass(frozen=True)
class Candidate:
    """One image to rank.

    Attributes:
        method: Which generator made it; never shown.
        path: Original file; never shown.
        window: Display window that its folder prescribes.
    """

    method: str
    path: Path
    window: Window | None = None


@dataclass(frozen=True)
class Case:
    """Images of one case, one a method.

    Attributes:
        key: Identity over all methods: id of the real partner, else ``reference`` or ``id``.
        label: Target diagnosis.
        candidates: In the order of the methods.
        prompt: What the images were made from, where raters may see it.
        reference: Real image that is shown beside, to compare with.
        kind: ``main``, ``practice`` or ``repeat``.
        origin: Key before the case was repeated or taken apart; empty where it is the key.
    """

    key: str
    label: str
    candidates: tuple[Candidate, ...]
    prompt: str = ""
    reference: Candidate | None = None
    kind: str = "main"
    origin: str = ""

    @property
    def source(self) -> str:
        """Identity over repetitions: what the export calls the case."""
        return self.origin or self.key


def collect_cases(
    sets: Sequence[tuple[str | None, Manifest]],
    real: Manifest | None = None,
    *,
    rank_real: bool = False,
    show_real: bool = False,
    show_prompt: bool = False,
    seed: int = 0,
) -> tuple[list[Case], list[str]]:
    """Join the methods' images by case.

    Args:
        sets: Method and its images; without a name, a manifest that holds several methods.
        real: Real images. Cases are then theirs (:func:`cas_metric.manifest.pair`), and generated
            rows without a label take that of their partner.
        rank_real: Let the real image be ranked along, as the method ``real``.
        show_real: Show the real image beside, to compare with.
        show_prompt: Show the prompt, which has to be one for all images of a case.
        seed: Chooses among several images (generation seeds) of one method and case.

    Returns:
        The cases of which every method has an image, by key; and what was left out, a sentence
        each.

    Raises:
        InputError: Fewer than two methods, more than :data:`MAX_CANDIDATES`, one of them given
            twice, no case that all have, or real images that are to be ranked and shown at once.
        PreflightError: Rows without a partner or a label, and cases with two labels or prompts.
    """
    rng = np.random.default_rng(seed)
    tables = _by_method(sets)
    named, partners = list(tables), [] if real is None else [real]
    alike = same_labels([*tables.values(), *partners]) if tables else []
    tables = dict(zip(named, alike, strict=False))
    real = alike[-1] if partners and alike else real
    names = [*tables, REAL_METHOD] if rank_real else list(tables)
    _check_methods(names, real, rank_real, show_real)
    found: dict[str, dict[str, Candidate]] = defaultdict(dict)
    labels: dict[str, set[str]] = defaultdict(set)
    prompts: dict[str, set[str]] = defaultdict(set)
    shown = {} if real is None else _real_images(real)
    for method, manifest in tables.items():
        rows = _keyed(manifest, real)
        # By key and id, so that the order of a manifest's rows chooses nothing.
        for key, members in rows.sort_values(["key", "seed", "id"]).groupby("key", sort=True):
            row = members.iloc[int(rng.integers(len(members)))]
            path = manifest.path(int(row["row"]))
            found[str(key)][method] = Candidate(method, path, manifest.window)
            labels[str(key)] |= set(members["target"])
            prompts[str(key)].add(str(row["prompt"]))
    if rank_real:
        for key in found:
            found[key][REAL_METHOD] = shown[key]
    complete = sorted(key for key, images in found.items() if len(images) == len(names))
    if not complete:
        raise _nothing_shared(found, names)
    _check_labels({key: labels[key] for key in complete})
    if show_prompt:
        _check_prompts({key: prompts[key] for key in complete})
    notes = [note for manifest in tables.values() for note in manifest.notes]
    if left := len(found) - len(complete):
        notes.append(f"{left} cases are left out because some method has no image of them")
    cases = [
        Case(
            key,
            next(iter(labels[key])),
            tuple(found[key][name] for name in names),
            prompt=next(iter(prompts[key])) if show_prompt else "",
            reference=shown[key] if show_real else None,
        )
        for key in complete
    ]
    return cases, notes


def _real_images(real: Manifest) -> dict[str, Candidate]:
    return {
        str(key): Candidate(REAL_METHOD, real.path(row), real.window)
        for row, key in enumerate(real.rows["id"])
    }


def draw_cases(
    cases: Sequence[Case], count: int, seed: int, *, balanced: bool = False
) -> list[Case]:
    """Draw ``count`` cases, stratified by label, without replacement.

    Args:
        cases: To draw from.
        count: How many.
        seed: Seeds the draw.
        balanced: As many of each label as can be had, in place of the labels' own proportions.

    Raises:
        InputError: There are fewer than ``count``.
    """
    if count > len(cases):
        raise InputError(
            f"{count} cases were asked for, but all methods share only {len(cases)}",
            fix=f"use at most --cases {len(cases)}, or generate the missing images",
        )
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.key):
        by_label[case.label].append(case)
    available = {label: len(by_label[label]) for label in sorted(by_label)}
    quotas = _equal_shares(available, count) if balanced else allocate(available, count)
    drawn = [
        by_label[label][i]
        for label, quota in quotas.items()
        for i in rng.permutation(available[label])[:quota]
    ]
    return sorted(drawn, key=lambda case: case.key)


def with_window(cases: Sequence[Case], window: Window) -> list[Case]:
    """The same cases, every image of which is shown through one window."""
    return [
        replace(
            case,
            candidates=tuple(replace(one, window=window) for one in case.candidates),
            reference=replace(case.reference, window=window) if case.reference else None,
        )
        for case in cases
    ]


def allocate(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide ``total`` in proportion to ``available``, by largest remainder; ties by order."""
    size = sum(available.values())
    quotas = {label: total * n // size for label, n in available.items()}
    remainders = sorted(available, key=lambda label: -(total * available[label] % size))
    for label in remainders[: total - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _equal_shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Hand out one case a label in turn, until ``total`` are given."""
    quotas = dict.fromkeys(available, 0)
    while sum(quotas.values()) < total:
        for label in available:
            if quotas[label] < available[label] and sum(quotas.values()) < total:
                quotas[label] += 1
    return quotas


def _by_method(sets: Sequence[tuple[str | None, Manifest]]) -> dict[str, Manifest]:
    tables: dict[str, Manifest] = {}
    for name, manifest in sets:
        named = _named(manifest, name)
        for method in dict.fromkeys(named.rows["method"]):
            if method in tables:
                raise InputError(
                    f"the method {method!r} is given twice",
                    fix="name every set differently: METHOD=GEN",
                )
            tables[method] = select(named, method, None)
    return tables


def _named(manifest: Manifest, name: str | None) -> Manifest:
    """The images of ``name``; a manifest of one method is called what the caller calls it."""
    if name is not None and len(set(manifest.rows["method"])) == 1:
        return replace(manifest, rows=manifest.rows.assign(method=name))
    return select(manifest, name, None)


def _check_methods(
    names: Sequence[str], real: Manifest | None, rank_real: bool, show_real: bool
) -> None:
    if (rank_real or show_real) and real is None:
        option = "--rank-real" if rank_real else "--show-real"
        raise InputError(f"{option} without real images", fix="name them with --real")
    if rank_real and show_real:
        raise InputError(
            "--show-real would give away which image --rank-real put among the others",
            fix="choose one of them",
        )
    if len(set(names)) < len(names):
        raise InputError(f"a method is called {REAL_METHOD!r} already", fix="rename that set")
    if not 2 <= len(names) <= MAX_CANDIDATES:
        raise InputError(
            f"{len(names)} methods to rank ({', '.join(names)})",
            fix=f"name two to {MAX_CANDIDATES}, each as METHOD=GEN",
        )


def _keyed(manifest: Manifest, real: Manifest | None) -> pd.DataFrame:
    """The rows with ``key``, ``target`` (label) and ``row`` (position in the manifest)."""
    if real is None:
        rows = manifest.rows.copy()
        rows["key"] = rows["reference"].where(rows["reference"] != "", rows["id"])
        rows["target"] = rows["label"]
    else:
        rows = pair(manifest, real)
        rows["key"] = rows["reference_id"]
        rows["target"] = rows["label"].where(rows["label"] != "", rows["reference_label"])
    return rows.assign(row=range(len(rows)))


def _check_labels(labels: Mapping[str, set[str]]) -> None:
    problems = [
        f"case {key!r}: "
        + (f"labels {', '.join(sorted(map(repr, found)))}" if any(found) else "no label")
        for key, found in labels.items()
        if len(found) > 1 or not any(found)
    ]
    if problems:
        raise PreflightError(
            problems, fix="give every case one label: it is the target diagnosis that raters see"
        )


def _check_prompts(prompts: Mapping[str, set[str]]) -> None:
    problems = [
        f"case {key!r}: " + (f"{len(found)} prompts" if any(found) else "no prompt")
        for key, found in prompts.items()
        if len(found) > 1 or not any(found)
    ]
    if problems:
        raise PreflightError(
            problems,
            fix="leave --show-prompt out: a prompt of its own would give a method away",
        )


def _nothing_shared(
    found: Mapping[str, Mapping[str, Candidate]], names: Sequence[str]
) -> InputError:
    held = Counter(method for images in found.values() for method in images)
    example = {
        name: next((key for key, images in found.items() if name in images), "-") for name in names
    }
    keys = "; ".join(f"{name}: {held[name]} cases, such as {example[name]!r}" for name in names)
    return InputError(
        f"no case has an image of every method ({keys})",
        fix="give images of one case the same `reference` (or id) in every method's manifest",
    )
