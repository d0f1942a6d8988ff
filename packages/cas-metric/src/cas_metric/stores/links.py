"""Images that a table names by URLs of their own."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from cas_metric.errors import InputError, PreflightError
from cas_metric.stores.address import Address
from cas_metric.stores.base import Store
from cas_metric.stores.remote import fetched
from cas_metric.stores.urls import protocol_of, require_online, scrubbed


class Links(Store):
    """Files that each have a URL of their own, as in the column of a table.

    They are known by their URLs without user, password and query. Where two differ in nothing
    else, a digest of the query tells them apart.

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

    def address(self, name: str) -> Link:
        """The address of one of the files."""
        return Link(self, name)


class Link(Address):
    """A file by its own URL; see :class:`Links`."""

    def __str__(self) -> str:
        return self.key

    def __reduce__(self) -> Any:
        return Link, (self.store, self.key)


def shown_names(urls: Sequence[str]) -> list[str]:
    """What each URL is called: without anything secret, and still told apart.

    Examples:
        >>> shown_names(["https://host/a.png?sig=1", "https://host/b.png"])
        ['https://host/a.png', 'https://host/b.png']
    """
    by_name: dict[str, set[str]] = {}
    for url in urls:
        by_name.setdefault(scrubbed(url), set()).add(url)

    def name(url: str) -> str:
        shown = scrubbed(url)
        if len(by_name[shown]) == 1:
            return shown
        return f"{shown}#{hashlib.sha256(url.encode()).hexdigest()[:12]}"

    return [name(url) for url in urls]


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
        f"{table}, {places[row]}: {problem}"
        for row, url in given.items()
        if (problem := _problem(url))
    ]
    if problems:
        raise PreflightError(problems, fix="name images by https://, s3://, gs://, az:// or hf://")
    for url in given.values():
        require_online(url, offline)
    names = dict(zip(given, shown_names(list(given.values())), strict=True))
    from cas_metric.stores.opening import once

    stored = {name: given[row] for row, name in names.items()}
    store = once(("links", tuple(stored.items())), lambda: Links(stored))
    shown = [names.get(row, image) for row, image in enumerate(images)]
    return shown, {name: store.address(name) for name in stored}


def _problem(url: str) -> str:
    """Why a table may not name a URL; empty if it may."""
    try:
        protocol_of(url)
    except InputError as error:
        return error.problem
    host = urlsplit(url).hostname or ""
    try:
        is_own = ipaddress.ip_address(host).is_link_local
    except ValueError:
        is_own = host == "metadata.google.internal"
    return f"{scrubbed(url)} is an address of the machine's own network" if is_own else ""
