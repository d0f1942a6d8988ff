"""Data sets of phantoms on disk, real-like splits and generated sets of known quality.

Every folder holds ``images/``, ``metadata.csv``, ``cas.yaml`` and ``specs.jsonl`` (the truth about
each image). A folder appears complete or not at all: it is written beside its place and moved
there at the end. Writing the same folder again does nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from cas_metric import __version__
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.errors import CasError, InputError
from cas_metric.manifest import FolderConfig, read_folder_config, write_folder_config
from cas_metric.phantoms import canonical_domain, failures, generator, render_phantom, renderer
from cas_metric.phantoms.base import FindingSpec, Phantom, Renderer
from cas_metric.runs.folder import differences

#: (train, test) images of each class in the paper's subsets: Tables 19, 20, 21 and 22. The
#: training column of Table 19 adds up to 3,091, not to the 3,100 that it states.
PAPER_COUNTS: Final[dict[str, dict[str, tuple[int, int]]]] = {
    f"phantom-{name}": table.rows for name, table in LABEL_TABLES.items()
}
SPLITS: Final = ("train", "test")

#: What a generator of each kind does: (failure, severity range), one drawn for each image.
_KINDS: Final[dict[str, tuple[tuple[str, tuple[float, float]], ...]]] = {
    "faithful": (),
    "degraded": (
        ("blur", (0.25, 0.70)),
        ("noise", (0.25, 0.80)),
        ("low_contrast", (0.40, 0.85)),
        ("exaggeration", (0.30, 0.80)),
    ),
    "wrong": (
        ("wrong_class", (1.0, 1.0)),
        ("wrong_class", (1.0, 1.0)),
        ("missing_finding", (1.0, 1.0)),
    ),
}
KINDS: Final = tuple(_KINDS)

#: Called after each image.
Advance = Callable[[], None]
#: One image and its row in ``metadata.csv``.
Item = tuple[Phantom, dict[str, Any]]


def paper_size(domain: str, split: str) -> int:
    """How many images the paper's subset of a domain has in ``train`` or ``test``."""
    column = SPLITS.index(split)
    return sum(counts[column] for counts in _paper_counts(canonical_domain(domain)).values())


def _paper_counts(domain: str) -> dict[str, tuple[int, int]]:
    """Of a domain that the paper does not have: 100 images of each class in either split."""
    return PAPER_COUNTS.get(domain) or dict.fromkeys(renderer(domain).classes, (100, 100))


def class_counts(domain: str, total: int, split: str, *, balanced: bool = False) -> dict[str, int]:
    """Images of each class: the paper's proportions (Tables 19-22), or uniform.

    Rounded by largest remainder, so that the counts add up to ``total``; every class has at least
    one image.

    Raises:
        InputError: ``total`` is smaller than the number of classes.
    """
    domain = canonical_domain(domain)
    classes = renderer(domain).classes
    if total < len(classes):
        raise InputError(
            f"{total} images cannot show the {len(classes)} classes of {domain}",
            fix=f"ask for at least {len(classes)}",
        )
    column = SPLITS.index(split)
    known = _paper_counts(domain)
    share = np.array([1 if balanced else known[c][column] for c in classes], float)
    exact = share / share.sum() * total
    counts = np.maximum(np.floor(exact), 1).astype(int)
    while counts.sum() != total:  # at most one step a class
        step = int(np.sign(total - counts.sum()))
        gap = (exact - counts) * step
        counts[int(np.argmax(np.where((counts > 1) | (step > 0), gap, -np.inf)))] += step
    return dict(zip(classes, counts.tolist(), strict=True))


def write_phantom_dataset(
    domain: str,
    out: str | Path,
    *,
    train: int,
    test: int,
    seed: int = 0,
    size: int = 64,
    balanced: bool = False,
    advance: Advance = lambda: None,
) -> dict[str, Path]:
    """Write ``out/train`` and ``out/test``.

    Args:
        domain: Phantom domain, with or without its prefix.
        out: Folder of both splits.
        train: Images in the training split.
        test: Images in the test split.
        seed: Another seed gives other phantoms.
        size: Side of the images in pixels.
        balanced: Uniform classes instead of the paper's proportions.
        advance: Called after each image.

    Returns:
        Split to folder.

    Raises:
        InputError: Unknown domain, too few images for its classes, or a folder that is there
            already and holds something else.

    Examples:
        >>> sorted(write_phantom_dataset("origa", "fundus", train=4, test=4))
        ['test', 'train']
    """
    domain, out = canonical_domain(domain), Path(out)
    folders = {split: out / split for split in SPLITS}
    totals = {"train": train, "test": test}
    counts = {
        split: class_counts(domain, total, split, balanced=balanced)
        for split, total in totals.items()
    }
    for split in SPLITS:
        config = FolderConfig(
            domain=domain,
            train=folders["train"].absolute(),
            split=split,
            provenance={
                **_origin(domain, seed, size),
                "images": totals[split],
                "classes": "balanced" if balanced else "as in the paper",
            },
        )
        items = _split_items(domain, split, counts[split], seed, size)
        write_phantom_folder(folders[split], config, items, advance)
    return folders


