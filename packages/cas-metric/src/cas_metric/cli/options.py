"""Options as every verb spells them; each is a type for a typer command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

INPUTS = "What to score with"
MODEL = "Encoder"
RESULTS = "Results"
RUNNING = "Running"

Domain = Annotated[
    str | None,
    typer.Option(
        help="Classes and checklists: name of a domain pack (`cas domains list`) or a YAML file. "
        "Default: what REAL/cas.yaml says.",
        rich_help_panel=INPUTS,
        metavar="NAME",
    ),
]
Train = Annotated[
    Path | None,
    typer.Option(
        help="Real training split, to fit the probe of DD on. Default: what REAL/cas.yaml says.",
        rich_help_panel=INPUTS,
        metavar="FOLDER",
    ),
]
Probe = Annotated[
    Path | None,
    typer.Option(
        help="A probe that an earlier run fitted (its probe.safetensors), in place of --train.",
        rich_help_panel=INPUTS,
        metavar="FILE",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="Call the images NAME; of a manifest that names methods, score only those of NAME. "
        "Default: the name of the folder.",
        rich_help_panel=INPUTS,
        metavar="NAME",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        help="Columns whose groups are compared with each other, e.g. sex,age,site; numbers are "
        "cut at quartiles. A generated image without such a column takes its reference's.",
        rich_help_panel=INPUTS,
        metavar="COLUMNS",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Score only images of this generation seed.",
        rich_help_panel=INPUTS,
        metavar="N",
        min=0,
    ),
]
Unpaired = Annotated[
    bool,
    typer.Option(
        "--unpaired",
        help="Accept images without a real partner; their SFS and CAS stay empty.",
        rich_help_panel=INPUTS,
    ),
]
PartialTrain = Annotated[
    bool,
    typer.Option(
        "--partial-train",
        help="Accept a training split without images of some of the classes. Their DD is 0 "
        "whatever they show; the result is called custom.",
        rich_help_panel=INPUTS,
    ),
]
AllowRoot = Annotated[
    list[Path] | None,
    typer.Option(
        help="A folder outside of the manifests' own that images may lie in, also by a link; "
        "may be given several times.",
        rich_help_panel=INPUTS,
        metavar="DIR",
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="Space to score in: an alias (`cas encoders`), a hub id, a local directory, or "
        "openclip:MODEL/TAG. Default: siglip, the evaluator of the paper; phantom-siglip for "
        "phantom domains.",
        rich_help_panel=MODEL,
        metavar="SPEC",
    ),
]
RunEncoder = Annotated[
    str | None,
    typer.Option(
        help="The encoder of the run, where its name there leads to it no longer.",
        rich_help_panel=MODEL,
        metavar="SPEC",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="float32 (protocol), bfloat16 or float16. Of a lower precision the change of the "
        "scores against float32 is measured on 64 images and reported.",
        rich_help_panel=MODEL,
        metavar="TYPE",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the image tower with torch.compile: minutes at the start, faster after.",
        rich_help_panel=RUNNING,
    ),
]
TextPolicy = Annotated[
    str,
    typer.Option(
        help="Texts beyond the encoder's limit: truncate (protocol; counted and reported), "
        "chunk-mean or per-attribute-mean.",
        rich_help_panel=MODEL,
        metavar="POLICY",
    ),
]
StrictText = Annotated[
    bool,
    typer.Option(
        "--strict-text",
        help="Refuse to score when a text is longer than the encoder reads.",
        rich_help_panel=MODEL,
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never use the network.", rich_help_panel=MODEL)
]


def result_folder(default: str) -> Any:
    """``--out`` of a verb, whose result goes to ``default`` where nothing else is said."""
    return typer.Option(
        help="Directory for rows, summary and report; only the same result in it is replaced. "
        f"Default: {default}.",
        rich_help_panel=RESULTS,
        metavar="DIR",
    )


Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the summary as JSON instead of a table.", rich_help_panel=RESULTS
    ),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(
        help="Stop with exit code 2 when more than N images cannot be read. Default: any number "
        "may fail; each becomes a row that says why.",
        rich_help_panel=RESULTS,
        metavar="N",
        min=0,
    ),
]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda, cuda:1, mps, …", rich_help_panel=RUNNING, metavar="NAME"),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images in one forward pass; halved by itself when memory runs out. "
        "Default: 32 on a CPU, else 128.",
        rich_help_panel=RUNNING,
        metavar="N",
        min=1,
    ),
]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        help="Threads that read and decode images. Default: the processors, at most 8.",
        rich_help_panel=RUNNING,
        metavar="N",
        min=1,
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(
        help="Directory of the embedding cache, or none. Default: CAS_CACHE, else "
        "~/.cache/cas-metric. An interrupted run continues from it.",
        rich_help_panel=RUNNING,
        metavar="DIR",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="local; parts, which keeps rows in parts (OUT/rows) that are not scored again; or "
        "ray, whose workers score the parts.",
        rich_help_panel=RUNNING,
        metavar="NAME",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        help="Score the parts of the k-th of n jobs and stop there; the same command without it "
        "completes the run. OUT must be shared.",
        rich_help_panel=RUNNING,
        metavar="K/N",
    ),
]
RowsOnly = Annotated[
    bool,
    typer.Option(
        "--rows-only",
        help="End with the parts and OUT/partitions.json, their statistics, for sets whose rows do "
        "not fit into memory.",
        rich_help_panel=RUNNING,
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        help="Log the run to tensorboard, mlflow, wandb or trackio, several with commas; their own "
        "environment variables say where. Real images and patients are not sent.",
        rich_help_panel=RESULTS,
        metavar="NAMES",
    ),
]
Crate = Annotated[
    bool,
    typer.Option(
        "--crate",
        help="Describe the run's files for archives: ro-crate-metadata.json (RO-Crate), "
        "croissant.json (Croissant).",
        rich_help_panel=RESULTS,
    ),
]
