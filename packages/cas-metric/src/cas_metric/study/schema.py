"""The database of a study: one SQLite file in WAL mode, written by one writer at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cas_metric.errors import CasError, InputError

#: Name of the file in the folder of a study.
FILE_NAME: Final = "study.sqlite3"
#: Raised whenever the tables change.
VERSION: Final = 2
#: Seconds to wait for another process that is writing.
BUSY_SECONDS: Final = 30.0

SCHEMA: Final = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE cases (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, label TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'main',       -- 'main', 'practice' or 'repeat'
    origin TEXT,                             -- key before it was repeated or taken apart
    prompt TEXT NOT NULL DEFAULT '',         -- shown with the label
    reference TEXT                           -- copy of the real image that is shown beside
) STRICT;
CREATE TABLE candidates (
    id INTEGER PRIMARY KEY,
    case_id INTEGER NOT NULL REFERENCES cases,
    method TEXT NOT NULL,
    source TEXT NOT NULL,              -- original file: for the export alone
    image TEXT NOT NULL UNIQUE,        -- random name of the copy: all that a browser sees
    UNIQUE (case_id, method)
) STRICT;
CREATE TABLE raters (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    token_hash TEXT UNIQUE,            -- SHA-256 of the link's token; NULL once revoked
    finished_at TEXT
) STRICT;
-- Each rater's own order of cases, and of the images within each.
CREATE TABLE assignments (
    rater_id INTEGER NOT NULL REFERENCES raters,
    number INTEGER NOT NULL,           -- from 1
    case_id INTEGER NOT NULL REFERENCES cases,
    opened_at TEXT,                    -- when the rater first saw the case
    PRIMARY KEY (rater_id, number),
    UNIQUE (rater_id, case_id)
) STRICT;
CREATE TABLE places (
    rater_id INTEGER NOT NULL REFERENCES raters,
    case_id INTEGER NOT NULL REFERENCES cases,
    place INTEGER NOT NULL,            -- from 1, in reading order
    candidate_id INTEGER NOT NULL REFERENCES candidates,
    PRIMARY KEY (rater_id, case_id, place),
    UNIQUE (rater_id, case_id, candidate_id)
) STRICT;
-- Every answer ever given; nothing is changed or deleted here.
CREATE TABLE submissions (
    id INTEGER PRIMARY KEY,
    rater_id INTEGER NOT NULL,
    case_id INTEGER NOT NULL,
    submission TEXT NOT NULL,          -- chosen by the page: a repeated one is the same answer
    verdict TEXT NOT NULL CHECK (verdict IN ('ranked', 'cannot-judge')),
    note TEXT NOT NULL,
    seconds REAL NOT NULL,             -- active time on the case, of all visits
    wording TEXT NOT NULL,             -- digest of the texts that were shown
    submitted_at TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',   -- why it cannot be judged
    UNIQUE (rater_id, submission),
    FOREIGN KEY (rater_id, case_id) REFERENCES assignments (rater_id, case_id)
) STRICT;
CREATE TABLE ranks (
    submission_id INTEGER NOT NULL REFERENCES submissions,
    candidate_id INTEGER NOT NULL REFERENCES candidates,
    rank INTEGER NOT NULL CHECK (rank > 0),
    PRIMARY KEY (submission_id, candidate_id)
) STRICT;
-- The answer that counts: the last one.
CREATE TABLE answers (
    rater_id INTEGER NOT NULL,
    case_id INTEGER NOT NULL,
    submission_id INTEGER NOT NULL REFERENCES submissions,
    revision INTEGER NOT NULL,         -- how many answers were given
    PRIMARY KEY (rater_id, case_id)
) STRICT;
CREATE TABLE drafts (
    rater_id INTEGER NOT NULL,
    case_id INTEGER NOT NULL,
    ranks TEXT NOT NULL,               -- JSON: place to rank
    note TEXT NOT NULL,
    seconds REAL NOT NULL,
    saved_at TEXT NOT NULL,
    ratings TEXT NOT NULL DEFAULT '{}',      -- JSON: place and item to value
    page TEXT NOT NULL DEFAULT '',     -- submission number of the page that wrote it
    PRIMARY KEY (rater_id, case_id)
) STRICT;
CREATE TABLE wordings (digest TEXT PRIMARY KEY, content TEXT NOT NULL, served_at TEXT) STRICT;
"""

#: Likert items and the real-or-synthetic question, of every image.
RATINGS: Final = """
CREATE TABLE ratings (
    submission_id INTEGER NOT NULL REFERENCES submissions,
    candidate_id INTEGER NOT NULL REFERENCES candidates,
    item TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (submission_id, candidate_id, item)
) STRICT;
"""

