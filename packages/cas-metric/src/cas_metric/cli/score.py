"""``cas score``: from two folders to rows, a summary and a report."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress, console_err, emit_json
from cas_metric.errors import EXIT_SOME_FAILED, CasError, InputError

if TYPE_CHECKING:
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.ranks import Ranks
    from cas_metric.encoders import Encoder
    from cas_metric.manifest import FolderConfig
    from cas_metric.scoring.inputs import Inputs
    from cas_metric.scoring.pipeline import Options, Scores

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

- `accelerate launch --module cas_metric.cli.main score gen/ real/` gives every device its share

**Exit codes**

0 done; 3 done, but some images failed (see the column `status`); 2 wrong usage or input; 4 a model
is not available.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@dataclass(frozen=True)
class Request:
    """What to score, and with what: the command line without output and running."""

    generated: Path
    real: Path
    domain: str | None
    train: Path | None
    probe: Path | None
    method: str | None
    seed: int | None
    unpaired: bool
    encoder: str | None
    dtype: str
    text_policy: str
    device: str
    offline: bool
    compile: bool


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
def score(
    generated: Annotated[Path, typer.Argument(metavar="GEN", help="Images to score.")],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Their real partners.")],
    domain: option.Domain = None,
    train: option.Train = None,
    probe: option.Probe = None,
    method: option.Method = None,
    seed: option.Seed = None,
    unpaired: option.Unpaired = False,
    encoder: option.Encoder = None,
    dtype: option.Dtype = protocol.SCORE_DTYPE,
    text_policy: option.TextPolicy = protocol.TEXT_POLICY,
    strict_text: option.StrictText = False,
    offline: option.Offline = False,
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
    from cas_metric.scoring.pipeline import Options

    started = time.perf_counter()
    ranks = join(device)
    request = Request(
        *(generated, real, domain, train, probe, method, seed, unpaired),
        *(encoder, dtype, text_policy, ranks.device or device, offline, compile_model),
    )
    with CountProgress("images") as bar:
        options = Options(batch_size, num_workers, strict_text, max_failures, bar)
        found = _score(request, options, cache, ranks)
    ranks.wait()
    leave()
    if found is None:
        return
    folder = out or Path("runs") / _name_of(generated)
    summary = _write(folder, *found, started=started)
    if as_json:
        emit_json({**summary, "run": str(folder)})
    else:
        from cas_metric.cli.score_table import print_summary

        print_summary(summary, folder)
    if summary["failures"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def _score(
    request: Request, options: Options, cache_option: str | None, ranks: Ranks
) -> tuple[Scores, Encoder, dict[str, Any] | None] | None:
    """Check the inputs, then load the encoder, then score; None on all ranks but 0."""
    from cas_metric.scoring.pipeline import score_inputs
    from cas_metric.scoring.precision import precision_change
    from cas_metric.scoring.probe import Probe

    inputs, probe_file = _checked(request, ranks)
    spec = request.encoder or _default_encoder(inputs, ranks)
    encoder = _open_encoder(request, spec, request.dtype)
    probe = Probe.load(probe_file, encoder) if probe_file is not None else None
    with _open_cache(cache_option, ranks) as cache:  # none is made where the encoder is not here
        scores = score_inputs(inputs, encoder, cache, probe=probe, options=options, ranks=ranks)
        if scores is None:
            return None
        change = None
        if encoder.dtype != protocol.SCORE_DTYPE:
            exact = _open_encoder(request, spec, protocol.SCORE_DTYPE)
            change = precision_change(inputs, encoder, exact, cache)
    return scores, encoder, change


def _open_encoder(request: Request, spec: str, dtype: str) -> Encoder:
    from cas_metric.encoders import open_encoder

    return open_encoder(
        spec,
        device=request.device,
        dtype=dtype,
        text_policy=request.text_policy,
        offline=request.offline,
        compile=request.compile,
    )


def _checked(request: Request, ranks: Ranks) -> tuple[Inputs, Path | None]:
    """Inputs on every rank; what is wrong with them is told by rank 0 alone."""
    inputs, problem = None, None
    if ranks.main:
        try:
            inputs = _read(request)
        except CasError as error:
            problem = error
    exit_code = ranks.from_main(problem.exit_code if problem else 0)
    if problem is not None:
        raise problem
    if exit_code:
        raise typer.Exit(exit_code)
    return inputs or _read(request)


def _read(request: Request) -> tuple[Inputs, Path | None]:
    """Manifests, domain and probe file: from the options, REAL's ``cas.yaml``, then GEN's."""
    from cas_metric.domains import load_domain
    from cas_metric.manifest import FolderConfig, read_manifest
    from cas_metric.scoring.inputs import prepare, select

    if request.train is not None and request.probe is not None:
        raise InputError("--train and --probe both say where the probe comes from", fix="give one")
    generated = select(read_manifest(request.generated), request.method, request.seed)
    real = read_manifest(request.real)
    config, made = real.config or FolderConfig(), generated.config or FolderConfig()
    domain = request.domain or config.domain or made.domain
    # The training split of another domain fits no probe of this one.
    train, probe = _probe_source(request, config, *([made] if made.domain == domain else []))
    if probe is not None and not probe.is_file():
        raise InputError(
            f"{probe}: no such file, and it is to be the probe",
            fix="give the probe.safetensors of an earlier run, or --train",
        )
    inputs = prepare(
        generated,
        real,
        domain=load_domain(domain) if domain else None,
        train=read_manifest(train) if train is not None else None,
        unpaired=request.unpaired,
    )
    return inputs, probe


def _probe_source(request: Request, *configs: FolderConfig) -> tuple[Path | None, Path | None]:
    """Training split or saved probe; options come before the configurations, a probe first."""
    if request.train is not None or request.probe is not None:
        return request.train, request.probe
    for config in configs:
        if config.probe is not None:
            return None, config.probe
        if config.train is not None:
            return config.train, None
    return None, None


def _default_encoder(inputs: Inputs, ranks: Ranks) -> str:
    """The evaluator of the protocol, or that of the embedded world for its images."""
    if inputs.domain is None or not inputs.domain.embedded:
        return protocol.EVALUATOR
    if ranks.main:
        console_err().print(
            f"{inputs.domain.name} is a phantom domain: scoring with phantom-siglip "
            "(--encoder chooses another)"
        )
    return "phantom-siglip"


def _open_cache(directory: str | None, ranks: Ranks) -> EmbeddingCache:
    """The store; ranks of one host share it, every further host has one of its own beside it."""
    from cas_metric.embedding.cache import NO_CACHE, EmbeddingCache, default_directory

    if ranks.count > 1 and directory == NO_CACHE:
        raise InputError("--cache none cannot be shared by several processes", fix="name a DIR")
    if ranks.host:
        return EmbeddingCache(Path(directory or default_directory()) / f"host-{ranks.host}")
    return EmbeddingCache(directory)


def _write(
    folder: Path,
    scores: Scores,
    encoder: Encoder,
    precision: dict[str, Any] | None,
    *,
    started: float,
) -> dict[str, Any]:
    """Write the run and its report; return the summary."""
    from cas_metric.report import write_report
    from cas_metric.runs.folder import write_run
    from cas_metric.runs.summary import build_summary

    command = ["cas", *sys.argv[1:]]
    seconds = time.perf_counter() - started
    summary = build_summary(scores, encoder, command, seconds=seconds, precision=precision)
    fitted = scores.judge.probe if scores.inputs.train is not None else None
    write_run(folder, scores.rows, summary, real=scores.real, floor=scores.floor, probe=fitted)
    write_report(folder)
    return summary


def _name_of(generated: Path) -> str:
    """A name for the run: that of the folder, or of the table without its ending."""
    # Not resolve(): a link keeps its own name. But with ".." left, runs/.. would be elsewhere.
    path = Path(os.path.normpath(generated.absolute()))
    return path.name if path.is_dir() or path.stem != "metadata" else path.parent.name
