"""The images to be described, checked before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cas_metric.domains import Domain, PromptSchema, load_domain
from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import Manifest, read_manifest
from cas_metric.mllm.sources import drawn_cases
from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.statistics.comparison import case_keys
from craft_trainer.data.rows import check_rows, domain_of, repeated_ids


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a manifest whose images are to be described.

    Attributes:
        manifest: What they were read from.
        spec: Domain pack as the user, or the folder, names it.
        domain: The pack.
        schema: The form of its answers.
        labels: Canonical class of each row.
        paths: Image of each row.
    """

    manifest: Manifest
    spec: str
    domain: Domain
    schema: PromptSchema
    labels: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Choice:
    """Which rows of a manifest are taken.

    Attributes:
        seed: Only those of this generation seed.
        cases: So many cases, drawn at random.
        draw_seed: Of the draw.
        limit: The first rows alone.
    """

    seed: int | None = None
    cases: int | None = None
    draw_seed: int = BOOTSTRAP_SEED
    limit: int | None = None

    def of(self, manifest: Manifest) -> Manifest:
        """The rows, in their order.

        Raises:
            InputError: No row is of the generation seed.
        """
        rows = manifest.rows
        kept = list(range(len(rows))[: self.limit])
        if self.seed is not None:
            found = rows["seed"].fillna(self.seed) == self.seed
            kept = [row for row in kept if found.iloc[row]]
        if not kept and self.seed is not None:
            raise InputError(f"no image is of seed {self.seed}", fix="leave --seed out")
        keys = case_keys(rows)
        drawn = drawn_cases((str(keys[row]) for row in kept), self.cases, self.draw_seed)
        return manifest.take([row for row in kept if str(keys[row]) in drawn])


def read_rows(
    path: Path,
    domain: str | None,
    *,
    with_images: bool = True,
    choice: Choice | None = None,
    offline: bool = False,
) -> TrainingRows:
    """Read a manifest.

    Args:
        path: Table or folder.
        domain: Name or path of a domain pack; by default what the folder's cas.yaml says.
        with_images: Whether the image files must exist.
        choice: Of its rows; by default all.
        offline: Never use the network.

    Raises:
        InputError: No domain is known, or it has no prompt schema.
        PreflightError: Rows without label, of an unknown class, with an id that another row has,
            or with a missing image; all are listed.
    """
    manifest = read_manifest(path, offline=offline)
    if choice is not None:
        manifest = choice.of(manifest)
    spec = domain_of(manifest, domain)
    if not spec:
        raise InputError(
            f"{path} names no domain", fix="name a domain pack with --domain (`cas domains list`)"
        )
    pack = load_domain(spec, offline=offline)
    schema = prompt_schema(pack)
    labels, problems = check_rows(manifest, pack, with_images=with_images)
    problems = repeated_ids(manifest) + problems
    if problems:
        raise PreflightError(problems, fix=f"correct these rows of {path}")
    return TrainingRows(manifest, spec, pack, schema, labels, tuple(manifest.paths()))


def prompt_schema(pack: Domain) -> PromptSchema:
    """The pack's prompt schema.

    Raises:
        InputError: It has none.
    """
    if pack.prompt_schema is None:
        raise InputError(
            f"the domain {pack.name!r} has no prompt_schema, so no answer could be judged",
            fix="add one to the pack: 'cas domains show chexpert --yaml' prints a complete example",
        )
    return pack.prompt_schema
