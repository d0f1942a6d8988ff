"""From the database to tables: rankings for ``cas preference``, every detail, and the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cas_metric.study.cases import REAL_METHOD
from cas_metric.study.design import REAL_ITEM
from cas_metric.study.orders import MAIN
from cas_metric.study.store import CANNOT_JUDGE, RANKED, Store

if TYPE_CHECKING:
    import pandas as pd

#: Columns that ``cas preference`` reads.
RANKING_COLUMNS: Final = ("case", "rater", "method", "rank", "position")

_DETAILS: Final = """
SELECT coalesce(c.origin, c.key) AS "case", c.label, r.name AS rater, r.finished_at,
       a.number AS case_number,
       k.method, p.place AS position, rank.rank, coalesce(s.verdict, 'unanswered') AS verdict,
       s.note, s.seconds, a.opened_at, s.submitted_at, coalesce(n.revision, 0) AS revision,
       s.wording, k.image, k.source, c.kind, coalesce(s.reason, '') AS reason
FROM assignments a
JOIN raters r ON r.id = a.rater_id
JOIN cases c ON c.id = a.case_id
LEFT JOIN places p ON p.rater_id = a.rater_id AND p.case_id = a.case_id
LEFT JOIN candidates k ON k.id = p.candidate_id
LEFT JOIN answers n ON n.rater_id = a.rater_id AND n.case_id = a.case_id
LEFT JOIN submissions s ON s.id = n.submission_id
LEFT JOIN ranks rank ON rank.submission_id = s.id AND rank.candidate_id = k.id
ORDER BY r.id, a.number, p.place
"""

_REVISIONS: Final = """
SELECT r.name AS rater, a.number AS case_number, coalesce(c.origin, c.key) AS "case", c.kind,
       dense_rank() OVER (PARTITION BY s.rater_id, s.case_id ORDER BY s.id) AS revision,
       s.id = n.submission_id AS counts, s.verdict, s.reason, k.method, p.place AS position,
       rank.rank, s.note, s.seconds, s.submitted_at, s.wording, s.submission, k.image
FROM submissions s
JOIN raters r ON r.id = s.rater_id
JOIN assignments a ON a.rater_id = s.rater_id AND a.case_id = s.case_id
JOIN cases c ON c.id = s.case_id
JOIN answers n ON n.rater_id = s.rater_id AND n.case_id = s.case_id
JOIN places p ON p.rater_id = s.rater_id AND p.case_id = s.case_id
JOIN candidates k ON k.id = p.candidate_id
LEFT JOIN ranks rank ON rank.submission_id = s.id AND rank.candidate_id = k.id
ORDER BY s.id, p.place
"""

_RATINGS: Final = """
SELECT r.name AS rater, a.number AS case_number, coalesce(c.origin, c.key) AS "case", c.kind,
       k.method, k.image, g.item, g.value
FROM ratings g
JOIN answers n ON n.submission_id = g.submission_id
JOIN raters r ON r.id = n.rater_id
JOIN assignments a ON a.rater_id = n.rater_id AND a.case_id = n.case_id
JOIN cases c ON c.id = n.case_id
JOIN candidates k ON k.id = g.candidate_id
WHERE r.finished_at IS NOT NULL OR NOT :finished_only
ORDER BY r.id, a.number, k.id, g.item
"""

_STATE: Final = """
SELECT r.name AS rater, r.token_hash IS NOT NULL AS link, r.finished_at,
       count(*) AS cases, count(n.case_id) AS answered,
       count(*) FILTER (WHERE s.verdict = 'cannot-judge') AS cannot_judge,
       max(max(coalesce(s.submitted_at, ''), coalesce(d.saved_at, ''))) AS last_activity
