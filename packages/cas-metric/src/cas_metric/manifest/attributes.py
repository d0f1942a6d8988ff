"""Attributes of patients (sex, age, site …) by which images are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from cas_metric.errors import InputError
from cas_metric.manifest.rows import Manifest

#: Columns that no attribute may be called, since a run has its own of that name.
_TAKEN: Final = frozenset(
    ("vdc", "ccs", "dd", "dd_prob", "sfs", "cas", "status", "error", "note", "path")
)


def attribute_columns(
    generated: Manifest, real: Manifest, partners: Sequence[int], names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Columns of both tables; a generated image without one takes that of its partner.

    Args:
        generated: Generated images.
        real: Their real partners.
        partners: ``(N,)`` row of each generated image's partner in ``real``; -1 without one.
        names: Columns to take.

    Returns:
        The columns of the generated and, as far as it has them, of the real images, row by row.

    Raises:
        InputError: A column that neither table has, that no generated image has a value of, or
            whose name the table of a run needs for itself.

    Examples:
        >>> import pandas as pd
        >>> from cas_metric.manifest.sources import as_manifest
        >>> real = as_manifest(pd.DataFrame({"file_name": ["a.png", "b.png"], "sex": ["f", "m"]}))
        >>> made = as_manifest(pd.DataFrame({"file_name": ["x.png"], "reference": ["b"]}))
        >>> attribute_columns(made, real, [1], ["sex"])[0]["sex"].tolist()
        ['m']
    """
    if clash := _TAKEN & set(names):
        raise InputError(
            f"images cannot be grouped by {min(clash)!r}: a run has a column of that name",
            fix="rename the column of the table",
        )
    ours, theirs = pd.DataFrame(index=generated.rows.index), pd.DataFrame(index=real.rows.index)
    for name in names:
        if name in real:
            theirs[name] = real.column(name).to_numpy(dtype=object)
        if name in generated:
            ours[name] = generated.column(name).to_numpy(dtype=object)
        else:
            lent = real.column(name).to_numpy(dtype=object)
            ours[name] = [lent[row] if row >= 0 else "" for row in partners]
        if not ours[name].astype(bool).any():
            raise InputError(
                f"neither the generated images nor their references have a value of {name!r}",
                fix=f"add {name} to the generated table, or name the reference of each image",
            )
    return ours, theirs
