"""``cas study``: a blinded ranking study, from the images to the rankings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli.common import CountProgress, console_err, console_out, emit_json
from cas_metric.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cas_metric.manifest import Manifest
    from cas_metric.study import Link

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Let raters rank images of several methods blindly, in the browser.\n\n"
    "cas study create makes a study and prints a secret link for each rater, cas study serve runs "
    "it, cas study export writes what cas preference reads.",
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the study.")]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
BaseUrl = Annotated[
    str,
    typer.Option(
        "--url", help="Address that raters reach the server under, for the links.", metavar="URL"
    ),
]
DEFAULT_PORT = 8642
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the study.")],
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD=GEN",
            help="Images of each method: a manifest or folder. Without METHOD=, one manifest that "
            "names several methods.",
        ),
    ],
    real: Annotated[
        Path | None,
        typer.Option(
            help="Real images: cases are then theirs, and missing labels come from them. They are "
            "not shown, unless --rank-real."
        ),
    ] = None,
    rank_real: Annotated[
        bool,
        typer.Option("--rank-real", help="Rank the real image along, as the method 'real'."),
    ] = False,
    cases: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cases to draw, stratified by label. Default: 100, or all if fewer."
        ),
    ] = None,
    balanced: Annotated[
        bool,
        typer.Option("--balanced", help="Equally many cases a label, not the labels' proportions."),
    ] = False,
    raters: Annotated[int, typer.Option(min=1, max=1000, help="How many raters.")] = 2,
    rater: Annotated[
        list[str] | None,
        typer.Option(help="Name of a rater, in place of rater-1, rater-2, …; repeat it."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the draw and all orders.")] = 0,
    side: Annotated[
        int | None,
        typer.Option(min=32, max=4096, help="Scale every image to this longer side, in pixels."),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(help="A study.yaml with your instruction; see cas study template."),
    ] = None,
    url: BaseUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make a study, and print each rater's secret link. Links are shown once and stored nowhere.

    Of every case, each method's image is shown once: cases are joined by reference, else by id.
    Images are copied as PNG under random names, without metadata. Every rater gets the cases, and
    the images within each, in an order of their own.

    Example: cas study create study craft=gen/craft lora=gen/lora --real real/test --cases 100
    """
    from cas_metric.cli.features import is_phantom
    from cas_metric.domains.reading import read_text
    from cas_metric.manifest import read_manifest
    from cas_metric.study import collect_cases, create_study, draw_cases
    from cas_metric.study.wording import DEFAULT

    given = [_read_set(argument) for argument in sets]
    partners = read_manifest(real) if real is not None else None
    shared, notes = collect_cases(given, partners, rank_real=rank_real, seed=seed)
    drawn = draw_cases(shared, cases or min(100, len(shared)), seed, balanced=balanced)
    phantom = any(is_phantom(one) for one in (*(m for _, m in given), partners) if one)
    with CountProgress("images") as bar:
        made = create_study(
            folder,
            drawn,
            rater or [f"rater-{k}" for k in range(1, raters + 1)],
            texts=DEFAULT if template is None else read_text(template),
            seed=seed,
            side=side,
            settings={"embedded_world": phantom, "balanced": balanced},
            advance=bar,
        )
    for note in (*notes, *made.notes):
        console_err().print(f"note: {note}", markup=False, soft_wrap=True)
    labels: dict[str, int] = {}
    for case in drawn:
        labels[case.label] = labels.get(case.label, 0) + 1
    methods = [candidate.method for candidate in drawn[0].candidates]
    if as_json:
        summary = {"folder": str(folder), "cases": len(drawn), "labels": labels, "methods": methods}
        told = [*notes, *made.notes]
        emit_json({**summary, "links": _links_json(made.links, url), "notes": told})
        return
    counts = ", ".join(f"{label} {n}" for label, n in sorted(labels.items()))
    typer.echo(f"{folder}: {len(drawn)} cases ({counts}), {len(methods)} methods")
    _print_links(made.links, url)
    console_err().print(
        f"Edit {folder / 'study.yaml'} if need be, then: cas study serve {folder}",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def template(
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("study.yaml"),
) -> None:
    """Write the default texts, to be edited and given to cas study create --template."""
    from cas_metric.files import write_bytes
    from cas_metric.study.wording import DEFAULT

    if out.exists():
        raise InputError(f"{out} exists", fix="name another file with --out")
    write_bytes(out, DEFAULT.encode())
    typer.echo(str(out))


@app.command()
def links(
    folder: Folder,
    add: Annotated[list[str] | None, typer.Option(help="Admit another rater.")] = None,
    renew: Annotated[
        list[str] | None,
        typer.Option(help="New link for a rater who keeps all answers; the old one dies."),
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option(help="Stop a rater's link; the answers stay.")
    ] = None,
    url: BaseUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List who has a link, or make new ones.

    Of a link only a hash is stored, so that nobody can read the links out of the study's folder; a
    lost one is replaced with --renew.
    """
    from cas_metric.study import open_study
    from cas_metric.study.building import add_raters, renew_link, require_raters, revoke_link
    from cas_metric.study.results import state

    store = open_study(folder)
    # Before any change: a link that was made when another name fails would never be shown.
    require_raters(store, [*(renew or []), *(revoke or [])])
    fresh = [*add_raters(store, add or []), *(renew_link(store, name) for name in renew or [])]
    for name in revoke or []:
        revoke_link(store, name)
    raters = [{"rater": one["rater"], "link": one["link"]} for one in state(store)["raters"]]
    store.close()
    if as_json:
        emit_json({"raters": raters, "links": _links_json(fresh, url)})
        return
    _print_links(fresh, url)
    if not (fresh or revoke):
        for one in raters:
            typer.echo(f"{one['rater']}: {'has a link' if one['link'] else 'link revoked'}")
        console_err().print("Links are shown once; a lost one is replaced with --renew NAME.")


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks one.")] = DEFAULT_PORT,
) -> None:
    """Serve a study until Ctrl-C. Answers are on disk before a rater sees them confirmed.

    It listens on this machine alone unless told otherwise. Links are secrets, so put a proxy that
    speaks TLS before it when raters come over a network.
    """
    from cas_metric.study.serving import is_loopback, run

    if not is_loopback(host):
        console_err().print(
            f"warning: {host} can be reached from other machines, and this server speaks plain "
            "HTTP: links and images travel readably. Use a proxy with TLS.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    run(folder, host, port, ready=lambda address: typer.echo(f"{folder} on {address}, Ctrl-C ends"))


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """How far every rater is, and how far they agree so far."""
    from cas_metric.study import open_study
    from cas_metric.study.results import state

    store = open_study(folder)
    found = state(store)
    store.close()
    if as_json:
        emit_json(found)
        return
    _print_state(found)


@app.command()
def export(
    folder: Folder,
    out: Annotated[
        Path, typer.Option("--out", help="Rankings, as cas preference reads them.", metavar="CSV")
    ] = Path("rankings.csv"),
    finished_only: Annotated[
        bool, typer.Option("--finished-only", help="Leave out raters who have not finished.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the rankings, and beside them NAME-details.csv with times, durations and notes.

    The server may keep running. Cases that a rater could not judge are in the details alone.
    """
    from cas_metric.files import write_bytes
    from cas_metric.study import open_study
    from cas_metric.study.results import agreement_of, details, rankings, state

    if not out.name:
        raise InputError(f"{out} is no file", fix="name a file with --out, e.g. rankings.csv")
    store = open_study(folder)
    table = details(store)
    found = state(store)
    store.close()
    ranked = rankings(table, finished_only=finished_only)
    if ranked.empty:
        raise InputError(f"{folder}: nothing has been ranked yet", fix="see cas study status")
    beside = out.with_name(f"{out.stem}-details{out.suffix}")
    write_bytes(out, ranked.to_csv(index=False, lineterminator="\n").encode())
    write_bytes(beside, table.to_csv(index=False, lineterminator="\n").encode())
    found["agreement"] = agreement_of(ranked)
    if as_json:
        emit_json({**found, "rankings": str(out), "details": str(beside), "rows": len(ranked)})
        return
    _print_state(found)
    typer.echo(f"{out}: {len(ranked.groupby(['case', 'rater']))} rankings\n{beside}: everything")
    console_err().print(f"Next: cas preference {out}", markup=False, soft_wrap=True)


def _read_set(argument: str) -> tuple[str | None, Manifest]:
    """``METHOD=GEN``, or the manifest alone."""
    from cas_metric.manifest import read_manifest
    from cas_metric.mllm.sources import split_source

    name, path = split_source(argument)
    return name, read_manifest(path)


def _links_json(fresh: Sequence[Link], url: str) -> list[dict[str, str]]:
    return [{"rater": link.rater, "url": link.url(url)} for link in fresh]


def _print_links(fresh: Sequence[Link], url: str) -> None:
    for link in fresh:
        typer.echo(f"{link.rater}: {link.url(url)}")
    if fresh:
        console_err().print("Hand each rater their own link now: it is not shown again.")


def _print_state(found: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    if found["embedded_world"]:
        typer.echo("Drawn phantoms, not medical data.")
    numeric = ("answered", "cannot judge", "median s")
    table = Table("rater", *(Column(name, justify="right") for name in numeric), "last", "finished")
    for one in found["raters"]:
        seconds = one["median_seconds"]
        table.add_row(
            escape(one["rater"]),
            f"{one['answered']}/{one['cases']}",
            str(one["cannot_judge"]),
            "–" if seconds is None else f"{seconds:.0f}",
            (one["last_activity"] or "–")[:16].replace("T", " "),
            "yes" if one["finished_at"] else "no",
        )
    console_out().print(table)
    agreement = found["agreement"]
    if agreement is None:
        typer.echo("No case is ranked by two raters yet.")
    else:
        typer.echo(
            f"Agreement over {agreement['n_shared']} cases: "
            f"Krippendorff's alpha {_interval(agreement['alpha'])}, "
            f"Kendall's W {_interval(agreement['kendall_w'])} "
            f"(chance {agreement['kendall_w_chance']:.2f})"
        )
    for warning in found["warnings"]:
        console_err().print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)


def _interval(found: dict[str, float]) -> str:
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
