"""Fréchet distance of radiomic features, by the package of its authors.

Source: Konz, Osuala et al. (2026), "Fréchet Radiomic Distance".
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cas_metric.errors import CasError, MissingDependency


def radiomics_distance(
    generated: Sequence[Path], real: Sequence[Path], *, num_workers: int = 1
) -> float:
    """FRD, version 1 with its defaults: the logarithm of the squared distance; lower is closer.

    Args:
        generated: Readable image files; the package reads them itself, as grey values.
        real: The same.
        num_workers: Processes that compute features.

    Raises:
        MissingDependency: Without frd-score and a build of pyradiomics.
        CasError: The package fails on these images.
    """
    try:
        import frd_score
        import radiomics  # noqa: F401 - frd_score asks for it later, in words of its own
    except ImportError as error:
        raise MissingDependency(
            "frd-score with pyradiomics", extra="frd", purpose="the Fréchet radiomics distance"
        ) from error
    # The reference comes first: its statistics normalise both sets in the paper's form.
    lists = [[str(path) for path in real], [str(path) for path in generated]]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints its result; ours may be JSON
            return float(frd_score.compute_frd(lists, num_workers=num_workers))
    except (RuntimeError, ValueError) as error:
        raise CasError(
            f"frd-score cannot compare these images: {error}",
            fix="it takes grey radiological images of one size; or leave --frd out",
        ) from error
