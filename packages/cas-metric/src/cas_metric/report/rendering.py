"""From what a page shows to its HTML."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from cas_metric.report.palette import FLOOR, INKS, REAL


@cache
def templates(package: str) -> jinja2.Environment:
    """The HTML templates of a package: text is escaped, and a name that they lack is an error.

    Args:
        package: Whose folder ``templates`` holds them.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page as one HTML document that needs no network and no neighbour.

    Text is escaped; only the package's own styles and scripts are not. A content security policy
    forbids every load from elsewhere, and every script but those two.

    Args:
        template: File name among the package's templates.
        context: What the template shows, by the name that it uses.
    """
    scripts = {name: _static(f"{name}.js") for name in ("theme", "report")}
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values())
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return (
        templates("cas_metric.report")
        .get_template(template)
        .render(
            context,
            policy=policy,
            css=Markup(style_sheet() + _static("report.css")),  # noqa: S704  own file
            theme_js=Markup(scripts["theme"]),  # noqa: S704  own file
            js=Markup(scripts["report"]),  # noqa: S704  own file
        )
    )


def style_sheet() -> str:
    """CSS classes ``m0`` … ``m6``, ``real`` and ``floor`` that set ``--c`` and ``--dash``."""
    named = {f"m{index}": one for index, one in enumerate(INKS)} | {"real": REAL, "floor": FLOOR}
    rules = []
    for name, one in named.items():
        dash = " ".join(f"{length:g}" for length in one.dash) or "none"
        rules.append(f".{name} {{ --c: light-dark({one.light}, {one.dark}); --dash: {dash}; }}")
    return "\n".join(rules)


def _static(name: str) -> str:
    return files("cas_metric.report").joinpath("static", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