FROM raters r
JOIN assignments a ON a.rater_id = r.id
LEFT JOIN answers n ON n.rater_id = a.rater_id AND n.case_id = a.case_id
LEFT JOIN submissions s ON s.id = n.submission_id
LEFT JOIN drafts d ON d.rater_id = a.rater_id AND d.case_id = a.case_id
GROUP BY r.id ORDER BY r.id
"""


def details(store: Store) -> pd.DataFrame:
    """Everything that is known: one row an image, rater and case, answered or not.

    Columns: ``case, label, rater, finished_at, case_number`` (place of the case in the rater's
    order), ``method, position`` (of the image), ``rank, verdict`` (``ranked``, ``cannot-judge``,
    ``unanswered``), ``note, seconds`` (active time), ``opened_at, submitted_at`` (UTC),
    ``revision`` (answers given), ``wording`` (digest of the texts shown), ``image`` (anonymous
    copy), ``source`` (original file), ``kind`` (``main``, ``practice``, ``repeat``), ``reason``
    (why it cannot be judged). Of a case whose pair is not drawn yet, ``method`` and what follows
    from it are empty.
    """
    table = _table(store, _DETAILS)
    table["position"] = table["position"].astype("Int64")
    return table


def revisions(store: Store) -> pd.DataFrame:
    """Every answer that was ever given: one row an image, rater, case and revision.

    Columns: as of :func:`details`, with ``revision`` (from 1) and ``counts`` (1 for the last).
    """
    return _table(store, _REVISIONS)


def ratings(store: Store, *, finished_only: bool = False) -> pd.DataFrame:
    """Likert items and real-or-synthetic calls: one row an image, rater and item.

    Columns: ``rater, case_number, case, kind, method, image, item, value``.

    Args:
        store: The study.
        finished_only: Leave out raters who have not finished.
    """
    return _table(store, _RATINGS, finished_only=finished_only)


def _table(store: Store, query: str, **values: bool) -> pd.DataFrame:
    import pandas as pd

    with store.database.reading() as db:
        cursor = db.execute(query, values)
        names = [column[0] for column in cursor.description]
        table = pd.DataFrame([tuple(row) for row in cursor], columns=names)
    if "rank" in table:
        table["rank"] = table["rank"].astype("Int64")
        table = table.fillna({"note": "", "reason": ""})
    return table


def reliability_of(store: Store, *, finished_only: bool = False) -> list[dict[str, Any]]:
    """Agreement of every rater with themselves over repeated cases; plain values."""
    import pandas as pd

    from cas_metric.study.reliability import reliability

    ranked = details(store).dropna(subset=["rank", *(["finished_at"] if finished_only else [])])
    ranked = ranked.assign(item="rank", value=ranked["rank"].astype(float))
    ranked = ranked[ranked.groupby(["rater", "case_number"])["rank"].transform("size") > 1]
    columns = ["rater", "case", "method", "kind", "item", "value"]
    rated = ratings(store, finished_only=finished_only)
    both = pd.concat([ranked[columns], rated[columns].astype({"value": float})])
    return [one._asdict() for one in reliability(both)]


def turing_of(store: Store, *, finished_only: bool = False) -> list[dict[str, Any]]:
    """The visual Turing test of every rater and of all together; plain values."""
    from cas_metric.study.turing import turing_test

    table = ratings(store, finished_only=finished_only)
    calls = table[(table["item"] == REAL_ITEM) & (table["kind"] == MAIN)]
    calls = calls.assign(is_real=calls["method"] == REAL_METHOD, called_real=calls["value"])
    if calls.empty:
        return []
    each = [turing_test(rows, str(name)) for name, rows in calls.groupby("rater", sort=False)]
    found = [*each, turing_test(calls)]
    return [{**one._asdict(), "accuracy": one.accuracy._asdict()} for one in found]


def rankings(table: pd.DataFrame, *, finished_only: bool = False) -> pd.DataFrame:
    """The ranks that count, as ``cas preference`` reads them.

    Practice and repetitions do not, nor do images that stood alone.

    Args:
        table: What :func:`details` returned.
        finished_only: Leave out raters who have not finished.
    """
    kept = (table["verdict"] == RANKED) & (table["kind"] == MAIN)
    kept &= table.groupby(["rater", "case_number"])["case"].transform("size") > 1
    if finished_only:
        kept &= table["finished_at"].notna()
    return table.loc[kept, list(RANKING_COLUMNS)].reset_index(drop=True)


def state(store: Store, *, finished_only: bool = False) -> dict[str, Any]:
    """How far every rater is, and how far they agree so far; plain values.

    Args:
        store: The study.
        finished_only: Leave raters who have not finished out of all statistics.
    """
    table = details(store)
    with store.database.reading() as db:
        raters = [dict(row) for row in db.execute(_STATE)]
        versions = [
            row["wording"] for row in db.execute("SELECT DISTINCT wording FROM submissions")
        ]
    per_case = table.drop_duplicates(["rater", "case_number"]).set_index("rater")
    for rater in raters:
        rater["link"] = bool(rater["link"])
        rater["last_activity"] = rater["last_activity"] or None
        seconds = per_case.loc[[rater["rater"]], "seconds"].dropna()
        rater["median_seconds"] = float(seconds.median()) if len(seconds) else None
    warnings = []
    if len(versions) > 1:
        warnings.append(
            f"answers were given under {len(versions)} versions of study.yaml; the column "
            "'wording' of the details tells them apart"
        )
    return {
        "cases": int(table["case"].nunique()),
        "methods": store.methods(),
        "design": store.design.plain(),
        "embedded_world": bool(store.settings().get("embedded_world")),
        "raters": raters,
        "agreement": agreement_of(rankings(table, finished_only=finished_only)),
        "reliability": reliability_of(store, finished_only=finished_only),
        "turing": turing_of(store, finished_only=finished_only),
        "warnings": warnings,
    }


def agreement_of(table: pd.DataFrame) -> dict[str, Any] | None:
    """Krippendorff's alpha and Kendall's W over the cases that several raters ranked.

    Args:
        table: Rankings, as :func:`rankings` returns them.

    Returns:
        Plain values; None where no case has two rankings.
    """
    from cas_metric.statistics.agreement import agreement
    from cas_metric.statistics.preference import parse_rankings

    found = None if table.empty else agreement(parse_rankings(table))
    if found is None:
        return None
    return {
        **found._asdict(),
        "alpha": found.alpha._asdict(),
        "kendall_w": found.kendall_w._asdict(),
    }


__all__ = [
    "CANNOT_JUDGE",
    "RANKING_COLUMNS",
    "agreement_of",
    "details",
    "rankings",
    "ratings",
    "reliability_of",
    "revisions",
    "state",
    "turing_of",
]
