"""A copy of a study that may be running."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

from cas_metric.errors import CasError, InputError
from cas_metric.study import schema, wording
from cas_metric.study.building import IMAGES, put_in_place
from cas_metric.study.store import open_study


def back_up(folder: Path, target: Path) -> int:
    """Copy a study; the server may keep running, and every answer confirmed by now is in the copy.

    The copy is a study itself: its links are those of the original.

    Args:
        folder: Of the study.
        target: New folder. It appears whole or not at all, readable by its owner alone.

    Returns:
        How many answers, earlier versions among them, the copy holds.

    Raises:
        InputError: No study, or ``target`` exists.
        CasError: It cannot be written, or the copy is damaged.
    """
    if target.exists():
        raise InputError(f"{target} exists", fix="name a new folder, for example with the date")
    store = open_study(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            count = _copy_database(store.database, draft / schema.FILE_NAME)
            shutil.copytree(folder / IMAGES, draft / IMAGES)
            shutil.copyfile(folder / wording.FILE_NAME, draft / wording.FILE_NAME)
            put_in_place(draft, target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise CasError(
            f"{target} cannot be written: {error.strerror or error}", fix="free space there"
        ) from error
    finally:
        store.close()
    return count


def _copy_database(database: schema.Database, path: Path) -> int:
    """SQLite's own online backup: one state of the database, whatever is written meanwhile."""
    with contextlib.closing(sqlite3.connect(path)) as copy:
        try:
            database.connection().backup(copy)
            (state,) = copy.execute("PRAGMA integrity_check").fetchone()
            (count,) = copy.execute("SELECT count(*) FROM submissions").fetchone()
        except sqlite3.DatabaseError as error:
            raise CasError(f"{database.path} cannot be copied: {error}") from error
    if state != "ok":
        raise CasError(
            f"the copy of {database.path} is damaged: {state}",
            fix="keep the original as it is, and try another disk",
        )
    return int(count)
