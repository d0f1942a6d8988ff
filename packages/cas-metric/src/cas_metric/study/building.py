"""Making a study: anonymous copies of the images, each rater's orders, links."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cas_metric.errors import CasError, InputError
from cas_metric.files import write_bytes
from cas_metric.study import schema, wording
from cas_metric.study.cases import Case
from cas_metric.study.copies import Advance, Copies, copy_images
from cas_metric.study.design import Design
from cas_metric.study.orders import assign, lay_out
from cas_metric.study.schema import Database
from cas_metric.study.store import Store, hash_token

IMAGES: Final = "images"
MAX_NAME: Final = 80


@dataclass(frozen=True)
class Link:
    """A rater's secret link; the token exists nowhere else."""

    rater: str
    token: str

    def url(self, base: str) -> str:
        """The address to hand out, below the address of the server."""
        return f"{base.rstrip('/')}/r/{self.token}/"


@dataclass(frozen=True)
class Created:
    """A new study.

    Attributes:
        links: One a rater.
        notes: What may give methods away, a sentence each.
    """

    links: tuple[Link, ...]
    notes: tuple[str, ...]


def create_study(
    folder: Path,
    cases: Sequence[Case],
    raters: Sequence[str],
    *,
    design: Design = Design(),  # noqa: B008 - frozen
    practice: Sequence[Case] = (),
    texts: str = wording.DEFAULT,
    seed: int = 0,
    side: int | None = None,
    settings: Mapping[str, Any] | None = None,
    advance: Advance = lambda done, total: None,
) -> Created:
    """Write a study into a new folder; it appears whole or not at all.

    Args:
        folder: Must not exist yet, or be empty.
        cases: What counts.
        raters: Their names: any text, seen by themselves and in the export.
        design: How the study asks.
        practice: Further cases that every rater meets first and that do not count.
        texts: Content of ``study.yaml``.
        seed: Seeds the orders of cases and images of every rater.
        side: Scale every image so that its longer side has this many pixels.
        settings: More to keep with the study, JSON values.
        advance: Called after each image.

    Raises:
        InputError: The folder holds something, or the raters' names are unusable.
        PreflightError: Lists the images that cannot be read.
    """
    wording.parse_wording(texts, wording.FILE_NAME)
    _check_names(raters)
    if folder.resolve() == Path.cwd():
        raise InputError("a study cannot replace the folder that you are in", fix="name a new one")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty", fix="name a new folder; studies are never mixed")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner alone: the database says which method made which image.
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise CasError(f"{folder} cannot be made: {error.strerror or error}") from error
    try:
        planned = lay_out(cases, practice, design, seed)
        copies = copy_images(draft / IMAGES, planned, side, advance)
        database = schema.create_database(draft / schema.FILE_NAME)
        kept = {
            **{"seed": seed, "side": side, "created": schema.now(), "design": design.plain()},
            **(settings or {}),
        }
        _fill(database, planned, copies, kept)
        links = add_raters(Store(draft, database), raters)
        database.close()
        write_bytes(draft / wording.FILE_NAME, texts.encode())
        put_in_place(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Created(links, copies.notes)


def put_in_place(draft: Path, folder: Path) -> None:
    """Make a finished draft the folder; an empty one there gives way.

    Raises:
        CasError: It cannot be replaced.
    """
    try:
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except OSError as error:  # e.g. the folder is a mount point
        raise CasError(
            f"{folder} cannot be replaced: {error.strerror or error}", fix="name a new folder"
        ) from error


def add_raters(store: Store, names: Sequence[str]) -> tuple[Link, ...]:
    """Admit raters, each with orders of their own.

    The orders of the k-th rater depend on the study's seed and on k alone.

    Raises:
        InputError: An unusable name, or one that is taken.
    """
    if not names:  # nothing is to be written
        return ()
    _check_names(names)
    seed = store.settings()["seed"]
    links = []
    with store.database.writing() as db:
        for name in names:
            if db.execute("SELECT 1 FROM raters WHERE name = ?", (name,)).fetchone():
                raise InputError(f"there is a rater {name!r} already", fix="choose another name")
            token = secrets.token_urlsafe(32)
            row = db.execute(
                "INSERT INTO raters (name, token_hash) VALUES (?, ?)", (name, hash_token(token))
            )
            assert row.lastrowid is not None
            assign(db, row.lastrowid, seed)
            links.append(Link(name, token))
    return tuple(links)


def renew_link(store: Store, name: str) -> Link:
    """A new link for a rater who keeps all answers; the old one stops working.

    Raises:
        InputError: No rater of this name.
    """
    token = secrets.token_urlsafe(32)
    _set_hash(store, name, hash_token(token))
    return Link(name, token)


def revoke_link(store: Store, name: str) -> None:
    """Stop a rater's link from working; the answers stay.

    Raises:
        InputError: No rater of this name.
    """
    _set_hash(store, name, None)


def require_raters(store: Store, names: Sequence[str]) -> None:
    """Refuse names that no rater has.

    Raises:
        InputError: No rater of such a name.
    """
    with store.database.reading() as db:
        known = [row["name"] for row in db.execute("SELECT name FROM raters ORDER BY id")]
    for name in names:
        if name not in known:
            raise InputError(f"no rater {name!r}", fix=f"there are {', '.join(known)}")


def _set_hash(store: Store, name: str, value: str | None) -> None:
    require_raters(store, [name])
    with store.database.writing() as db:
        db.execute("UPDATE raters SET token_hash = ? WHERE name = ?", (value, name))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if (
            not name.strip()
            or name != name.strip()
            or len(name) > MAX_NAME
            or not name.isprintable()
        ):
            raise InputError(f"{name!r} is no name for a rater", fix="use a short line of text")
    if len(set(names)) < len(names):
        raise InputError("two raters have one name", fix="name them differently")


def _fill(
    database: Database, cases: Sequence[Case], copies: Copies, settings: Mapping[str, Any]
) -> None:
    with database.writing() as db:
        db.executemany(
            "INSERT INTO study VALUES (?, ?)", [(k, json.dumps(v)) for k, v in settings.items()]
        )
        for number, case in enumerate(cases, 1):
            db.execute(
                "INSERT INTO cases VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(number, case.key, case.label, case.kind, case.source, case.prompt),
                    copies.references.get(case.key),
                ),
            )
            db.executemany(
                "INSERT INTO candidates (case_id, method, source, image) VALUES (?, ?, ?, ?)",
                [
                    (number, one.method, str(one.path), copies.images[case.key, one.method])
                    for one in case.candidates
                ],
            )
