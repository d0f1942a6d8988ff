"""A hub of this machine alone: what a client of ``hf://`` asks for to list and read a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.containers import http_server

COMMIT = "0" * 40


class Hub(SimpleHTTPRequestHandler):
    """Each folder ``OWNER/NAME`` below its directory is a data set with one revision, ``main``."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """The data set, a page of its files, or (a range of) one of them."""
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "datasets"]:
            root, asked = self._root(parts[2:4]), parts[4:]
            if not root.is_dir():
                self._refuse("RepoNotFound")
            elif asked[:1] == ["tree"]:
                recursive = parse_qs(url.query).get("recursive", [""])[0].lower() == "true"
                self._list(root, root.joinpath(*asked[2:]), recursive)
            else:
                self._answer({"id": "/".join(parts[2:4]), "sha": COMMIT})
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            self._send(self._root(parts[1:3]).joinpath(*parts[5:]))
        else:
            self._refuse("EntryNotFound")

    def _root(self, named: list[str]) -> Path:
        return Path(self.directory, *named)

    def _list(self, root: Path, folder: Path, recursive: bool) -> None:
        if not folder.is_dir():
            self._refuse("EntryNotFound")
            return
        found = sorted(folder.rglob("*") if recursive else folder.iterdir())
        self._answer([self._entry(root, path) for path in found])

    @staticmethod
    def _entry(root: Path, path: Path) -> dict[str, object]:
        content = path.read_bytes() if path.is_file() else path.name.encode()
        return {
            "type": "file" if path.is_file() else "directory",
            "path": path.relative_to(root).as_posix(),
            "size": len(content) if path.is_file() else 0,
            "oid": hashlib.sha1(content).hexdigest(),
        }

    def _send(self, path: Path) -> None:
        if not path.is_file():
            self._refuse("EntryNotFound")
            return
        content, wanted = path.read_bytes(), self.headers.get("Range", "")
        start, end = 0, len(content)
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(content[start:end])

    def _answer(self, found: object) -> None:
        content = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, why: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", why)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def hub_server(folder: Path) -> Iterator[str]:
    """The endpoint of a hub whose data sets are the folders ``OWNER/NAME`` below one."""
    with http_server(folder, Hub) as url:
        yield url