def _origin(domain: str, seed: int, size: int) -> dict[str, Any]:
    return {
        "embedded": True,
        "what": "phantoms, drawn by cas-metric; never medical data",
        "domain": domain,
        "package": f"cas-metric {__version__}",
        "seed": seed,
        "size": size,
    }


def _split_items(
    domain: str, split: str, counts: Mapping[str, int], seed: int, size: int
) -> Iterable[Item]:
    """The phantoms of a split, classes in random order."""
    artist = renderer(domain)
    labels = [label for label, count in counts.items() for _ in range(count)]
    column = SPLITS.index(split)
    order = np.random.default_rng([seed, column]).permutation(len(labels))
    for number, position in enumerate(order.tolist()):
        label = labels[position]
        rng = generator(domain, label, seed, column, number)
        name = f"{split}-{number:05d}"
        row = {"id": name, "patient": f"{split}-patient-{number:05d}"}
        yield render_phantom(artist, artist.sample(label, rng), size), row


def write_generated_set(
    domain: str,
    real: str | Path,
    out: str | Path,
    *,
    kind: str,
    seed: int = 0,
    method: str | None = None,
    advance: Advance = lambda: None,
) -> Path:
    """Write what a generator of known quality would make of the prompts of a phantom split.

    One image for each case of ``real``, with its label and prompt and with ``reference`` naming
    it. *faithful*: the case's finding in another picture. *degraded*: that, and one of blur,
    noise, low contrast and exaggeration. *wrong*: mostly the finding of another class, else the
    finding is missing.

    Args:
        domain: Phantom domain.
        real: Folder written by :func:`write_phantom_dataset`.
        out: Folder to write.
        kind: One of :data:`KINDS`.
        seed: Generation seed, also a column of the manifest.
        method: Name of the generator in the manifest; ``kind`` by default.
        advance: Called after each image.

    Raises:
        InputError: ``kind`` is unknown, ``real`` holds no phantoms of this domain, or ``out``
            holds something else.
    """
    if kind not in _KINDS:
        raise InputError(f"no kind of generated set {kind!r}", fix=f"one of {', '.join(KINDS)}")
    domain, out = canonical_domain(domain), Path(out)
    specs = read_specs(real)
    foreign = {spec.domain for spec in specs.values()} - {domain}
    if foreign:
        raise InputError(f"{real} holds phantoms of {', '.join(foreign)}, not of {domain}")
    size = _size_of(Path(real))
    config = FolderConfig(
        domain=domain,
        provenance={
            **_origin(domain, seed, size),
            "kind": kind,
            "method": method or kind,
            "images": len(specs),
        },
    )
    items = _generated_items(domain, specs, kind, seed, method or kind, size)
    folder = write_phantom_folder(out, config, items, advance)
    _check_cases(folder, {case: renderer(domain).describe(spec) for case, spec in specs.items()})
    return folder


def _check_cases(folder: Path, prompts: Mapping[str, str]) -> None:
    """Refuse a set that was kept but had been made from other prompts.

    Splits of one size have the same ids whatever their seed, so that ``cas.yaml`` does not tell.
    """
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        present = {row.get("reference"): row.get("prompt") for row in csv.DictReader(file)}
    if present != prompts:
        raise InputError(
            f"{folder} exists and was made from the prompts of other phantoms",
            fix="choose another folder, or delete this one",
        )


def _size_of(folder: Path) -> int:
    with Image.open(next((folder / "images").glob("*.png"))) as image:
        return int(image.width)


def _generated_items(
    domain: str,
    specs: Mapping[str, FindingSpec],
    kind: str,
    seed: int,
    method: str,
    size: int,
) -> Iterable[Item]:
    artist = renderer(domain)
    for number, (case, spec) in enumerate(specs.items()):
        rng = generator(domain, spec.label, seed, len(SPLITS) + KINDS.index(kind), number)
        fresh = failures.fresh_nuisance(artist, spec, rng)
        phantom = _generate(artist, fresh, kind, rng, size)
        # The request was the prompt of the case; its phrasing hangs on the case's own seed.
        phantom = dataclasses.replace(phantom, prompt=artist.describe(spec))
        row = {"id": f"{kind}-{seed}-{case}", "reference": case, "method": method, "seed": seed}
        yield phantom, row


