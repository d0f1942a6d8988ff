"""Everything that is wrong with the inputs, found before any model is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

from cas_metric.errors import CasError, InputError, MissingDependency
from cas_metric.images import probe_header
from cas_metric.manifest.pairing import Matched, duplicates, match
from cas_metric.manifest.rows import Manifest

if TYPE_CHECKING:
    from cas_metric.domains import Domain

#: Text that a missing number turns into on its way through a table.
NAN_SPELLINGS = frozenset({"nan", "<na>", "none", "null"})


def preflight(
    generated: Manifest, real: Manifest, domain: Domain | None, *, matched: Matched | None = None
) -> list[str]:
    """List every problem of a pair of manifests, one line each; empty if there is none.

    Files that exist but cannot be decoded are no problem here: they become failed rows.

    Args:
        generated: Images to score.
        real: Their real partners.
        domain: Classes and checklists that the labels must belong to; None leaves labels as they
            are.
        matched: What :func:`~cas_metric.manifest.pairing.match` found, where that is known already.

    Examples:
        >>> import pandas as pd
        >>> from cas_metric.manifest import as_manifest
        >>> images = as_manifest(pd.DataFrame({"image": ["a.png"]}), root="nowhere")
        >>> [line.split(":")[1].strip() for line in preflight(images, images, None)]
        ['no such file', 'no such file']
    """
    problems: list[str] = []
    for side, manifest in (("generated", generated), ("real", real)):
        problems += row_problems(side, manifest, domain)
    problems += duplicates(generated, real)
    positions, unmatched = matched or match(generated, real)
    problems += unmatched
    problems += _contradictions(generated, real, positions, domain)
    return problems


def row_problems(side: str, manifest: Manifest, domain: Domain | None) -> list[str]:
    """The problems of one manifest by itself: files, missing values in disguise, labels.

    Args:
        side: What each line calls the manifest.
        manifest: Images of any kind.
        domain: See :func:`preflight`.
    """
    problems = [*_file_problems(side, manifest), *_nan_problems(side, manifest, domain)]
    if domain is not None:
        problems += _label_problems(side, manifest, domain)
    return problems


def _file_problems(side: str, manifest: Manifest) -> Iterator[str]:
    """Missing files, paths that lead out of the folder, formats without their reader."""
    probed: set[str] = set()
    for row, key in enumerate(manifest.rows["id"]):
        try:
            path = manifest.path(row)
            if not path.is_file():
                yield f"{side} {key!r}: no such file: {path}"
                continue
        except (CasError, OSError, ValueError) as error:
            yield f"{side} {key!r}: {getattr(error, 'problem', error)}"
            continue
        if path.suffix.lower() not in probed:  # one file of a kind tells whether its reader is here
            probed.add(path.suffix.lower())
            try:
                probe_header(path)
            except MissingDependency as error:
                yield f"{side} {key!r}: {error.problem}; {error.fix}"
            except CasError:
                pass


def _nan_problems(side: str, manifest: Manifest, domain: Domain | None) -> Iterator[str]:
    """Missing values that were written as text; a class of the domain may be called so."""
    for name in ("id", "label", "prompt", "reference"):
        spelt = manifest.rows[name].str.lower().isin(NAN_SPELLINGS)
        for key, value in manifest.rows.loc[spelt, ["id", name]].itertuples(index=False):
            if name == "label" and domain is not None and _canonical(domain, value):
                continue
            way = "; a class of that name needs a --domain with it" if name == "label" else ""
            yield f"{side} {key!r}: {name} is {value!r}, a missing value in disguise{way}"


def _label_problems(side: str, manifest: Manifest, domain: Domain) -> Iterator[str]:
    """Labels that are missing, unknown, or without the checklist that other classes have."""
    has_checklists = any(domain.checklist_text(name) for name in domain.class_names)
    folders = _labels_are_folders(manifest)
    for label, rows in manifest.rows.groupby("label", sort=True):
        where = f"{len(rows)} images, first {rows['id'].iloc[0]!r}"
        if not label:
            yield f"{side}: no label ({where})"
            continue
        canonical = _canonical(domain, label)
        if canonical is None:
            near = difflib.get_close_matches(label, domain.class_names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else folders
            yield f"{side}: unknown label {label!r} in domain {domain.name} ({where}){hint}"
        elif has_checklists and not domain.checklist_text(canonical):
            yield f"{side}: label {label!r} has no checklist in domain {domain.name} ({where})"


def _labels_are_folders(manifest: Manifest) -> str:
    """What to do where folders of methods were taken for labels."""
    images, labels = manifest.rows["image"], manifest.rows["label"]
    if not all(i.startswith(f"{label}/") for i, label in zip(images, labels, strict=True)):
        return ""
    return "; the folders are taken for labels: if they are methods, name them METHOD/seed-0/"


def _contradictions(
    generated: Manifest, real: Manifest, positions: list[int], domain: Domain | None
) -> Iterator[str]:
    """Generated images whose label differs from that of their reference."""
    labels = zip(generated.rows["id"], generated.rows["label"], positions, strict=True)
    of_real = real.rows["label"].tolist()
    same = cache(partial(_same, domain))
    for key, label, position in labels:
        if position < 0 or not label:
            continue
        theirs = of_real[position]
        if theirs and same(label) != same(theirs):
            yield f"generated {key!r}: label {label!r}, but its reference is {theirs!r}"


def _same(domain: Domain | None, label: str) -> str:
    return label if domain is None else _canonical(domain, label) or label


def _canonical(domain: Domain, label: str) -> str | None:
    try:
        return domain.canonical(label)
    except InputError:
        return None
