CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE cases (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, label TEXT NOT NULL
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
    UNIQUE (rater_id, submission),
    FOREIGN KEY (rater_id, case_id) REFERENCES assignments (rater_id, case_id)
) STRICT;
CREATE TABLE ranks (
    submission_id INTEGER NOT NULL REFERENCES submissions,
    candidate_id INTEGER NOT NULL REFERENCES candidates,
    rank INTEGER NOT NULL CHECK (rank > 0),
    PRIMARY KEY (submission_id, candidate_id),
    UNIQUE (submission_id, rank)       -- strict: no two images share a rank
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
    PRIMARY KEY (rater_id, case_id)
) STRICT;
CREATE TABLE wordings (digest TEXT PRIMARY KEY, content TEXT NOT NULL, served_at TEXT) STRICT;
PRAGMA user_version = 1;
