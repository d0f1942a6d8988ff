"""``cas score``: score every generated image against its real reference."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress, console_err, console_out, emit_json, names
from cas_metric.errors import EXIT_SOME_FAILED, PartsDone
from cas_metric.protocol import CUSTOM, PRIMITIVES, SCORE_DTYPE, TEXT_POLICY, VERSION
from cas_metric.statistics.intervals import FEW_CLUSTERS
from cas_metric.statistics.rounding import between, fixed

if TYPE_CHECKING:
    from cas_metric.runs.run import Run

_COLUMNS: Final = (*PRIMITIVES, "cas")
#: Width where there is no terminal to ask.
_WIDTH: Final = 112

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

- `cas score gen.parquet real/ --out /shared/run --engine ray` scores on a Ray cluster

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
    dtype: option.Dtype = SCORE_DTYPE,
    text_policy: option.TextPolicy = TEXT_POLICY,
    strict_text: option.StrictText = False,
    offline: option.Offline = False,
    protocol_version: Annotated[
        str,
        typer.Option("--protocol", help="cas-v1, or cas-v2 for the calibrated columns beside it."),
    ] = VERSION,
    out: Annotated[Path | None, option.result_folder("runs/ and the name of GEN")] = None,
    as_json: option.Json = False,
    max_failures: option.MaxFailures = None,
    device: option.Device = "auto",
    compile_model: option.Compile = False,
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
    engine: option.Engine = "local",
    shard: option.Shard = None,
    rows_only: option.RowsOnly = False,
    track: option.Track = None,
    crate: option.Crate = False,
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
                by=names(by),
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
                engine=engine,
                shard=shard,
                rows_only=rows_only,
                track=names(track),
                crate=crate,
                out=out,
                below=None if out else "runs",
                progress=bar,
                notify=lambda line: console_err().print(line, soft_wrap=True),
                command=["cas", *sys.argv[1:]],
                ranks=join(device),
            )
    except PartsDone as done:
        if as_json:
            emit_json(done.summary)
        raise
    finally:
        leave()
    if as_json:
        emit_json({**run.summary, "run": str(run.path)})
    else:
        print_summary(run)
    if run.summary["failures"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def print_summary(run: Run) -> None:
    """Print the table of means, what to know about it, and where the report is."""
    console, summary = console_out(), run.summary
    if not console.is_terminal:
        console.width = _WIDTH
    if summary["embedded_world"]:
        console.print("Phantom images: drawings of the embedded world, not medical data.")
    for warning in summary["warnings"]:
        console.print(f"Warning: {warning}.", soft_wrap=True)
    console.print(_table(summary))
    for name, one in _subgroups(summary):
        console.print(f"\n{name}, by group:\n\n{one}\n", soft_wrap=True)
    for line in _lines(summary):
        console.print(line, soft_wrap=True)
    console.print(f"report: {run.path}/report.html", soft_wrap=True)


def _table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold", min_width=8)
    for name in _COLUMNS:
        table.add_column(name.upper(), justify="right", no_wrap=True)
    table.add_column("below tau", justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    for one in summary["methods"]:
        table.add_row(Text(one["method"]), *_cells(one, one["tail"]))
    for name in ("real", "floor"):
        table.add_row(Text(name.capitalize()), *_cells(summary[name], None), style="dim")
    return table


def _cells(one: Mapping[str, Any], tail: Mapping[str, Any] | None) -> list[str]:
    """Mean with the 95% interval below it, for every column after the name."""
    cells = []
    for name in _COLUMNS:
        low, high = one["interval"][name]
        cells.append(_with_interval(one["mean"][name], low, high))
    cells.append(_with_interval(tail["rate"], *tail["rate_interval"]) if tail else "")
    return [*cells, f"{one['n']}" + (f"\n{one['n_failed']} failed" if one["n_failed"] else "")]


def _with_interval(mean: float, low: float, high: float) -> str:
    if mean is None or mean != mean:
        return "-"
    return f"{fixed(mean)}\n{between([low, high])}"


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Everything that must be known beside the table, a line each."""
    sizes = [m.get("clusters", FEW_CLUSTERS) for m in summary["methods"]]
    if few := [n for n in sizes if 0 < n < FEW_CLUSTERS]:  # 0: nothing was scored
        yield f"The intervals rest on as few as {min(few)} independent cases: wide, and rough."
    yield "Means, 95% intervals below. Floor: against another real image of the class."
    if summary["tau"] is not None:
        yield f"tau = {summary['tau']:.3f}, the 25th percentile of the real images' CAS"
    for one in summary["methods"]:
        if 0 < (covered := one["coverage"])["cases"] < covered["of"]:
            alone = "; its tail is held against these alone" if one["tail"] else ""
            cases = f"{covered['cases']} of {covered['of']} real cases"
            yield f"{one['method']}: scored for {cases}{alone}"
    if calibrated := summary.get("cas_v2"):
        yield _calibrated_line(calibrated)
    yield from _self_test_lines(summary["self_test"])
    yield from _probe_lines(summary["probe"])
    if (change := summary["precision"]) and "problem" in change:
        yield f"{change['dtype']} was not compared with float32: {change['problem']}"
    elif change:
        told = ((name, change[name]) for name in ("vdc", "ccs", "sfs") if name in change)
        moved = (f"{n.upper()} {one['mean']:.5f}, {one['max']:.5f} at most" for n, one in told)
        images = change["images"]
        yield f"{change['dtype']} against float32 on {images} images: {'; '.join(moved)}"
    for name, lack in summary["missing"].items():
        yield (
            f"no {name.upper()} for {lack['images']} of {lack['of']} images ({lack['reason']}), "
            f"so no CAS either; add {lack['add']}"
        )
    yield from _text_lines(summary["text"])
    if failures := summary["failures"]:
        first = failures[0]
        yield f"{len(failures)} images could not be read, first {first['image']}: {first['error']}"
    yield from summary["notes"]
    if summary["protocol"] == CUSTOM:
        yield f"protocol: {CUSTOM} ({'; '.join(summary['departures'])})"
    else:
        yield f"protocol: {summary['protocol']}"
    timing = summary["timing"]
    yield (
        f"embedded {timing['images_embedded']} images, {timing['images_from_cache']} from cache, "
        f"in {timing['seconds']:.1f} s"
    )


