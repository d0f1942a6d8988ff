"""Images to be judged, out of runs of ``cas score``, manifests and folders, as one table.

``NAME=PATH`` names the method. Without a name it is what the manifest says, else the folder's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.domains import Domain, load_domain
from cas_metric.errors import InputError, PreflightError
from cas_metric.files import place, told_words
from cas_metric.manifest import Manifest, read_folder_config, read_manifest
from cas_metric.manifest.rows import granted
from cas_metric.scoring.inputs import select
from cas_metric.statistics.comparison import case_keys

if TYPE_CHECKING:
    import pandas as pd

#: Scores of an image that a run brings along.
SCORES: Final = ("ccs", "dd", "cas", "alignment")
#: Table of a run's ``cas-v2``, which holds ``alignment``.
_CALIBRATED: Final = "calibrated.parquet"
#: Columns of the table; ``path`` and ``window`` say how to read the image, ``case`` what it is of.
COLUMNS: Final = (
    *("id", "method", "seed", "label", "prompt", "reference", "patient", "image"),
    *("path", "window", "case"),
    *SCORES,
)


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one or more methods.

    Attributes:
        table: One row an image with :data:`COLUMNS`; scores are NaN where no run gave any.
        domain: What the labels belong to.
        roots: Source to the folder of its images.
        notes: What a person should hear of.
    """

    table: pd.DataFrame
    domain: Domain
    roots: dict[str, str]
    notes: tuple[str, ...] = field(default=())

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in the order of the sources."""
        return tuple(dict.fromkeys(self.table["method"]))

    @property
    def inputs(self) -> dict[str, dict[str, str]]:
        """Where the images of each source lie, for the provenance of a result."""
        return {source: {"root": root} for source, root in self.roots.items()}


def read_images(
    sources: Sequence[str],
    *,
    domain: str | None = None,
    seed: int | None = None,
    offline: bool = False,
) -> Images:
    """Read the images of all sources.

    Args:
        sources: ``PATH`` or ``NAME=PATH`` each: a run, a manifest or a folder.
        domain: Domain pack; by default the one that every source names.
        seed: Take only images of this generation seed.
        offline: Whether sources on the network are refused.

    Raises:
        InputError: A source cannot be read, or no domain is known.
        PreflightError: Unknown labels, images that occur twice, no image file at all.
    """
    import pandas as pd

    tables: list[pd.DataFrame] = []
    roots: dict[str, str] = {}
    named: list[tuple[str, str]] = []
    notes: list[str] = []
    for source in sources:
        name, path = split_source(source, offline=offline)
        manifest, origin = _read(path, name, seed, offline)
        tables.append(_table(manifest))
        roots[told_words([source])[0]] = str(manifest.root)
        notes += manifest.notes
        named.append((source, origin))
    pack = load_domain(domain or _agreed_domain(named), offline=offline)
    table = pd.concat(tables, ignore_index=True)
    problems = [*_label_problems(table, pack), *_repeated(table)]
    if problems:
        raise PreflightError(problems, fix="correct the manifests, or name the methods apart")
    if not any(path.is_file() for path in table["path"]):
        raise InputError(
            f"none of the {len(table)} images exists, the first would be {table['path'].iloc[0]}",
            fix="run this where the images lie, or give the manifest in place of the run",
        )
    table["label"] = table["label"].map({n: pack.canonical(n) for n in table["label"].unique()})
    return Images(table, pack, roots, tuple(notes))


def split_source(source: str, *, offline: bool = False) -> tuple[str | None, Path]:
    """``NAME=PATH`` as name and path; a path that exists may hold an equals sign itself.

    Raises:
        InputError: The name or the path is empty.
    """
    name, equals, path = source.partition("=")
    if not equals or "://" in name or Path(source).exists():
        return None, place(source, offline=offline)
    if not name.strip() or not path:
        raise InputError(f"{source!r} names no method or no path", fix="write METHOD=PATH")
    return name.strip(), place(path, offline=offline)


def draw_cases(images: Images, count: int | None, seed: int) -> Images:
    """The images of ``count`` randomly drawn cases, the same for all methods.

    Args:
        images: All images.
        count: How many cases to keep; None keeps all.
        seed: Of the draw.
    """
    cases = set(images.table["case"])
    chosen = drawn_cases(cases, count, seed)
    if chosen == cases:
        return images
    kept = images.table[images.table["case"].isin(chosen)].reset_index(drop=True)
    note = f"{count} of {len(cases)} cases were drawn at random (seed {seed})"
    return dataclasses.replace(images, table=kept, notes=(*images.notes, note))


def drawn_cases(cases: Iterable[str], count: int | None, seed: int) -> set[str]:
    """``count`` of the cases, drawn at random; all of them for None, or where there are fewer.

    Examples:
        >>> sorted(drawn_cases(["a", "b", "b"], 5, seed=0))
        ['a', 'b']
    """
    import numpy as np

    known = sorted(set(cases))
    if count is None or count >= len(known):
        return set(known)
    return set(np.random.default_rng(seed).choice(known, count, replace=False).tolist())


def _read(path: Path, name: str | None, seed: int | None, offline: bool) -> tuple[Manifest, str]:
    """The manifest of a source, with its scores, and the domain that the source names."""
    if (path / "summary.json").is_file():
        return _read_scored(path, name, seed, offline)
    manifest = read_manifest(path, offline=offline)
    return _chosen(manifest, name, seed), (manifest.config and manifest.config.domain) or ""


def _read_scored(
    path: Path, name: str | None, seed: int | None, offline: bool
) -> tuple[Manifest, str]:
    """A run: its rows as a manifest below the folder that its summary names."""
    from cas_metric.runs.folder import read_run
    from cas_metric.runs.run import domain_of

    run = read_run(path)
    inputs: Any = (run.summary.get("provenance") or {}).get("inputs") or {}
    root = (inputs.get("generated") or {}).get("root")
    if not root:
        raise InputError(
            f"{path}: the summary does not say where the images lie",
            fix="give the manifest or the folder of the images",
        )
    rows = run.rows.copy()
    for column in ("prompt", "patient", "reference"):
        rows[column] = rows[column].fillna("").astype(str) if column in rows else ""
    if (path / _CALIBRATED).is_file():
        import pandas as pd

        placed = pd.read_parquet(path / _CALIBRATED, columns=["method", "seed", "id", "alignment"])
        rows = rows.merge(placed, on=["method", "seed", "id"], how="left")
    folder = place(root, offline=offline)
    config = read_folder_config(folder, offline=offline) if folder.is_dir() else None
    manifest = Manifest(folder, rows, config=config, allowed_roots=granted(()))
    return _chosen(manifest, name, seed), domain_of(run.summary)


def _chosen(manifest: Manifest, name: str | None, seed: int | None) -> Manifest:
    """The rows of a method and seed; the only method of a manifest takes the name given."""
    present = set(manifest.rows["method"]) - {""}
    if name is not None and len(present) == 1:
        manifest = dataclasses.replace(manifest, rows=manifest.rows.assign(method=name))
    return select(manifest, name, seed)


def _table(manifest: Manifest) -> pd.DataFrame:
    rows = manifest.rows.reset_index(drop=True)
    rows = rows.assign(path=manifest.paths(), window=manifest.window, case=case_keys(rows))
    for score in SCORES:
        if score not in rows:
            rows[score] = float("nan")
    return rows[list(COLUMNS)]


def _agreed_domain(named: Iterable[tuple[str, str]]) -> str:
    found = {name: source for source, name in named if name}
    if len(found) == 1:
        return next(iter(found))
    if found:
        listed = ", ".join(f"{source}: {name}" for name, source in found.items())
        raise InputError(f"the sources are of different domains ({listed})", fix="judge them apart")
    raise InputError(
        "no source names its domain",
        fix="give --domain NAME or FILE (`cas domains list`, `cas domains new`)",
    )


def _label_problems(table: pd.DataFrame, domain: Domain) -> list[str]:
    problems = []
    for label, rows in table.groupby("label", sort=True):
        where = f"{len(rows)} images, first {rows['id'].iloc[0]!r}"
        if not label:
            problems.append(f"no label ({where})")
            continue
        try:
            domain.canonical(str(label))
        except InputError as error:
            problems.append(f"{error.problem} ({where})")
    return problems


def _repeated(table: pd.DataFrame) -> list[str]:
    keys = ["method", "seed", "id"]
    twice = table[table.duplicated(keys)]
    return [
        f"method {row.method!r} has the image {row.id!r} twice"
        for row in twice.itertuples(index=False)
    ]