#: Unless the design allows ties, no two images of an answer share a rank.
STRICT_RANKS: Final = """
CREATE TRIGGER strict_ranks BEFORE INSERT ON ranks
WHEN (SELECT json_extract(value, '$.ties') FROM study WHERE key = 'design') IS NOT 1
    AND EXISTS (SELECT 1 FROM ranks WHERE submission_id = NEW.submission_id AND rank = NEW.rank)
BEGIN SELECT RAISE(ABORT, 'two images share a rank'); END;
CREATE TRIGGER strict_ranks_changed BEFORE UPDATE ON ranks
WHEN (SELECT json_extract(value, '$.ties') FROM study WHERE key = 'design') IS NOT 1
    AND EXISTS (
        SELECT 1 FROM ranks WHERE submission_id = NEW.submission_id AND rank = NEW.rank
            AND candidate_id != NEW.candidate_id
    )
BEGIN SELECT RAISE(ABORT, 'two images share a rank'); END;
"""

#: From format 1 to 2: everything that was answered stays as it was.
_UPGRADE: Final = """
BEGIN IMMEDIATE;
ALTER TABLE cases ADD COLUMN kind TEXT NOT NULL DEFAULT 'main';
ALTER TABLE cases ADD COLUMN origin TEXT;
ALTER TABLE cases ADD COLUMN prompt TEXT NOT NULL DEFAULT '';
ALTER TABLE cases ADD COLUMN reference TEXT;
ALTER TABLE submissions ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE drafts ADD COLUMN ratings TEXT NOT NULL DEFAULT '{}';
ALTER TABLE drafts ADD COLUMN page TEXT NOT NULL DEFAULT '';
CREATE TABLE ranks_2 (
    submission_id INTEGER NOT NULL REFERENCES submissions,
    candidate_id INTEGER NOT NULL REFERENCES candidates,
    rank INTEGER NOT NULL CHECK (rank > 0),
    PRIMARY KEY (submission_id, candidate_id)
) STRICT;
INSERT INTO ranks_2 SELECT submission_id, candidate_id, rank FROM ranks;
DROP TABLE ranks;
ALTER TABLE ranks_2 RENAME TO ranks;
"""


class Database:
    """Connections to one study, one a thread.

    Within this process writers queue for a lock; other processes are waited for by SQLite.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._writing = threading.Lock()
        self._opened: list[sqlite3.Connection] = []

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            # Closed by whichever thread calls close(), hence no check of the thread.
            found = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA foreign_keys = ON")
            found.execute("PRAGMA synchronous = FULL")  # an answer outlives a power cut
            self._local.connection = found
            self._opened.append(found)
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several queries that see one state."""
        connection = self.connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: everything in it is stored, or nothing.

        Raises:
            CasError: The database cannot be written.
        """
        connection = self.connection()
        with self._writing:
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")  # may fail as well: the disk is full
            except BaseException as error:
                if connection.in_transaction:  # SQLite may have rolled back by itself
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise CasError(
                        f"{self.path} cannot be written: {error}",
                        fix="free space, and check that the folder of the study can be written to",
                    ) from error
                raise

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self._local = threading.local()


def create_database(path: Path) -> Database:
    """A new database with empty tables."""
    database = Database(path)
    connection = database.connection()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SCHEMA + RATINGS + STRICT_RANKS)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    return database


def open_database(path: Path) -> Database:
    """The database of an existing study; one of format 1 is brought up to date.

    Raises:
        InputError: There is none, or it was made by a later version.
        CasError: It has format 1 and cannot be written.
    """
    if not path.is_file():
        raise InputError(
            f"{path.parent} holds no study (no {path.name})", fix="make one: cas study create"
        )
    database = Database(path)
    try:
        (version,) = database.connection().execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} is no study's database: {error}") from error
    if version == 1:
        _upgrade(database)
    elif version != VERSION:
        raise InputError(
            f"{path} has format {version}, this version reads {VERSION}",
            fix="use the version of cas-metric that made it",
        )
    return database


def _upgrade(database: Database) -> None:
    """All of it or nothing; whoever comes second finds it done."""
    connection = database.connection()
    try:
        done = f"PRAGMA user_version = {VERSION}; COMMIT;"
        connection.executescript("\n".join((_UPGRADE, RATINGS, STRICT_RANKS, done)))
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise CasError(
                f"{database.path} has the format of an earlier version and cannot be changed: "
                f"{error}",
                fix="check that the folder of the study can be written to",
            ) from error


def now() -> str:
    """The time, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
