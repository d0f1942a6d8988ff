"""The web application: private links in, pages and images of one study out.

Every address below ``/r/TOKEN/`` answers only to a rater's token; anything else is the same 404.
What changes state is refused unless the browser says that one of our own pages sent it
(:mod:`cas_metric.study.origins`).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cas_metric.study import pages, wording
from cas_metric.study.building import IMAGES
from cas_metric.study.forms import MAX_BODY, read_answer, read_draft, read_form
from cas_metric.study.origins import Origins
from cas_metric.study.store import CANNOT_JUDGE, Closed, Conflict, Progress, Rater, Refused, Store
from cas_metric.study.wording import Wording

__all__ = ["HEADERS", "MAX_BODY", "SecurityHeaders", "Visit", "create_app"]

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Visit:
    """One request of a known rater."""

    request: Request
    rater: Rater
    store: Store
    wording: Wording
    phantom: bool

    @property
    def number(self) -> int:
        """The case that the path names; 0 if that is no number."""
        text = self.request.path_params["number"]
        return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0

    @property
    def path(self) -> str:
        """Path of the request within the application."""
        return str(self.request.url.path)


Handler = Callable[[Visit], Awaitable[Response]]


def create_app(
    store: Store, *, public: str | None = None, complain: Callable[[str], None] = lambda text: None
) -> Starlette:
    """The application of one study.

    Args:
        store: An open study. Its ``study.yaml`` is read once, here.
        public: Address that raters reach a proxy under, where the proxy does not pass it on.
        complain: Told, once each, of what whoever runs the study has to mend.

    Raises:
        InputError: ``study.yaml`` cannot be used.
    """
    path = store.folder / wording.FILE_NAME
    texts = wording.read_wording(path)
    store.remember_wording(texts, path.read_text(encoding="utf-8-sig"))
    images = store.images()
    phantom = bool(store.settings().get("embedded_world"))
    origins = Origins(public, complain)

    def private(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Let only raters through, and only requests that our own pages make."""

        @functools.wraps(handler)
        async def endpoint(request: Request) -> Response:
            if request.method == "POST" and (problem := origins.problem(request)):
                raise HTTPException(403, problem)
            rater = await run_in_threadpool(store.rater, request.path_params["token"])
            if rater is None:
                raise HTTPException(404)
            return await handler(Visit(request, rater, store, texts, phantom))

        return endpoint

    async def image(visit: Visit) -> Response:
        name = visit.request.path_params["name"]
        if name not in images:  # so that no other file can be named
            raise HTTPException(404)
        file = visit.store.folder / IMAGES / name
        return Response(await run_in_threadpool(file.read_bytes), media_type="image/png")

    routes = [
        Route("/static/{name}", _static),
        Route("/r/{token}", _with_slash),
        Route("/r/{token}/", private(_home)),
        Route("/r/{token}/overview", private(_overview)),
        Route("/r/{token}/pause", private(_pause)),
        Route("/r/{token}/finish", private(_finish), methods=["POST"]),
        Route("/r/{token}/case/{number}", private(_show)),
        Route("/r/{token}/case/{number}", private(_submit), methods=["POST"]),
        Route("/r/{token}/case/{number}/draft", private(_draft), methods=["POST"]),
        Route("/r/{token}/image/{name}", private(image)),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Refused: _refused,
            Closed: _refused,
        },
    )
    app.router.redirect_slashes = False
    return app