def _generate(
    artist: Renderer, spec: FindingSpec, kind: str, rng: np.random.Generator, size: int
) -> Phantom:
    choices = _KINDS[kind]
    if not choices:
        return render_phantom(artist, spec, size)
    name, (low, high) = choices[int(rng.integers(len(choices)))]
    if name == "missing_finding" and artist.remove_finding(spec) == spec:
        name = "wrong_class"  # a class without a sign has none to miss
    return failures.FAILURES[name](artist, spec, rng, float(rng.uniform(low, high)), size)


def plant_copies(
    generated: str | Path, train: str | Path, *, share: float, seed: int = 0
) -> list[str]:
    """Replace images of a generated set by copies of training images of the same class.

    Args:
        generated: Folder written by :func:`write_generated_set`; changed in place.
        train: Folder of the training split.
        share: Share of the images to replace, in (0, 1].
        seed: Which images, and by which.

    Returns:
        Ids of the replaced images.

    Raises:
        InputError: A folder holds no phantoms.
    """
    rng = np.random.default_rng([seed, 4])
    sources: dict[str, list[str]] = {}
    for name, spec in read_specs(train).items():
        sources.setdefault(spec.label, []).append(name)
    rows = _read_jsonl(Path(generated) / "specs.jsonl")
    chosen = rng.choice(len(rows), max(1, round(share * len(rows))), replace=False)
    for index in sorted(chosen.tolist()):
        source = str(rng.choice(sources[rows[index]["requested"]]))
        target = Path(generated) / "images" / f"{rows[index]['id']}.png"
        shutil.copyfile(Path(train) / "images" / f"{source}.png", target)
        rows[index]["copy_of"] = source
    _write_jsonl(Path(generated) / "specs.jsonl", rows)
    return [row["id"] for row in rows if "copy_of" in row]


def read_specs(folder: str | Path) -> dict[str, FindingSpec]:
    """The truth about every image of a phantom folder, by id, in the order of its manifest.

    Raises:
        InputError: ``folder`` was not written by this module.
    """
    path = Path(folder) / "specs.jsonl"
    if not path.is_file():
        raise InputError(
            f"{folder} holds no phantoms: specs.jsonl is missing",
            fix="write one with: cas datasets phantom DOMAIN OUT",
        )
    names = [field.name for field in dataclasses.fields(FindingSpec)]
    return {
        row["id"]: FindingSpec(**{name: row[name] for name in names}) for row in _read_jsonl(path)
    }


def write_phantom_folder(
    folder: Path, config: FolderConfig, items: Iterable[Item], advance: Advance
) -> Path:
    """Write a folder beside its place and move it there; keep one that is the same already.

    Raises:
        InputError: The folder holds something else.
        CasError: It cannot be written to.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        present = read_folder_config(folder) if folder.is_dir() else None
        if present is not None and present.provenance == config.provenance:
            return folder
        told = f": {differences(present.provenance, config.provenance)}" if present else ""
        raise InputError(
            f"{folder} exists and holds something else{told}",
            fix="choose another folder, or delete this one",
        )
    try:
        return _write_beside(folder, config, items, advance)
    except OSError as error:
        raise CasError(
            f"{folder} cannot be written: {error.strerror or error}",
            fix="free space, or choose another folder",
        ) from error


def _write_beside(
    folder: Path, config: FolderConfig, items: Iterable[Item], advance: Advance
) -> Path:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    rows, specs = [], []
    for phantom, row in items:
        image = f"images/{row['id']}.png"
        Image.fromarray(phantom.image).save(partial / image)
        rows.append({"file_name": image, "label": phantom.label, "prompt": phantom.prompt, **row})
        truth = dataclasses.asdict(phantom.spec)
        specs.append({"id": row["id"], "requested": phantom.label, **truth})
        advance()
    _write_metadata(partial / "metadata.csv", rows)
    _write_jsonl(partial / "specs.jsonl", specs)
    # Relative paths in cas.yaml are the same in both places: they are siblings.
    write_folder_config(partial, config)
    partial.rename(folder)
    return folder


def _write_metadata(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """``metadata.csv`` in the imagefolder convention, ``file_name`` and ``id`` first."""
    import pandas as pd

    first = ["file_name", "id", "label", "prompt"]
    table = pd.DataFrame(rows)
    rest = [column for column in table.columns if column not in first]
    table[first + rest].to_csv(path, index=False, lineterminator="\n")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
