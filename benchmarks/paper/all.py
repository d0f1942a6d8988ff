"""Every table and figure on the four phantom domains: ``make reproduce-phantoms``.

``python -m benchmarks.paper.all [--quick] [--plan]``. Everything is resumable: the same command
continues where it was interrupted, and a table whose steps are done is only written again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.paper import steps as graph
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.rates import rates_of
from benchmarks.paper.script import SCALES, Script, log_of, write
from benchmarks.paper.settings import Settings

from cas_metric.errors import CasError
from cas_metric.phantoms import DOMAINS

#: On every domain.
MAIN: Final = (
    *("table1", "table2", "table3a", "table5", "table6", "table14", "table17", "table19"),
    *("table23", "figure3", "figure9"),
)
#: On one domain: each takes several trainings of its own. A quick run makes the first.
ABLATIONS: Final = ("table4", "table12", "table15", "figure8")
ABLATED: Final = "phantom-chexpert"


def main(arguments: list[str] | None = None) -> None:
    """Plan or run everything; a :class:`CasError` becomes its message and exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.all", description=__doc__)
    parser.add_argument("--domains", nargs="+", default=list(DOMAINS), choices=DOMAINS)
    parser.add_argument("--quick", action="store_true", help="the same path, much smaller")
    parser.add_argument("--no-ablations", action="store_true", help="leave out Tables 4, 12, 15, 8")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"))
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="commands at once; one a core"
    )
    parser.add_argument("--backbone", type=Path, help="AlexNet weights of LPIPS, safetensors")
    parser.add_argument("--plan", action="store_true", help="estimate, run nothing")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except CasError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(options: argparse.Namespace) -> None:
    """The scripts of every domain, one after the other, after an estimate of them all."""
    scale = SCALES["quick" if options.quick else "phantoms"]
    pipelines = {}
    for domain in options.domains:
        folder = options.out / scale.name / domain
        settings = Settings(domain, None, "phantom-sd", scale, folder, backbone=options.backbone)
        pipelines[domain] = Pipeline(settings)
    chosen = {
        domain: [script_of(name) for name in names_for(domain, options)] for domain in pipelines
    }
    print(estimate(pipelines, chosen, options.jobs), file=sys.stderr, flush=True)
    if options.plan:
        return
    started = time.perf_counter()
    # A table at a time, over all domains: whoever stops half-way has the first tables whole.
    for name in (*MAIN, *ABLATIONS):
        script = script_of(name)
        concerned = [p for d, p in pipelines.items() if name in names_for(d, options)]
        graph.run_all([(script.steps(p), log_of(p)) for p in concerned], options.jobs)
        for pipeline in concerned:
            write(script, pipeline, script.report(pipeline))
        minutes = (time.perf_counter() - started) / 60
        print(f"{name}, {minutes:.0f} min", file=sys.stderr, flush=True)
    for pipeline in pipelines.values():
        # Costs again, now that everything has been paid.
        table6 = script_of("table6")
        write(table6, pipeline, table6.report(pipeline))
        print(pipeline.folder / "results")


def names_for(domain: str, options: argparse.Namespace) -> tuple[str, ...]:
    """Scripts of a domain."""
    if domain != ABLATED or options.no_ablations:
        return MAIN
    return (*MAIN, *(ABLATIONS[:1] if options.quick else ABLATIONS))


def script_of(name: str) -> Script:
    """The script of a table by its name."""
    script: Script = importlib.import_module(f"benchmarks.paper.{name}").SCRIPT
    return script


def estimate(pipelines: dict[str, Pipeline], chosen: dict[str, list[Script]], jobs: int) -> str:
    """Steps and minutes of work that are left, a line a domain, and the hours for all."""
    lines, total = [], 0.0
    for domain, pipeline in pipelines.items():
        wanted = [step for script in chosen[domain] for step in script.steps(pipeline)]
        left = [step for step in graph.ordered(wanted) if not step.done]
        rates = rates_of(pipeline)
        seconds = sum(rates.seconds(step.work) for step in left)
        total += seconds
        lines.append(
            f"{domain}: {len(left)} steps, about {seconds / 60:.0f} min of one core; "
            f"{log_of(pipeline)}"
        )
    return "\n".join(
        [*lines, f"in all about {total / 3600 / jobs:.1f} h on this machine, {jobs} at once"]
    )


if __name__ == "__main__":
    main()
