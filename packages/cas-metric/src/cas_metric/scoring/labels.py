"""One spelling for the labels of one class, over all sets of images of a question."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cas_metric.errors import InputError
from cas_metric.manifest.cleaning import unify_labels

if TYPE_CHECKING:
    from cas_metric.domains import Domain
    from cas_metric.manifest import Manifest


def same_labels(manifests: Iterable[Manifest], *, offline: bool = False) -> list[Manifest]:
    """The manifests with one spelling a class, by the pack that one names, else by case alone.

    For verbs that need no pack: labels that it does not know stay, and one that cannot be read
    changes nothing. What differed in case only is said in the notes of the first.

    Args:
        manifests: One at least.
        offline: Never use the network.
    """
    sets = list(manifests)
    if (domain := _pack(sets, offline)) is not None:
        sets = [_canonical(one, domain) for one in sets]
    (first, *others), told = unify_labels(sets)
    return [dataclasses.replace(first, notes=(*first.notes, *told)), *others]


def _pack(manifests: Sequence[Manifest], offline: bool) -> Domain | None:
    from cas_metric.domains import load_domain

    named = (one.config.domain for one in manifests if one.config is not None)
    spec = next((name for name in named if name), None)
    try:
        return load_domain(spec, offline=offline) if spec else None
    except InputError:
        return None


def _canonical(manifest: Manifest, domain: Domain) -> Manifest:
    names = {}
    for label in set(manifest.rows["label"]) - {""}:
        try:
            names[label] = domain.canonical(label)
        except InputError:
            continue
    rows = manifest.rows.assign(label=manifest.rows["label"].replace(names))
    return dataclasses.replace(manifest, rows=rows)
