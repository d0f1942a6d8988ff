"""The rows of a manifest of real images, as training and enrichment both check them."""

from __future__ import annotations

from collections import Counter

from cas_metric.domains import Domain
from cas_metric.errors import CasError
from cas_metric.manifest import Manifest


def domain_of(manifest: Manifest, named: str | None) -> str | None:
    """The domain pack that a user names, or else the manifest's cas.yaml."""
    return named or (manifest.config.domain if manifest.config else None)


def check_rows(
    manifest: Manifest, pack: Domain | None, *, with_images: bool = True
) -> tuple[tuple[str, ...], list[str]]:
    """The class of each row, canonical where there is a pack, and what is wrong with other rows.

    ``with_images`` says whether the image files must exist.
    """
    labels, problems = [], []
    for row, label in enumerate(manifest.rows["label"]):
        try:
            if not label:
                raise CasError("has no label")
            labels.append(pack.canonical(label) if pack else label)
            if with_images and not manifest.path(row).is_file():
                raise CasError("does not exist")
        except CasError as error:
            problems.append(f"{manifest.rows['image'].iloc[row]}: {error.problem}")
    return tuple(labels), problems


def repeated_ids(manifest: Manifest) -> list[str]:
    """What is wrong with ids that several rows have, where each names one image."""
    counts = Counter(manifest.rows["id"])
    return [f"{key}: {count} rows have this id" for key, count in counts.items() if count > 1]
