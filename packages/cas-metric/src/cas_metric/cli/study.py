"""``cas study``: run a blinded ranking study with human raters."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli.common import CountProgress, console_err
from cas_metric.cli.results import finish
from cas_metric.verbs.study import PORT, URL

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Let raters rank images of several methods blindly, in the browser.\n\n"
    "cas study create makes a study and prints a secret link for each rater, cas study serve runs "
    "it, cas study export writes what cas preference reads.",
)


class Layout(StrEnum):
    """How images are shown."""

    rank = "rank"
    pairs = "pairs"
    single = "single"


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the study.")]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
BaseUrl = Annotated[
    str,
    typer.Option(
        "--url", help="Address that raters reach the server under, for the links.", metavar="URL"
    ),
]


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
        typer.Option("--rank-real", help="Judge the real image along, as the method 'real'."),
    ] = False,
    show_real: Annotated[
        bool, typer.Option("--show-real", help="Show the real image beside, to compare with.")
    ] = False,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Show the prompt of each case.")
    ] = False,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Stored values to show black and white, for images of more than 8 bits.",
        ),
    ] = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="rank: all images of a case; pairs: two of them, every pair of methods as often; "
            "single: one image at a time."
        ),
    ] = Layout.rank,
    ties: Annotated[bool, typer.Option("--ties", help="Let images share a rank.")] = False,
    likert: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=9,
            metavar="POINTS",
            help="Rate every image by the criteria of study.yaml, on a scale of so many points.",
        ),
    ] = None,
    ask_real: Annotated[
        bool,
        typer.Option("--ask-real", help="Ask of every image: real or synthetic? With --rank-real."),
    ] = False,
    practice: Annotated[
        int, typer.Option(min=0, help="Further cases, shown first, that do not count.")
    ] = 0,
    repeats: Annotated[
        int, typer.Option(min=0, help="Cases that every rater meets twice, far apart.")
    ] = 0,
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
    url: BaseUrl = URL,
    as_json: AsJson = False,
) -> None:
    """Make a study, and print each rater's secret link. Links are shown once and stored nowhere.

    Of every case, each method's image is shown once: cases are joined by reference, else by id.
    Images are copied as PNG under random names, without metadata. Every rater gets the cases, and
    the images within each, in an order of their own.

    Example: cas study create study craft=gen/craft lora=gen/lora --real real/test --cases 100
    """
    from cas_metric.verbs import study as verb

    with CountProgress("images") as bar:
        result = verb.create(
            *(folder, sets),
            real=real,
            rank_real=rank_real,
            show_real=show_real,
            show_prompt=show_prompt,
            window=window,
            layout=layout.value,
            ties=ties,
            likert=likert or 0,
            ask_real=ask_real,
            practice=practice,
            repeats=repeats,
            cases=cases,
            balanced=balanced,
            raters=rater or raters,
            seed=seed,
            side=side,
            template=template,
            url=url,
            progress=bar,
        )
    finish(result, None, as_json=as_json)


@app.command()
def template(
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("study.yaml"),
) -> None:
    """Write the default texts, to be edited and given to cas study create --template."""
    from cas_metric.verbs import study as verb

    typer.echo(str(verb.template(out)))


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
    url: BaseUrl = URL,
    as_json: AsJson = False,
) -> None:
    """List who has a link, or make new ones.

    Of a link only a hash is stored, so that nobody can read the links out of the study's folder; a
    lost one is replaced with --renew.
    """
    from cas_metric.verbs import study as verb

    changes = {"add": add or (), "renew": renew or (), "revoke": revoke or ()}
    finish(verb.links(folder, **changes, url=url), None, as_json=as_json)


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks one.")] = PORT,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address that raters reach a proxy before this server under; needed where the "
            "proxy does not pass on the Host header.",
        ),
    ] = None,
) -> None:
    """Serve a study until Ctrl-C. Answers are on disk before a rater sees them confirmed.

    It listens on this machine alone unless told otherwise. Links are secrets, so put a proxy that
    speaks TLS before it when raters come over a network.
    """
    from cas_metric.study import serving

    def warn(text: str) -> None:
        console_err().print(f"warning: {text}", style="yellow", soft_wrap=True)

    if warning := serving.exposure(host):
        warn(warning)
    serving.run(
        *(folder, host, port),
        ready=lambda at: typer.echo(f"{folder} on {at}, Ctrl-C ends"),
        public=url,
        complain=warn,
    )


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """How far every rater is, and how far they agree so far."""
    from cas_metric.verbs import study as verb

    finish(verb.status(folder), None, as_json=as_json)


@app.command()
def export(
    folder: Folder,
    out: Annotated[
        Path, typer.Option("--out", help="Rankings, as cas preference reads them.", metavar="CSV")
    ] = Path("rankings.csv"),
    finished_only: Annotated[
        bool, typer.Option("--finished-only", help="Leave out raters who have not finished.")
    ] = False,
    redcap: Annotated[
        bool, typer.Option("--redcap", help="Write NAME-redcap.csv and NAME-codebook.csv, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the rankings, and beside them details, every revision, and ratings.

    NAME-details.csv has times, durations and notes, NAME-revisions.csv every answer ever given,
    NAME-ratings.csv what was answered to questions on images. The server may keep running. Cases
    that a rater could not judge are in the details alone.
    """
    from cas_metric.verbs import study as verb

    result = verb.export(folder, out, finished_only=finished_only, redcap=redcap)
    finish(result, None, as_json=as_json)


@app.command("import")
def import_(
    folder: Folder,
    table: Annotated[
        Path, typer.Argument(metavar="CSV", help="REDCap's export of the records, raw values.")
    ],
    as_json: AsJson = False,
) -> None:
    """Take answers back that were given or corrected in REDCap.

    The project is made of NAME-codebook.csv, the records of NAME-redcap.csv (cas study export
    --redcap). Every changed record becomes a further revision of its case; one row that is wrong
    keeps all of them out. The server may keep running.
    """
    from cas_metric.verbs import study as verb

    finish(verb.import_answers(folder, table), None, as_json=as_json)


@app.command()
def backup(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="New folder.", metavar="DIR")],
    as_json: AsJson = False,
) -> None:
    """Copy a study that may be running; the copy is a study itself, with the same links."""
    from cas_metric.verbs import study as verb

    finish(verb.backup(folder, out), None, as_json=as_json)


@app.command()
def plan(
    win_rate: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of answers that prefer the better of two methods, ties as halves: 0.5 is "
            "no difference.",
        ),
    ],
    raters: Annotated[int, typer.Option(min=1, max=100, help="Up to how many raters.")] = 5,
    correlation: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Of two raters' preferences of one case; 1 if they always agree."
        ),
    ] = 0.3,
    ties: Annotated[float, typer.Option(min=0, max=1, help="Share of ties.")] = 0.0,
    methods: Annotated[
        int, typer.Option(min=2, max=9, help="Methods: the level is shared by their pairs.")
    ] = 2,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Two-sided level.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance to find the difference.")] = 0.8,
    cases: Annotated[
        int | None, typer.Option(min=2, help="Say the chance with so many cases, too.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Time on a case.")] = 45.0,
    as_json: AsJson = False,
) -> None:
    """Say how many cases and raters it takes to find a difference.

    Example: cas study plan --win-rate 0.65 --raters 4 --methods 5
    """
    from cas_metric.verbs import study as verb

    result = verb.plan(
        win_rate=win_rate,
        raters=raters,
        correlation=correlation,
        ties=ties,
        methods=methods,
        alpha=alpha,
        wanted=power,
        cases=cases,
        seconds=seconds,
    )
    finish(result, None, as_json=as_json)
