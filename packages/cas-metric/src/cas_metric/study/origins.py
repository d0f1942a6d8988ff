"""Whether one of our own pages sent a request, also behind a proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cas_metric.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request

_FOREIGN = "This request did not come from a page of this study."


class Origins:
    """Tells requests of our pages from those of other sites.

    ``Sec-Fetch-Site``, which no page can set, decides where a browser sends it: over TLS and to
    this machine. Elsewhere ``Origin`` is compared with ``Host`` without the scheme, or with the
    public address where one is given. A request with neither is refused.

    Args:
        public: Address that raters reach a proxy under; None compares with ``Host`` alone.
        complain: Told, once a pair, when origin and host differ.

    Raises:
        InputError: ``public`` is no address.
    """

    def __init__(self, public: str | None, complain: Callable[[str], None]) -> None:
        self._public = None if public is None else public_host(public)
        self._complain = complain
        self._told: set[tuple[str, str]] = set()

    def problem(self, request: Request) -> str:
        """Why a request is refused, for whoever reads it in a browser; empty if it is ours."""
        if (site := request.headers.get("sec-fetch-site")) is not None:
            return "" if site == "same-origin" else _FOREIGN
        origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
        sender = origin.partition("://")[2]
        if sender and sender in (host, self._public):
            return ""
        return self._mismatch(origin, host) if _is_ours(request, sender) else _FOREIGN

    def _mismatch(self, origin: str, host: str) -> str:
        """The browser says that the page is ours, the host says that it is not: a proxy."""
        if (origin, host) not in self._told and len(self._told) < 20:
            self._told.add((origin, host))
            self._complain(
                f"answers of a page at {origin} are refused, because its proxy says Host: {host}; "
                f"let the proxy pass Host on (nginx: proxy_set_header Host $http_host), or start "
                f"with --url {origin}"
            )
        return (
            "Not saved: the proxy before this study does not pass on its address. Please tell "
            "whoever runs the study; your entries stay on this page until then."
        )


def _is_ours(request: Request, sender: str) -> bool:
    """Whether the page gives an address of a study under the origin's name as its referrer.

    The request is refused either way; this only tells a proxy from another site, so that the
    reason is right.
    """
    referrer = request.headers.get("referer", "").partition("://")[2]
    return bool(sender) and referrer.startswith(f"{sender}/") and "/r/" in referrer


def public_host(url: str) -> str:
    """Host and port of an address, as browsers write them in ``Origin``.

    Raises:
        InputError: It is no http or https address.

    Examples:
        >>> public_host("https://Ranking.example.org/study/")
        'ranking.example.org'
    """
    from urllib.parse import urlsplit

    wrong = InputError(
        f"{url!r} is no address of a server", fix="write it as https://ranking.example.org"
    )
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if usual is None or not host:
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    return shown if port in (None, usual) else f"{shown}:{port}"