def _calibrated_line(found: Mapping[str, Any]) -> str:
    """Which share of each method is less aligned than nearly all real images of its class."""
    alpha = found["alpha"]
    rows = [one for one in found["tail"] if one["alpha"] == alpha and not one["label"]]
    told = [f"{one['method']} {_share(one['share_low'], one['low'], one['high'])}" for one in rows]
    real = [_share(one["real_share_low"], one["real_low"], one["real_high"]) for one in rows[:1]]
    return (
        f"{found['version']}: lower than all but {alpha:g} of real images of the class: "
        f"{', '.join(told)}; held-out real images {''.join(real)}"
    )


def _share(value: float, low: float, high: float) -> str:
    bounds = between([low, high])
    return f"{fixed(value)} ({bounds})" if bounds else fixed(value)


def _subgroups(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and tables of every method, and of the real images, whose groups were compared."""
    for kind in ("methods", "real"):
        for name, one in (summary["subgroups"].get(kind) or {}).items():
            from cas_metric.statistics.subgroups import Subgroups, markdown

            yield name, markdown(Subgroups.of(one))


def _self_test_lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the encoder can tell apart on the real images."""
    if found:
        told = (
            f"{name.upper()} {one['score']:.2f} ({one['chance']:.2f})"
            for name, one in found.items()
        )
        yield f"self-test on the real images, chance in brackets: {', '.join(told)}"


def _probe_lines(probe: Mapping[str, Any]) -> Iterator[str]:
    """What DD rests on."""
    if "training_accuracy" in probe:
        share, images = probe["training_accuracy"], probe["images"]
        yield f"probe: fitted on {images} real images, of which it recognises {share:.1%}"
    elif "folds" in probe:
        yield f"probe: cross-fitted on the real images in {probe['folds']} folds"


def _text_lines(text: Mapping[str, Any]) -> Iterator[str]:
    """How many texts the encoder could not read to the end."""
    limit = text["token_limit"]
    for method, prompts in text["prompts"].items():
        if prompts["truncated"]:
            yield (
                f"{method}: {prompts['truncated']} of {prompts['n']} prompts cut at {limit} tokens "
                f"(longest {prompts['most_tokens']})"
            )
    cut = [label for label, one in text["checklists"].items() if one["truncated"]]
    if cut:
        yield (
            f"{len(cut)} of {len(text['checklists'])} checklists cut at {limit} tokens: "
            f"{', '.join(cut)}"
        )
