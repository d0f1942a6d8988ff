"""What is to be scored: manifests joined, completed from each other, and checked.

Everything that can be known without a model is settled here, so that a mistake in a table costs
seconds and not the time of an embedding run. All tables are put into a canonical order, so that
the order of a manifest's rows has no influence on any result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cas_metric.domains import Domain
from cas_metric.errors import InputError, PreflightError
from cas_metric.images import Window
from cas_metric.manifest import Manifest, preflight
from cas_metric.manifest.checks import row_problems
from cas_metric.manifest.cleaning import unify_labels
from cas_metric.manifest.pairing import match

#: Order of the rows of a run.
ORDER = ["method", "seed", "id"]

_FIX = "correct the manifests; every problem is listed above"
#: Of a set without any partner, most of whose images have none rather than a wrong one.
NO_PARTNER = (
    "; a column `reference` names each partner by id or file, and --unpaired does without (no SFS)"
)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Checked inputs of a scoring run.

    The tables have the columns of a manifest and ``path`` (absolute), ``class_index`` (-1 where
    the label is no class).

    Attributes:
        generated: One row an image to score, by method, seed and id; ``reference_row`` is the
            position of its partner in ``real``, -1 without one.
        real: The real images, by id.
        train: The real training split, by id; None where the probe comes from elsewhere.
        classes: What the probe tells apart.
        domain: Checklists and class names, where a domain pack is used.
        roots: Folder of the images of ``generated``, ``real`` and ``train``.
        windows: Display window of the images of each, where its ``cas.yaml`` prescribes one.
        notes: What a person should know about how the tables were read.
        by: Columns of attributes, such as sex, by which the images are to be grouped.
        pack: File that ``domain`` was read from; empty for one that is called by its name.
    """

    generated: pd.DataFrame
    real: pd.DataFrame
    train: pd.DataFrame | None
    classes: tuple[str, ...]
    domain: Domain | None
    roots: dict[str, str]
    windows: dict[str, Window | None]
    notes: tuple[str, ...] = field(default=())
    by: tuple[str, ...] = ()
    pack: str = ""

    @property
    def paired(self) -> bool:
        """Whether every generated image has its real partner."""
        return bool((self.generated["reference_row"] >= 0).all())

    @property
    def occurring(self) -> set[str]:
        """Classes that some image to be scored, generated or real, is of."""
        labels = pd.concat([self.generated["label"], self.real["label"]])
        return set(labels) & set(self.classes)

    def checklist(self, label: str) -> str:
        """t_c of a class; empty where there is none."""
        return self.domain.checklist_text(label) if self.domain is not None and label else ""


def prepare(
    generated: Manifest,
    real: Manifest,
    *,
    domain: Domain | None = None,
    train: Manifest | None = None,
    unpaired: bool = False,
    partial_train: bool = False,
    by: Sequence[str] = (),
) -> Inputs:
    """Join and check the manifests.

    A generated row without label, prompt or patient takes those of its partner, and a real row
    without a prompt that of its generated partners where they agree: all three belong to the case.

    Args:
        generated: Images to score.
        real: Their real partners.
        domain: Classes and checklists; without one the classes are the labels that occur.
        train: Real training split, for the probe.
        unpaired: Accept generated images without a partner; SFS and CAS then stay empty.
        partial_train: Accept a training split without images of some of the classes; their DD is 0.
        by: Attributes to keep beside each image; a generated one without takes its partner's.

    Raises:
        PreflightError: Lists everything that is wrong.
    """
    told: list[str] = []
    if domain is None:
        (generated, real, *trains), told = unify_labels(
            [generated, real, *([train] if train else [])]
        )
        train = trains[0] if trains else None
    matched = positions, unmatched = match(generated, real)
    generated, real, notes = _complete(generated, real, np.asarray(positions))
    notes = [*told, *notes]
    problems = preflight(generated, real, domain, matched=matched)
    if unpaired:
        problems = [line for line in problems if line not in set(unmatched)]
    if train is not None:
        problems += row_problems("train", train, domain)  # its keys pair with nothing
    if problems:
        alone = max(positions, default=0) < 0
        raise PreflightError(problems, fix=_FIX + (NO_PARTNER if alone else ""))
    classes = domain.class_names if domain else _labels(real, *([train] if train else []))
    partners = real.rows["id"].to_numpy(dtype=object)[positions]
    partners[np.asarray(positions) < 0] = ""
    further = _attributes(generated, real, positions, by)
    real_table = _table(real, domain, classes, further[1]).sort_values("id", ignore_index=True)
    row_of = {key: row for row, key in enumerate(real_table["id"])}
    table = _table(generated, domain, classes, further[0])
    table["reference_row"] = [row_of.get(key, -1) for key in partners]
    manifests = {"generated": generated, "real": real, "train": train}
    inputs = Inputs(
        generated=table.sort_values(ORDER, ignore_index=True, kind="stable"),
        real=real_table,
        train=_train_table(train, domain, classes),
        classes=classes,
        domain=domain,
        roots={name: str(one.root) for name, one in manifests.items() if one is not None},
        windows={name: one.window for name, one in manifests.items() if one is not None},
        notes=(*generated.notes, *real.notes, *(train.notes if train else ()), *notes),
        by=tuple(by),
    )
    _check_training(inputs, partial=partial_train)
    return dataclasses.replace(inputs, notes=(*inputs.notes, *unlabelled(inputs)))


