"""Small ranking studies, a server for them, and a record of everything that it sent."""

from __future__ import annotations

import contextlib
import csv
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image, PngImagePlugin
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cas_metric.manifest import read_manifest
from cas_metric.study import Case, Link, Store, collect_cases, create_study, open_study
from cas_metric.study.serving import bind, configure

#: Names that must never reach a browser.
METHODS = ("craft-secretname", "lora-secretname", "ti-secretname")
LABELS = ("Cardiomegaly", "Edema", "No Finding")


def write_sets(root: Path, *, cases: int, methods: Sequence[str] = METHODS, side: int = 48) -> None:
    """``root/METHOD/`` folders whose files tell in every possible way who made them."""
    rng = np.random.default_rng(5)
    for method in methods:
        folder = root / method
        folder.mkdir(parents=True)
        rows = []
        for number in range(cases):
            key, name = f"case-{number:03d}", f"{method}-sample-{number:03d}.png"
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            text = PngImagePlugin.PngInfo()
            text.add_text("Software", f"made by {method}")
            exif = Image.Exif()
            exif[0x010E] = f"prompt of {method}"
            Image.fromarray(pixels).save(folder / name, pnginfo=text, exif=exif, dpi=(72, 72))
            rows.append([name, f"{method}-{number}", key, LABELS[number % len(LABELS)]])
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["file_name", "id", "reference", "label"], *rows])


def read_cases(root: Path, methods: Sequence[str] = METHODS) -> list[Case]:
    return collect_cases([(name, read_manifest(root / name)) for name in methods])[0]


@dataclass(frozen=True)
class Study:
    """An open study and its links."""

    store: Store
    links: tuple[Link, ...]
    cases: list[Case]

    def path(self, rater: int = 0) -> str:
        return f"/r/{self.links[rater].token}/"


@contextlib.contextmanager
def opened_study(
    root: Path, *, cases: int = 4, raters: int | list[str] = 2, **options: object
) -> Iterator[Study]:
    write_sets(root / "sets", cases=cases)
    found = read_cases(root / "sets")
    names = [f"rater-{k + 1}" for k in range(raters)] if isinstance(raters, int) else raters
    made = create_study(root / "study", found, names, **options)  # type: ignore[arg-type]
    store = open_study(root / "study")
    try:
        yield Study(store, made.links, found)
    finally:
        store.close()


def method_of_image(store: Store) -> dict[str, str]:
    """Anonymous copy to its method: what only the database knows."""
    rows = store.database.connection().execute("SELECT image, method FROM candidates")
    return {row["image"]: row["method"] for row in rows}


@dataclass
class Recorder:
    """ASGI middleware that keeps every response as it was sent: status, headers, body."""

    app: ASGIApp
    sent: list[tuple[str, int, bytes, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, headers, body = 0, b"", b""

        async def record(message: Message) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = b"\n".join(k + b": " + v for k, v in message["headers"])
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")
            await send(message)

        await self.app(scope, receive, record)
        self.sent.append((scope["path"], status, headers, body))


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve an application over HTTP on loopback; its address."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(configure(app))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
