"""From a rater's state to HTML; every address is relative, so that any sub-path will do."""

from __future__ import annotations

import secrets
from functools import cache
from importlib.resources import files
from typing import Any, Final

from cas_metric.report.rendering import templates
from cas_metric.study.design import Design
from cas_metric.study.store import CaseView, Progress, Rater
from cas_metric.study.wording import Wording

STATIC: Final = {
    "study.css": "text/css",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        (
            *("theme.js", "case.js", "drag.js", "ranking.js", "saving.js", "viewer.js"),
            *("layout.js", "tone.js", "undo.js"),
        ),
        "text/javascript",
    ),
}
LETTERS: Final = "ABCDEFGHI"


@cache
def static_file(name: str) -> bytes:
    """One of the package's own styles and scripts."""
    return files("cas_metric.study").joinpath("static", name).read_bytes()


def _render(template: str, path: str, **context: Any) -> str:
    """A page; ``root`` leads from its path back to where the application is mounted."""
    root = "../" * (path.count("/") - 1)
    return templates("cas_metric.study").get_template(template).render(context, root=root)


def not_found(path: str) -> str:
    """The one page for everything that does not exist, forged links among it."""
    return _render("message.html.j2", path, title="Page not found", lines=_NOT_FOUND)


_NOT_FOUND: Final = (
    "This address is not valid.",
    "Please open the link that you were given exactly as it is, or ask for a new one.",
)


def refusal(path: str, message: str) -> str:
    """Why a request was refused, for a browser without scripts."""
    lines = (message[:1].upper() + message[1:] + ".", "Go back in your browser and try again.")
    return _render("message.html.j2", path, title="Not saved", lines=lines)


def home(path: str, wording: Wording, rater: Rater, progress: Progress, phantom: bool) -> str:
    """Instruction and criteria; after the end, thanks."""
    template = "finished.html.j2" if rater.finished else "home.html.j2"
    return _render(template, path, wording=wording, rater=rater, progress=progress, phantom=phantom)


def overview(path: str, wording: Wording, rater: Rater, progress: Progress, phantom: bool) -> str:
    """Every case with its state, and the way to finish."""
    return _render(
        "overview.html.j2",
        path,
        wording=wording,
        rater=rater,
        progress=progress,
        phantom=phantom,
    )


def pause(path: str, wording: Wording, progress: Progress, minutes: int, phantom: bool) -> str:
    """A rest is proposed."""
    return _render(
        "pause.html.j2",
        path,
        wording=wording,
        progress=progress,
        minutes=minutes,
        phantom=phantom,
    )


def case(
    path: str,
    wording: Wording,
    progress: Progress,
    view: CaseView,
    design: Design,
    phantom: bool,
) -> str:
    """The images of one case with their rank-entry fields and questions."""
    size = len(view.images)
    images = [
        {
            "place": place,
            "letter": LETTERS[place - 1],
            "name": name,
            "rank": view.ranks.get(place, 1 if size == 1 else None),
            "ratings": {item: value for (at, item), value in view.ratings.items() if at == place},
        }
        for place, name in enumerate(view.images, 1)
    ]
    return _render(
        "case.html.j2",
        path,
        wording=wording,
        progress=progress,
        phantom=phantom,
        view=view,
        design=design,
        images=images,
        ranks=range(1, size + 1),
        submission=secrets.token_urlsafe(12),
    )
