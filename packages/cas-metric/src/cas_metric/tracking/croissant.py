"""The rows of a run for machine-learning catalogues: ``croissant.json`` beside them.

Croissant 1.0 (http://mlcommons.org/croissant/1.0): the table of the generated images, column by
column, so that its loaders read it as records.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pandas.api import types

from cas_metric.files import to_json, write_bytes
from cas_metric.runs.folder import ROWS

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs.run import Run

NAME: Final = "croissant.json"
#: The context that the specification prescribes, whether a term of it is used or not.
_TERMS: Final = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty"),
    *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField"),
    *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
    *("separator", "source", "subField", "transform"),
)
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _TERMS},
}


def write_croissant(run: Run, description: str, terms: str, day: str) -> Path:
    """Describe the rows of a saved run, and return the file that does.

    Args:
        run: With its folder.
        description: Of the run, for people.
        terms: Under which the images may be used.
        day: Of publication.
    """
    assert run.path is not None
    table = f"{ROWS}.csv"
    content = (run.path / table).read_bytes()
    found: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"scores-{run.path.name}",
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": terms,
        "datePublished": day,
        "url": "pkg:pypi/cas-metric",
        "version": run.summary["provenance"]["versions"]["cas-metric"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": table,
                "name": table,
                "contentUrl": table,
                "encodingFormat": "text/csv",
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": ROWS,
                "name": ROWS,
                "field": [_field(name, run.rows[name], table) for name in run.rows],
            }
        ],
    }
    write_bytes(run.path / NAME, to_json(found).encode())
    return run.path / NAME


def _field(name: str, values: pd.Series, table: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{ROWS}/{name}",
        "name": f"{ROWS}/{name}",
        "dataType": _kind(values),
        "source": {"fileObject": {"@id": table}, "extract": {"column": name}},
    }


def _kind(values: pd.Series) -> str:
    if types.is_bool_dtype(values):
        return "sc:Boolean"
    if types.is_float_dtype(values):
        return "sc:Float"
    if types.is_integer_dtype(values):  # read as floats from CSV where one is missing
        return "sc:Integer" if values.notna().all() else "sc:Float"
    return "sc:Text"
