"""A blinded ranking study, from the images to the rankings.

Each function is a command of ``cas study``; serving is :func:`cas_metric.study.serving.run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.verbs.progress import Progress
from cas_metric.verbs.result import Result

if TYPE_CHECKING:
    from cas_metric.manifest import Manifest
    from cas_metric.study import Link

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
        rank_real: Rank the real image along, as the method ``real``.
        cases: Cases to draw, stratified by label; by default 100, or all if fewer.
        balanced: Equally many cases a label.
        raters: How many, or their names.
        seed: Seeds the draw and all orders.
        side: Scale every image to this longer side, in pixels.
        template: A ``study.yaml`` with the instruction.
        url: Address that raters reach the server under.
        progress: Told after every image.

    Raises:
        InputError: Wrong sources, or a folder that holds something.
        PreflightError: Images that cannot be read.

    Examples:
        >>> sets = [f"{kind}=demo/generated/{kind}" for kind in ("faithful", "wrong")]
        >>> made = create("study", sets, real="demo/real/test", cases=4, raters=["ann"])
        >>> sorted(made.summary)
        ['cases', 'folder', 'labels', 'links', 'methods', 'notes']
    """
    from cas_metric.files import read_text
    from cas_metric.manifest import read_manifest
    from cas_metric.study import collect_cases, create_study, draw_cases
    from cas_metric.study.wording import DEFAULT

    given = [_read_set(argument) for argument in sets]
    partners = read_manifest(Path(real)) if real is not None else None
    shared, notes = collect_cases(given, partners, rank_real=rank_real, seed=seed)
    drawn = draw_cases(shared, cases or min(_CASES, len(shared)), seed, balanced=balanced)
    phantom = any(_is_phantom(one) for one in (*(m for _, m in given), partners) if one)
    names = [f"rater-{k}" for k in range(1, raters + 1)] if isinstance(raters, int) else raters
    made = create_study(
        Path(folder),
        drawn,
        names,
        texts=DEFAULT if template is None else read_text(Path(template)),
        seed=seed,
        side=side,
        settings={"embedded_world": phantom, "balanced": balanced},
        advance=progress or (lambda done, total: None),
    )
    labels = dict(Counter(case.label for case in drawn))
    methods = [candidate.method for candidate in drawn[0].candidates]
    told = [*notes, *made.notes]
    counts = ", ".join(f"{label} {n}" for label, n in sorted(labels.items()))
    text = f"{folder}: {len(drawn)} cases ({counts}), {len(methods)} methods\n"
    return Result(
        "study",
        {
            "folder": str(folder), "cases": len(drawn), "labels": labels, "methods": methods,
            "links": _plain_links(made.links, url), "notes": told,
        },
        text + _link_lines(made.links, url),
        notes=(
            *(f"note: {note}" for note in told),
            _SHOWN_ONCE,
            f"Edit {Path(folder) / 'study.yaml'} if need be, then: cas study serve {folder}",
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


def status(folder: str | Path) -> Result:
    """How far every rater is, and how far they agree so far.

    Args:
        folder: Of the study.
    """
    from cas_metric.study import open_study
    from cas_metric.study.results import state

    store = open_study(Path(folder))
    found = state(store)
    store.close()
    return Result("status", found, _state_text(found), warnings=tuple(found["warnings"]))


def export(
    folder: str | Path, out: str | Path = "rankings.csv", *, finished_only: bool = False
) -> Result:
    """Write the rankings, and beside them NAME-details.csv with times, durations and notes.

    Args:
        folder: Of the study; the server may keep running.
        out: File of the rankings.
        finished_only: Leave out raters who have not finished.

    Raises:
        InputError: Nothing has been ranked yet, or ``out`` is no file.
    """
    from cas_metric.files import write_bytes
    from cas_metric.study import open_study
    from cas_metric.study.results import agreement_of, details, rankings, state

    path = Path(out)
    if not path.name:
        raise InputError(f"{path} is no file", fix="name a file with --out, e.g. rankings.csv")
    store = open_study(Path(folder))
    table, found = details(store), state(store)
    store.close()
    ranked = rankings(table, finished_only=finished_only)
    if ranked.empty:
        raise InputError(f"{folder}: nothing has been ranked yet", fix="see cas study status")
    beside = path.with_name(f"{path.stem}-details{path.suffix}")
    for file, content in ((path, ranked), (beside, table)):
        write_bytes(file, content.to_csv(index=False, lineterminator="\n").encode())
    found["agreement"] = agreement_of(ranked)
    count = len(ranked.groupby(["case", "rater"]))
    return Result(
        "export",
        {**found, "rankings": str(path), "details": str(beside), "rows": len(ranked)},
        f"{_state_text(found)}\n{path}: {count} rankings\n{beside}: everything",
        warnings=tuple(found["warnings"]),
        notes=(f"Next: cas preference {path}",),
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


def _state_text(found: Mapping[str, Any]) -> str:
    """Raters and their agreement, as Markdown."""
    from cas_metric.statistics.tables import markdown_table

    headings = ["rater", "answered", "cannot judge", "median s", "last", "finished"]
    lines = [
        [
            one["rater"],
            f"{one['answered']}/{one['cases']}",
            str(one["cannot_judge"]),
            "–" if one["median_seconds"] is None else f"{one['median_seconds']:.0f}",
            (one["last_activity"] or "–")[:16].replace("T", " "),
            "yes" if one["finished_at"] else "no",
        ]
        for one in found["raters"]
    ]
    parts = ["Drawn phantoms, not medical data."] if found["embedded_world"] else []
    agreement = found["agreement"]
    parts += [
        markdown_table(headings, lines),
        "No case is ranked by two raters yet."
        if agreement is None
        else f"Agreement over {agreement['n_shared']} cases: "
        f"Krippendorff's alpha {_interval(agreement['alpha'])}, "
        f"Kendall's W {_interval(agreement['kendall_w'])} "
        f"(chance {agreement['kendall_w_chance']:.2f})",
    ]
    return "\n\n".join(parts)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
