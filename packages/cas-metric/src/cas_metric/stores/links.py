"""Images that a table names by URLs of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qsl, urlencode

from cas_metric.errors import PreflightError
from cas_metric.stores.address import Address
from cas_metric.stores.base import Store
from cas_metric.stores.remote import fetched, marks_of
from cas_metric.stores.urls import forget_listings, problem, require_online, shown

#: Parts of a query that sign it, and do not choose what is answered.
_SIGNING: Final = frozenset(
    (
        *("signature", "expires", "policy", "key-pair-id", "token", "access_token", "sig"),
        *("awsaccesskeyid", "googleaccessid", "ossaccesskeyid"),
    )
)
#: Those of Azure beside ``sig``.
_AZURE: Final = frozenset(
    (
        *("sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sip"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv"),
    )
)
#: Contents of this process by their names without a query: the first keeps the plain name.
_CLAIMED: dict[str, str] = {}


class Links(Store):
    """Files that each have a URL of their own, as in the column of a table.

    They are known by their URLs without user, password and query. Where two of a table differ in
    nothing else, a digest of the rest tells them apart.

    Args:
        urls: As written.
    """

    root = ""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)

    def __reduce__(self) -> Any:
        return Links, (self._urls,)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Not known."""
        return dict.fromkeys(self._urls, -1)

    def open(self, name: str) -> BinaryIO:
        """As :meth:`Folder.open`."""
        return fetched(self._urls[name])

    def marks(self, name: str) -> dict[str, Any]:
        """As :meth:`Folder.marks`."""
        return marks_of(self._urls[name])

    def holder(self, name: str) -> Path:
        """The address of the file."""
        return self.address(name)

    def is_named(self, name: str) -> bool:
        """Where the URL has no secret and no query."""
        return self._urls[name] == name

    def address(self, name: str) -> Link:
        """The address of one of the files."""
        return Link(self, name)


class Link(Address):
    """A file by its own URL; see :class:`Links`."""

    def __str__(self) -> str:
        return self.key

    def __reduce__(self) -> Any:
        return Link, (self.store, self.key)


def shown_names(urls: Sequence[str], claimed: Mapping[str, str] | None = None) -> list[str]:
    """What each URL is called: without anything secret, and still told apart.

    Args:
        urls: As written.
        claimed: Contents that have a plain name already; see :func:`_content`.

    Examples:
        >>> shown_names(["https://host/a.png?sig=1", "https://host/b.png"])
        ['https://host/a.png', 'https://host/b.png']
    """
    by_name: dict[str, dict[str, set[str]]] = {}
    for url in urls:
        by_name.setdefault(shown(url), {}).setdefault(_content(url), set()).add(url)

    def name(url: str) -> str:
        plain, content = shown(url), _content(url)
        contents = by_name[plain]
        alone = len(contents[content]) == 1  # else what signs them may choose what is answered
        if alone and len(contents) == 1 and (claimed or {}).get(plain, content) == content:
            return plain
        told = content if alone else url
        return f"{plain}#{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    return [name(url) for url in urls]


def _content(url: str) -> str:
    """The URL without user and password, and without what signs it: the same file tomorrow."""
    query = parse_qsl(url.partition("#")[0].partition("?")[2], keep_blank_values=True)
    signing = _SIGNING | (_AZURE if any(name == "sig" for name, _ in query) else frozenset())
    kept = [
        (name, value)
        for name, value in query
        if name.lower() not in signing and not name.lower().startswith(("x-amz-", "x-goog-"))
    ]
    return f"{shown(url)}?{urlencode(kept)}" if kept else shown(url)


def addresses(
    table: Path, images: Sequence[str], places: Sequence[str], offline: bool
) -> tuple[list[str], dict[str, Path]]:
    """The images of a table as they may be shown, and the addresses of those that are URLs.

    Args:
        table: What messages call it.
        images: Paths and URLs, as written.
        places: Where each row stands.
        offline: Whether URLs on the network are refused.

    Raises:
        InputError: The network would be needed, and is not to be used.
        PreflightError: URLs that a table may not name, all of them.
    """
    given = {row: image.strip() for row, image in enumerate(images) if "://" in image}
    problems = [
        f"{table}, {places[row]}: {why}" for row, url in given.items() if (why := problem(url))
    ]
    if problems:
        raise PreflightError(problems, fix="name images by https://, s3://, gs://, az:// or hf://")
    for url in given.values():
        require_online(url, offline)
    urls = list(given.values())
    for protocol in {url.partition("://")[0].lower() for url in urls}:
        forget_listings(protocol)
    names = dict(zip(given, shown_names(urls, _CLAIMED), strict=True))
    for url, name in zip(urls, names.values(), strict=True):
        if name == shown(url):
            _CLAIMED[name] = _content(url)
    from cas_metric.stores.opening import once

    stored = {name: given[row] for row, name in names.items()}
    store = once(("links", tuple(stored.items())), lambda: Links(stored))
    told = [names.get(row, image) for row, image in enumerate(images)]
    return told, {name: store.address(name) for name in stored}
