"""A blinded ranking study, from the images to the rankings.

Each function is a command of ``cas study``; serving is :func:`cas_metric.study.serving.run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.verbs.progress import Progress
from cas_metric.verbs.result import Result
from cas_metric.verbs.study_export import export, import_answers, status

__all__ = [
    "PORT",
    "URL",
    "backup",
    "create",
    "export",
    "import_answers",
    "links",
    "plan",
    "status",
    "template",
]

if TYPE_CHECKING:
    from cas_metric.manifest import Manifest
    from cas_metric.study import Case, Design, Link
    from cas_metric.study.building import Created

#: Port that a study is served on, and the address of the links that it gives.
PORT: Final = 8642
URL: Final = f"http://127.0.0.1:{PORT}"
#: Cases of a study unless told otherwise.
_CASES: Final = 100
_SHOWN_ONCE: Final = "Hand each rater their own link now: it is not shown again."


def create(
    folder: str | Path,
    sets: Sequence[str],
    *,
    real: str | Path | None = None,
    rank_real: bool = False,
    show_real: bool = False,
    show_prompt: bool = False,
    window: tuple[float, float] | None = None,
    layout: str = "rank",
    ties: bool = False,
    likert: int = 0,
    ask_real: bool = False,
    practice: int = 0,
    repeats: int = 0,
    cases: int | None = None,
    balanced: bool = False,
    raters: int | Sequence[str] = 2,
    seed: int = 0,
    side: int | None = None,
    template: str | Path | None = None,
    url: str = URL,
    progress: Progress | None = None,
) -> Result:
    """Make a study and each rater's secret link, which is stored nowhere.

    Args:
        folder: New folder for the study.
        sets: Images of each method: ``PATH`` or ``METHOD=PATH`` each.
        real: Real images: cases are then theirs, and missing labels come from them.
        rank_real: Let the real image be judged along, as the method ``real``.
        show_real: Show the real image beside, to compare with.
        show_prompt: Show the prompt of each case.
        window: Stored values to show black and white, for images without a window of their own.
        layout: ``rank`` all images of a case, ``pairs`` of them, or ``single`` images.
        ties: Let images share a rank.
        likert: Points of a scale on which every image is rated by the criteria of the study.yaml;
            0 for none.
        ask_real: Ask of every image whether it is real or synthetic.
        practice: Further cases that every rater meets first and that do not count.
        repeats: Cases that every rater meets twice.
        cases: Cases to draw, stratified by label; by default 100, or all if fewer.
        balanced: Equally many cases a label.
        raters: How many, or their names.
        seed: Seeds the draw and all orders.
        side: Scale every image to this longer side, in pixels.
        template: A ``study.yaml`` with the instruction.
        url: Address that raters reach the server under.
        progress: Told after every image.

    Raises:
        InputError: Wrong sources, a design whose parts do not go together, or a folder that holds
            something.
        PreflightError: Images that cannot be read or shown.

    Examples:
        >>> sets = [f"{kind}=demo/generated/{kind}" for kind in ("faithful", "wrong")]
        >>> made = create("study", sets, real="demo/real/test", cases=4, raters=["ann"])
        >>> sorted(made.summary)
        ['cases', 'design', 'folder', 'labels', 'links', 'methods', 'notes']
    """
    from cas_metric.files import read_text
    from cas_metric.images import Window
    from cas_metric.manifest import read_manifest
    from cas_metric.study import Design, collect_cases, create_study, with_window
    from cas_metric.study.wording import DEFAULT, parse_wording

    texts = DEFAULT if template is None else read_text(Path(template))
    items = parse_wording(texts, str(template or "study.yaml")).criteria if likert else ()
    design = Design(
        layout=layout, ties=ties, points=likert, items=items, ask_real=ask_real, repeats=repeats
    )
    if ask_real and not rank_real:
        raise InputError("--ask-real without real images", fix="add --real REAL and --rank-real")
    given = [_read_set(argument) for argument in sets]
    partners = read_manifest(Path(real)) if real is not None else None
    shared, notes = collect_cases(
        *(given, partners),
        rank_real=rank_real,
        show_real=show_real,
        show_prompt=show_prompt,
        seed=seed,
    )
    if window is not None:
        shared = with_window(shared, Window(*window))
    drawn, first = _draw(shared, cases, practice, seed, balanced=balanced)
    phantom = any(_is_phantom(one) for one in (*(m for _, m in given), partners) if one)
    names = [f"rater-{k}" for k in range(1, raters + 1)] if isinstance(raters, int) else raters
    made = create_study(
        *(Path(folder), drawn, names),
        design=design,
        practice=first,
        texts=texts,
        seed=seed,
        side=side,
        settings={"embedded_world": phantom, "balanced": balanced},
        advance=progress or (lambda done, total: None),
    )
    return _created(Path(folder), drawn, made, design, [*notes, *made.notes], url)


def _draw(
    shared: Sequence[Case], cases: int | None, practice: int, seed: int, *, balanced: bool
) -> tuple[list[Case], list[Case]]:
    """The cases that count, and others to practise on."""
    from cas_metric.study import draw_cases

    count = cases or max(min(_CASES, len(shared) - practice), 1)
    drawn = draw_cases(shared, count, seed, balanced=balanced)
    taken = {case.key for case in drawn}
    left = [case for case in shared if case.key not in taken]
    if practice > len(left):
        raise InputError(
            f"{practice} cases to practise on, but only {len(left)} are left beside the {count} "
            "that count",
            fix="use fewer --cases, or less --practice",
        )
    return drawn, draw_cases(left, practice, seed) if practice else []


def _created(
    folder: Path, drawn: Sequence[Case], made: Created, design: Design, told: list[str], url: str
) -> Result:
    labels = dict(Counter(case.label for case in drawn))
    methods = [candidate.method for candidate in drawn[0].candidates]
    counts = ", ".join(f"{label} {n}" for label, n in sorted(labels.items()))
    text = f"{folder}: {len(drawn)} cases ({counts}), {len(methods)} methods\n"
    return Result(
        "study",
        {
            "folder": str(folder), "cases": len(drawn), "labels": labels, "methods": methods,
            "design": design.plain(), "links": _plain_links(made.links, url), "notes": told,
        },
        text + _link_lines(made.links, url),
        notes=(
            *(f"note: {note}" for note in told),
            _SHOWN_ONCE,
            f"Edit {folder / 'study.yaml'} if need be, then: cas study serve {folder}",
        ),
    )  # fmt: skip


def template(out: str | Path) -> Path:
    """Write the default texts, to be edited and given to :func:`create`.

    Args:
        out: File to write.

    Raises:
        InputError: It exists.
    """
    from cas_metric.files import write_bytes
    from cas_metric.study.wording import DEFAULT

    path = Path(out)
    if path.exists():
        raise InputError(f"{path} exists", fix="name another file with --out")
    write_bytes(path, DEFAULT.encode())
    return path


def links(
    folder: str | Path,
    *,
    add: Sequence[str] = (),
    renew: Sequence[str] = (),
    revoke: Sequence[str] = (),
    url: str = URL,
) -> Result:
    """Who has a link; or new ones.

    Args:
        folder: Of the study.
        add: Raters to admit.
        renew: Raters who get a new link and keep all answers; the old one dies.
        revoke: Raters whose link stops; the answers stay.
        url: Address that raters reach the server under.

    Raises:
        InputError: An unknown or repeated name; nothing is changed then.
    """
    from cas_metric.study import open_study
    from cas_metric.study.building import add_raters, renew_link, require_raters, revoke_link
    from cas_metric.study.results import state

    store = open_study(Path(folder))
    # Before any change: a link that was made when another name fails would never be shown.
    require_raters(store, [*renew, *revoke])
    fresh = [*add_raters(store, add), *(renew_link(store, name) for name in renew)]
    for name in revoke:
        revoke_link(store, name)
    raters = [{"rater": one["rater"], "link": one["link"]} for one in state(store)["raters"]]
    store.close()
    text, told = _link_lines(fresh, url), _SHOWN_ONCE
    if not fresh:
        lines = (f"{r['rater']}: {'has a link' if r['link'] else 'link revoked'}" for r in raters)
        text = "\n".join(lines)
        told = "Links are shown once; a lost one is replaced with --renew NAME."
    summary = {"raters": raters, "links": _plain_links(fresh, url)}
    return Result("links", summary, text, notes=(told,))


def backup(folder: str | Path, out: str | Path) -> Result:
    """Copy a study that may be running.

    Args:
        folder: Of the study.
        out: New folder; a study itself, with the same links.

    Raises:
        InputError: No study, or ``out`` exists.
    """
    from cas_metric.study.backup import back_up

    count = back_up(Path(folder), Path(out))
    return Result(
        "backup",
        {"folder": str(folder), "backup": str(out), "answers": count},
        f"{out}: a copy of {folder} with {count} answers",
    )


def plan(
    *,
    win_rate: float,
    raters: int = 5,
    correlation: float = 0.3,
    ties: float = 0.0,
    methods: int = 2,
    alpha: float = 0.05,
    wanted: float = 0.8,
    cases: int | None = None,
    seconds: float = 45.0,
) -> Result:
    """How many cases and raters it takes to find a difference between two methods.

    Args:
        win_rate: Share of answers that prefer the better method, ties as halves.
        raters: Up to how many raters to reckon with.
        correlation: Of two raters' preferences of one case.
        ties: Share of answers without a preference.
        methods: How many are compared: the level is divided by the number of their pairs.
        alpha: Two-sided level.
        wanted: Chance to find the difference.
        cases: Say the chance with so many cases as well.
        seconds: Time on a case, for the hours of each rater.

    Raises:
        InputError: A value out of its range.

    Examples:
        >>> plan(win_rate=0.65, raters=2).summary["rows"][0]["cases"]
        92
    """
    import pandas as pd

    from cas_metric.statistics.tables import markdown_table
    from cas_metric.study.planning import Plan, cases_needed, power

    if not 0 < wanted < 1:
        raise InputError(f"a power of {wanted:g}", fix="give one between 0 and 1, such as 0.8")
    expected = Plan(win_rate, correlation, ties, alpha, methods * (methods - 1) // 2)
    rows: list[dict[str, Any]] = []
    for count in range(1, raters + 1):
        needed = cases_needed(expected, count, wanted)
        hours = None if needed is None else needed * seconds / 3600
        row = {"raters": count, "cases": needed, "hours_each": hours}
        rows.append(row | ({"power": power(expected, cases, count)} if cases else {}))
    headings = ["raters", f"cases for {wanted:.0%} power", "hours each"]
    lines = [
        [
            str(row["raters"]),
            "out of reach" if row["cases"] is None else str(row["cases"]),
            "–" if row["hours_each"] is None else f"{row['hours_each']:.1f}",
            *([f"{row['power']:.2f}"] if cases else []),
        ]
        for row in rows
    ]
    table = markdown_table([*headings, *([f"power with {cases}"] if cases else [])], lines)
    return Result(
        "plan",
        {**asdict(expected), "wanted": wanted, "seconds": seconds, "rows": rows},
        f"To find that {win_rate:.0%} prefer one of two methods "
        f"(two-sided, level {alpha / expected.comparisons:.3g}):\n\n{table}",
        tables={"plan": pd.DataFrame(rows)},
    )


def _read_set(argument: str) -> tuple[str | None, Manifest]:
    """``METHOD=GEN``, or the manifest alone."""
    from cas_metric.manifest import read_manifest
    from cas_metric.mllm.sources import split_source

    name, path = split_source(argument)
    return name, read_manifest(path)


def _is_phantom(manifest: Manifest) -> bool:
    domain = manifest.config.domain if manifest.config else None
    return bool(domain) and str(domain).startswith("phantom-")


def _plain_links(fresh: Sequence[Link], url: str) -> list[dict[str, str]]:
    return [{"rater": link.rater, "url": link.url(url)} for link in fresh]


def _link_lines(fresh: Sequence[Link], url: str) -> str:
    return "\n".join(f"{link.rater}: {link.url(url)}" for link in fresh)
