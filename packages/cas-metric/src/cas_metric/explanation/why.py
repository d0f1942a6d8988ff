"""Why each of some images scores low, out of what is known of them and of real ones."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cas_metric.explanation.attributes import (
    Floats,
    attributes_of,
    beyond_the_others,
    deviations,
    order,
    ranks,
)
from cas_metric.protocol import PRIMITIVES
from cas_metric.statistics.aggregate import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas_metric.domains import Domain

#: Below this many standard deviations of real images something counts as missing.
MISSING: Final = -1.645

#: Columns of the table of attributes.
COLUMNS: Final = (
    *("method", "seed", "id", "label", "attribute", "text"),
    *("contrast", "deviation", "beyond", "rank", "place"),
)


def explain_attributes(
    rows: pd.DataFrame,
    embeddings: Floats,
    real_labels: np.ndarray,
    real_embeddings: Floats,
    domain: Domain,
    vectors: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """One row an attribute of an image, the one most lacking first (``place`` 1).

    They are ordered by ``beyond``: how far each lies below what goes with the others of the image.

    Args:
        rows: ``N`` rows of a run.
        embeddings: ``(N, D)``; NaN rows are left out.
        real_labels: ``(M,)``.
        real_embeddings: ``(M, D)``.
        domain: Checklists.
        vectors: Texts of :func:`~cas_metric.explanation.attributes.attribute_texts`, embedded.
    """
    found: list[dict[str, Any]] = []
    known = np.isfinite(real_embeddings).all(axis=1)
    labels = rows["label"].astype(str).to_numpy()
    for label in dict.fromkeys(labels):
        if label not in domain.class_names:
            continue
        asked = attributes_of(domain, label, vectors)
        own = np.flatnonzero((labels == label) & np.isfinite(embeddings).all(axis=1))
        if not asked.names or not len(own):
            continue
        values = asked.contrasts(embeddings[own])
        real = asked.contrasts(real_embeddings[known & (real_labels == label)])
        deviation, rank = deviations(values, real), ranks(values, real)
        alone = beyond_the_others(deviation, deviations(real, real))
        for at, row in enumerate(own):
            record = rows.iloc[row]
            by = alone[at] if np.isfinite(alone[at]).any() else values[at]
            for place, k in enumerate(order(by), start=1):
                found.append(
                    {
                        **{name: record[name] for name in ("method", "seed", "id", "label")},
                        "attribute": asked.names[k],
                        "text": asked.texts[k],
                        "contrast": values[at, k],
                        "deviation": deviation[at, k],
                        "beyond": alone[at, k],
                        "rank": rank[at, k],
                        "place": place,
                    }
                )
    return pd.DataFrame(found, columns=list(COLUMNS))


def explain_primitives(
    rows: pd.DataFrame, real: pd.DataFrame | None, floor: pd.DataFrame | None
) -> pd.DataFrame:
    """How far each primitive lies below real images of the class, and which lies lowest.

    DD is taken by the probability of the label, and SFS against real images compared with other
    real ones: a real image compared with itself has 1.

    Returns:
        ``method, seed, id, label``, a deviation a primitive, and ``lowest`` (empty where no real
        image tells).
    """
    result = rows[["method", "seed", "id", "label"]].reset_index(drop=True)
    columns = {name: "dd_prob" if name == "dd" else name for name in PRIMITIVES}
    values = np.full((len(rows), len(columns)), np.nan)
    for k, (name, column) in enumerate(columns.items()):
        table = floor if name == "sfs" else real
        if table is None:
            continue
        for label, places in result.groupby("label").indices.items():
            theirs = table.loc[table["label"] == label, [column]]
            own = rows.iloc[places][[column]]
            values[places, k] = deviations(own, theirs)[:, 0]
    for k, name in enumerate(columns):
        result[name] = values[:, k]
    names = np.array(list(columns))
    filled = np.where(np.isfinite(values), values, np.inf)
    told = np.isfinite(values).any(axis=1)
    result["lowest"] = np.where(told, names[filled.argmin(axis=1)], "")
    return result


def attributes_by_image(attributes: pd.DataFrame) -> dict[tuple[str, str, str], pd.DataFrame]:
    """The attributes of each image."""
    seeds = as_text(attributes["seed"])  # a group without a key would be dropped
    return dict(tuple(attributes.groupby(["method", seeds, "id"], sort=False)))


def image_key(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    """Method, seed and id of an image; without a seed its text is empty."""
    seed = str(row["seed"])
    return row["method"], "" if seed in ("None", "nan", "<NA>") else seed, row["id"]


def map_name(row: Mapping[Any, Any], attribute: str) -> str:
    """File of a map: method, seed, id and attribute in letters that every file system takes."""
    words = (*map(str, image_key(row)), attribute)
    plain = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", word).strip(".") for word in words if word)
    tag = hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]
    return f"{plain[:120]}-{tag}.png"
