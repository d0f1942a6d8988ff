"""The page: a form, and what a pair got. It keeps nothing and loads nothing from elsewhere."""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cas_metric.errors import CasError, InputError
from cas_metric.page.pair import Pairs, Scored, Upload
from cas_metric.report.rendering import templates
from cas_metric.study.app import HEADERS as STUDY_HEADERS
from cas_metric.study.app import SecurityHeaders
from cas_metric.study.origins import Origins

if TYPE_CHECKING:
    from starlette.types import Message

#: Most bytes of a request: two files. What a file may take once decoded is for our readers to say.
MAX_BODY: Final = 256 * 2**20
#: As the pages of a study, and pictures that stand in the page itself.
HEADERS: Final = {
    name: value.replace("img-src 'self'", "img-src data:") for name, value in STUDY_HEADERS.items()
}
#: The server answers to these names alone, so that no other site's name can lead a browser here.
NAMES: Final = ["127.0.0.1", "localhost", "[::1]"]
#: What each score is, as the page calls it.
TITLES: Final = {
    "vdc": "VDC, fits its prompt",
    "ccs": "CCS, fits the checklist of its class",
    "dd_prob": "probability that the probe gives the class",
    "sfs": "SFS, like the real image",
    "cas": "CAS",
}


def create_app(pairs: Pairs) -> Starlette:
    """The application of one run.

    Args:
        pairs: What scores.
    """
    origins = Origins(None, lambda text: None)

    async def show(request: Request) -> Response:
        return _page(pairs, {})

    async def submit(request: Request) -> Response:
        if origins.problem(request):
            raise HTTPException(403, "this request did not come from this page")
        form = await Request(request.scope, _bounded(request)).form(max_files=2, max_fields=2)
        sent = {name: str(form.get(name, "")) for name in ("label", "prompt")}
        try:
            images = [await _upload(form.get(name), name) for name in ("generated", "real")]
            found = await run_in_threadpool(
                partial(pairs.score, label=sent["label"], prompt=sent["prompt"]), *images
            )
        except CasError as error:
            return _page(pairs, sent, problem=str(error), status=422)
        finally:
            await form.close()
        return _page(pairs, sent, found)

    async def style(request: Request) -> Response:
        return Response(_style(), media_type="text/css")

    return Starlette(
        routes=[
            Route("/", show),
            Route("/", submit, methods=["POST"]),
            Route("/page.css", style),
        ],
        middleware=[
            Middleware(SecurityHeaders, headers=HEADERS),
            Middleware(TrustedHostMiddleware, allowed_hosts=NAMES),
        ],
    )


def _bounded(request: Request) -> Any:
    """What is received, refused beyond :data:`MAX_BODY`, however it is sent."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise HTTPException(413, f"the two files are larger than {MAX_BODY >> 20} MiB")
        return message

    return receive


async def _upload(field: UploadFile | str | None, name: str) -> Upload:
    if not isinstance(field, UploadFile) or not field.filename:
        raise InputError(f"no {name} image was chosen", fix="choose a file")
    return Upload(field.filename, await field.read())


def _page(
    pairs: Pairs,
    sent: dict[str, str],
    found: Scored | None = None,
    *,
    problem: str = "",
    status: int = 200,
) -> Response:
    """The form as it was sent, with what came of it."""
    text = templates("cas_metric.page").get_template("page.html.j2").render(
        sent=sent, found=found, problem=problem, titles=TITLES,
        classes=pairs.domain.class_names, domain=pairs.domain.title, encoder=pairs.encoder.name,
        phantom=bool(pairs.run.summary.get("embedded_world")),
    )  # fmt: skip
    return Response(text, status_code=status, media_type="text/html")


@cache
def _style() -> bytes:
    return files("cas_metric.page").joinpath("static", "page.css").read_bytes()
