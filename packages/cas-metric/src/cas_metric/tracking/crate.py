"""A run described for archives: ``ro-crate-metadata.json`` and ``croissant.json`` beside its files.

An RO-Crate 1.1 (https://www.researchobject.org/ro-crate/specification/1.1/) of the profile Process
Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5): which software made which files from which
images, by which command.
"""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.files import to_json, write_bytes
from cas_metric.runs.folder import FILES
from cas_metric.tracking import command_of
from cas_metric.tracking.croissant import NAME as CROISSANT
from cas_metric.tracking.croissant import write_croissant

if TYPE_CHECKING:
    from cas_metric.runs.run import Run

#: File that makes a folder an RO-Crate.
NAME: Final = "ro-crate-metadata.json"
_PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
TERMS: Final = "The terms of the data sets and models that the images come from."
#: The package as a package URL (purl), a name that is no address.
HOME: Final = "pkg:pypi/cas-metric"
_KINDS: Final = {
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".safetensors": "application/octet-stream",
}
_MEANINGS: Final = {
    "per_image": "One row a generated image: its four scores and their mean, CAS",
    "real_per_image": "The real images against themselves",
    "floor_per_image": "Each real image against another real image of its class",
    "calibrated": "Ranks of the generated images among real ones of their class (cas-v2)",
    "summary": "Every aggregate with its interval, and how the run was made",
    "probe": "The linear probe behind DD",
    "report": "All of it, for people",
    "croissant": "The columns of the rows, for catalogues (Croissant 1.0)",
}


def write_crate(run: Run, *, today: datetime.date | None = None) -> Path:
    """Describe the files of a saved run, and return the file that does.

    Args:
        run: With its folder.
        today: Date of publication; by default that of the clock.
    """
    assert run.path is not None
    day = (today or datetime.datetime.now(tz=datetime.UTC).date()).isoformat()
    write_croissant(run, described(run), TERMS, day)
    listed = (*FILES, CROISSANT)
    files = [run.path / name for name in listed if (run.path / name).is_file()]
    graph = [*_root(run, files, day), *_process(run, files, day), *map(_file, files)]
    graph += [_set(name, told) for name, told in _inputs(run).items()]
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
    crate = {"@context": context, "@graph": graph}
    write_bytes(run.path / NAME, to_json(crate).encode())
    return run.path / NAME


def described(run: Run) -> str:
    """What a run is, for people."""
    summary = run.summary
    what = "drawings (phantoms), not medical data" if summary["embedded_world"] else "images"
    return (
        f"Scores of {len(run.rows)} generated {what} by the protocol {summary['protocol']} with "
        f"the encoder {summary['encoder']['name']}. A proxy computed by a model, no clinical "
        "ground truth."
    )


def _root(run: Run, files: list[Path], day: str) -> list[dict[str, Any]]:
    return [
        {
            "@id": NAME,
            "@type": "CreativeWork",
            "conformsTo": _id("https://w3id.org/ro/crate/1.1"),
            "about": _id("./"),
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Clinical Alignment Scores of {', '.join(_methods(run))}",
            "description": described(run),
            "datePublished": day,
            "license": _id("#terms"),
            "conformsTo": _id(_PROFILE),
            "hasPart": [_id(path.name) for path in files],
            "mentions": _id("#scoring"),
        },
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {
            "@id": "#terms",
            "@type": "CreativeWork",
            "name": "Terms of the images",
            "description": TERMS,
        },
    ]


def _process(run: Run, files: list[Path], day: str) -> list[dict[str, Any]]:
    made = run.summary["provenance"]
    software = {
        "@id": HOME,
        "@type": "SoftwareApplication",
        "name": "cas-metric",
        "softwareVersion": made["versions"]["cas-metric"],
        "softwareRequirements": [f"{name} {v}" for name, v in sorted(made["versions"].items())],
    }
    action = {
        "@id": "#scoring",
        "@type": "CreateAction",
        "name": "Scoring of the images",
        "description": command_of(run),
        "instrument": _id(HOME),
        "endTime": day,
        "object": [_id(f"#{name}") for name in _inputs(run)],
        "result": [_id(path.name) for path in files],
    }
    return [software, action]


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "@id": path.name,
        "@type": "File",
        "name": path.name,
        "description": _MEANINGS[path.stem],
        "encodingFormat": _KINDS[path.suffix],
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _set(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """A set of images: how many and which, never where they lie on the user's disk."""
    return {
        "@id": f"#{name}",
        "@type": "CreativeWork",
        "name": f"{name} images",
        "description": f"{told['images']} images; sha256 over rows and contents: {told['sha256']}",
    }


def _inputs(run: Run) -> dict[str, Any]:
    return dict(run.summary["provenance"]["inputs"])


def _methods(run: Run) -> list[str]:
    return [str(one["method"]) for one in run.summary["methods"]]


def _id(name: str) -> dict[str, str]:
    return {"@id": name}