class SecurityHeaders:
    """Adds headers to every response, errors included."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str] = HEADERS) -> None:
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in pages.STATIC:
        raise HTTPException(404)
    return Response(pages.static_file(name), media_type=pages.STATIC[name])


async def _with_slash(request: Request) -> Response:
    """Any token, known or not, is sent to where it is looked at."""
    # With "./" before it, a forged token such as "https:elsewhere" remains a path of ours.
    return RedirectResponse(f"./{request.path_params['token']}/", status_code=308)


async def _home(visit: Visit) -> Response:
    progress = await run_in_threadpool(visit.store.progress, visit.rater)
    return _html(pages.home(visit.path, visit.wording, visit.rater, progress, visit.phantom))


async def _overview(visit: Visit) -> Response:
    if visit.rater.finished:
        return _see_other("./")
    progress = await run_in_threadpool(visit.store.progress, visit.rater)
    return _html(pages.overview(visit.path, visit.wording, visit.rater, progress, visit.phantom))


async def _finish(visit: Visit) -> Response:
    await run_in_threadpool(visit.store.finish, visit.rater)
    return _see_other("./")


async def _show(visit: Visit) -> Response:
    if visit.rater.finished:
        return _see_other("../")
    view = await run_in_threadpool(visit.store.open_case, visit.rater, visit.number)
    progress = await run_in_threadpool(visit.store.progress, visit.rater)
    if view is None:
        if not 1 <= visit.number <= progress.total:
            raise HTTPException(404)
        return _see_other(str(progress.frontier))  # its turn has not come
    return _html(
        pages.case(visit.path, visit.wording, progress, view, visit.store.design, visit.phantom)
    )


async def _submit(visit: Visit) -> Response:
    answer = read_answer(await read_form(visit.request), visit.wording.digest)
    reasons = visit.wording.reasons or ("",)  # where none are listed, none can be given
    if answer.verdict == CANNOT_JUDGE and answer.reason not in reasons:
        raise Refused("why can this case not be judged", fix="choose a reason")
    await run_in_threadpool(visit.store.submit, visit.rater, visit.number, answer)
    progress = await run_in_threadpool(visit.store.progress, visit.rater)
    if progress.frontier > progress.total:
        target = "../overview"
    elif await run_in_threadpool(_rest_is_due, visit, progress):
        target = "../pause"
    else:
        target = str(progress.frontier)
    if _wants_json(visit.request):
        return JSONResponse({"saved": True, "next": target})
    return _see_other(target)


def _rest_is_due(visit: Visit, progress: Progress) -> bool:
    """Whether the answer that was just given completed a block of cases or a sitting."""
    if visit.number != progress.frontier - 1:  # a revision
        return False
    block, minutes = visit.wording.break_every, visit.wording.session_minutes
    if block and progress.answered % block == 0:
        return True
    before, after = visit.store.session_minutes(visit.rater) if minutes else (0.0, 0.0)
    return bool(minutes) and after // minutes > before // minutes


async def _pause(visit: Visit) -> Response:
    progress = await run_in_threadpool(visit.store.progress, visit.rater)
    if visit.rater.finished or progress.frontier > progress.total:
        return _see_other("./")
    _, minutes = await run_in_threadpool(visit.store.session_minutes, visit.rater)
    return _html(pages.pause(visit.path, visit.wording, progress, round(minutes), visit.phantom))


async def _draft(visit: Visit) -> Response:
    draft = read_draft(await read_form(visit.request))
    if await run_in_threadpool(visit.store.save_draft, visit.rater, visit.number, draft):
        return JSONResponse({"saved": True})
    now = await run_in_threadpool(visit.store.open_case, visit.rater, visit.number)
    assert now is not None
    answered = now.revision != draft.revision
    problem = f"{'answered' if answered else 'changed'} in another window"
    return JSONResponse({**_conflict(now.revision, problem), "seen": now.page})


def _conflict(revision: int, problem: str) -> dict[str, object]:
    """What a page needs to let its rater choose between the two windows."""
    return {"saved": False, "conflict": True, "problem": problem, "revision": revision}


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status_code=status, media_type="text/html")


def _see_other(target: str) -> Response:
    return RedirectResponse(target, status_code=303)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):  # one answer for all that does not exist
        return _html(pages.not_found(request.url.path), 404)
    if error.status_code == 403 and _wants_json(request):
        return JSONResponse({"saved": False, "problem": str(error.detail)}, status_code=403)
    return Response(str(error.detail), status_code=error.status_code, media_type="text/plain")


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody is there to read this: the connection was closed before the body was sent."""
    return Response(status_code=400)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, (Refused, Closed))
    status = 409 if isinstance(error, Closed) else 422
    if _wants_json(request):
        body = (
            _conflict(error.revision, error.problem)
            if isinstance(error, Conflict)
            else {"saved": False, "problem": error.problem}
        )
        return JSONResponse(body, status_code=status)
    return _html(pages.refusal(request.url.path, error.problem), status)
