"""``cas score``: score every generated image against its real reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress, console_err, emit_json
from cas_metric.errors import EXIT_SOME_FAILED

HELP = """
Score every image of GEN against its real partner in REAL.

Each image gets four scores and their mean, the Clinical Alignment Score (CAS):

- **VDC**, visual description consistency: the image against its enriched prompt.
- **CCS**, clinical criteria satisfaction: the image against the checklist of its class.
- **DD**, diagnostic discriminability: does a probe, fitted on real images, see its class?
- **SFS**, semantic feature similarity: the image against its real reference image.

Both folders hold images with a `metadata.csv` (columns `file_name`, `label`, `prompt`; also `id`,
`reference`, `patient`, `method`, `seed`), or one sub-folder of images a class. A table (.csv,
.parquet, .jsonl) will do as well. Images pair by `reference`, else by `id`; without such a column
the id is the path of the image without its ending.

REAL may carry a `cas.yaml` that names its domain and training split; then no option is needed. What
it leaves open is taken from GEN's, which `craft-trainer generate` writes. Either may also name a
display `window`, the values to show black and white, for images of 16 bits, floating point or
DICOM. Without a `cas.yaml`, CCS stays empty, the probe is cross-fitted on REAL, and the result is
called custom. A CAS is never the mean of fewer than four:
what is missing is named, with what to add.
"""

EPILOG = """
**Examples**

- `cas score gen/ real/` takes everything from real/cas.yaml and writes to runs/gen/

- `cas score gen/ test/ --domain chexpert --train train/ --out results/craft`

- `cas score gen.csv test.csv --encoder ./siglip-so400m --offline --json > summary.json`

- `cas score gen/ real/ --by sex,age` also holds the groups of patients against each other

- `accelerate launch --module cas_metric.cli.main score gen/ real/` gives every device its share

**Exit codes**

0 done; 3 done, but some images failed (see the column `status`); 2 wrong usage or input; 4 a model
is not available.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
def score(
    generated: Annotated[Path, typer.Argument(metavar="GEN", help="Images to score.")],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Their real partners.")],
    domain: option.Domain = None,
    train: option.Train = None,
    probe: option.Probe = None,
    method: option.Method = None,
    seed: option.Seed = None,
    by: option.By = None,
    unpaired: option.Unpaired = False,
    partial_train: option.PartialTrain = False,
    allow_root: option.AllowRoot = None,
    encoder: option.Encoder = None,
    dtype: option.Dtype = protocol.SCORE_DTYPE,
    text_policy: option.TextPolicy = protocol.TEXT_POLICY,
    strict_text: option.StrictText = False,
    offline: option.Offline = False,
    protocol_version: Annotated[
        str,
        typer.Option("--protocol", help="cas-v1, or cas-v2 for the calibrated columns beside it."),
    ] = protocol.VERSION,
    out: option.Out = None,
    as_json: option.Json = False,
    max_failures: option.MaxFailures = None,
    device: option.Device = "auto",
    compile_model: option.Compile = False,
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
) -> None:
    """Score the images of a folder; the help text is :data:`HELP`."""
    from cas_metric.embedding.ranks import join, leave
    from cas_metric.verbs.score import score as score_images

    try:
        with CountProgress("images") as bar:
            run = score_images(
                generated,
                real,
                domain=domain,
                encoder=encoder,
                train=train,
                probe=probe,
                method=method,
                seed=seed,
                by=option.names(by),
                unpaired=unpaired,
                partial_train=partial_train,
                allowed_roots=allow_root or (),
                dtype=dtype,
                text_policy=text_policy,
                strict_text=strict_text,
                max_failures=max_failures,
                offline=offline,
                device=device,
                compile=compile_model,
                batch_size=batch_size,
                num_workers=num_workers,
                cache=cache,
                protocol=protocol_version,
                out=out,
                below=None if out else "runs",
                progress=bar,
                notify=lambda line: console_err().print(line, markup=False, soft_wrap=True),
                command=["cas", *sys.argv[1:]],
                ranks=join(device),
            )
    finally:
        leave()
    if as_json:
        emit_json({**run.summary, "run": str(run.path)})
    else:
        from cas_metric.cli.score_table import print_summary

        print_summary(run)
    if run.summary["failures"]:
        raise typer.Exit(EXIT_SOME_FAILED)