def _check_training(inputs: Inputs, *, partial: bool) -> None:
    """Refuse a training split from which no probe, or one of too few classes, would come."""
    if inputs.train is None:
        return
    taught = set(inputs.train["label"]) & set(inputs.classes)
    if len(taught) < 2:
        raise InputError(
            f"the training split holds images of {len(taught)} of the {len(inputs.classes)} "
            "classes: no probe can be fitted on it",
            fix="give --train a folder or table with a `label` of at least two classes",
        )
    lacking = sorted(inputs.occurring - taught)
    if lacking and not partial:
        raise InputError(
            f"the training split has no image of {', '.join(lacking)}: their DD would be 0 "
            "whatever the images show",
            fix="add such images, or accept it as a departure from the protocol with "
            "--partial-train",
        )


def unlabelled(inputs: Inputs) -> list[str]:
    """A note where images have no label, and so neither DD nor CCS."""
    tables = {"generated": inputs.generated, "real": inputs.real}
    return [
        f"{count} of {len(table)} {name} images have no label: no DD and no CCS, and so no CAS"
        for name, table in tables.items()
        if (count := int((table["label"] == "").sum()))
    ]


def select(manifest: Manifest, method: str | None, seed: int | None) -> Manifest:
    """Name a generated set, or take one out of a manifest that holds several.

    Rows without a method or seed get the one given; a method is called after the folder of the
    images where none is given. Rows of another method or seed are left out.

    Raises:
        InputError: No row is left.
    """
    rows = manifest.rows.copy()
    rows["method"] = rows["method"].where(rows["method"] != "", method or manifest.name)
    if seed is not None:
        rows["seed"] = rows["seed"].fillna(seed)
    kept = np.ones(len(rows), dtype=bool)
    if method is not None:
        kept &= (rows["method"] == method).to_numpy()
    if seed is not None:
        kept &= (rows["seed"] == seed).to_numpy(dtype=bool)
    if not kept.any():
        present = rows[["method", "seed"]].drop_duplicates().itertuples(index=False)
        listed = ", ".join(
            name if pd.isna(number) else f"{name} (seed {number})" for name, number in present
        )
        wanted = [f"method {method!r}"] if method is not None else []
        wanted += [f"seed {seed}"] if seed is not None else []
        raise InputError(
            f"no generated image is of {' and '.join(wanted)}",
            fix=f"the manifest holds: {listed}",
        )
    return dataclasses.replace(manifest, rows=rows).take(np.flatnonzero(kept))


def _complete(
    generated: Manifest, real: Manifest, positions: np.ndarray
) -> tuple[Manifest, Manifest, list[str]]:
    """Fill what belongs to the case from the other side of each pair, and say so."""
    rows, partners, notes = generated.rows.copy(), real.rows.copy(), []
    known = positions >= 0
    for name in ("label", "prompt", "patient"):
        theirs = partners[name].to_numpy(dtype=object)[positions]
        empty = known & (rows[name] == "").to_numpy() & (theirs != "")
        rows.loc[empty, name] = theirs[empty]
        if empty.any():
            notes.append(f"{empty.sum()} generated images take the {name} of their real partner")
    filled = 0
    prompts = rows.loc[known].groupby(positions[known])["prompt"]
    for position, distinct in prompts.unique().items():
        if partners["prompt"].iloc[position] == "" and len(distinct) == 1 and distinct[0]:
            partners.loc[partners.index[position], "prompt"] = distinct[0]
            filled += 1
    if filled:
        notes.append(f"{filled} real images take the prompt of their generated partners")
    return (
        dataclasses.replace(generated, rows=rows),
        dataclasses.replace(real, rows=partners),
        notes,
    )


def _attributes(
    generated: Manifest, real: Manifest, positions: Sequence[int], by: Sequence[str]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Columns to group by, of both tables; None where nothing is grouped."""
    if not by:
        return None, None
    from cas_metric.manifest.attributes import attribute_columns

    return attribute_columns(generated, real, positions, by)


def _table(
    manifest: Manifest,
    domain: Domain | None,
    classes: tuple[str, ...],
    further: pd.DataFrame | None = None,
) -> pd.DataFrame:
    table = manifest.rows.reset_index(drop=True).assign(path=manifest.paths())
    if further is not None:
        table = table.assign(
            **{name: further[name].to_numpy() for name in further if name not in table}
        )
    if domain is not None:
        names = {label: domain.canonical(label) for label in table["label"].unique()}
        table["label"] = table["label"].map(names)
    index = {name: position for position, name in enumerate(classes)}
    table["class_index"] = [index.get(label, -1) for label in table["label"]]
    return table


def _train_table(
    train: Manifest | None, domain: Domain | None, classes: tuple[str, ...]
) -> pd.DataFrame | None:
    if train is None:
        return None
    return _table(train, domain, classes).sort_values(["id", "image"], ignore_index=True)


def _labels(*manifests: Manifest) -> tuple[str, ...]:
    found: set[str] = set()
    for manifest in manifests:
        found |= set(manifest.rows["label"]) - {""}
    return tuple(sorted(found))
