"""From the database to tables: rankings for ``cas preference``, every detail, and the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cas_metric.study.store import CANNOT_JUDGE, RANKED, Store

if TYPE_CHECKING:
    import pandas as pd

#: Columns that ``cas preference`` reads.
RANKING_COLUMNS: Final = ("case", "rater", "method", "rank", "position")
#: What a spreadsheet takes for the start of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_DETAILS: Final = """
SELECT c.key AS "case", c.label, r.name AS rater, r.finished_at, a.number AS case_number,
       k.method, p.place AS position, rank.rank, coalesce(s.verdict, 'unanswered') AS verdict,
       s.note, s.seconds, a.opened_at, s.submitted_at, coalesce(n.revision, 0) AS revision,
       s.wording, k.image, k.source
FROM assignments a
JOIN raters r ON r.id = a.rater_id
JOIN cases c ON c.id = a.case_id
JOIN places p ON p.rater_id = a.rater_id AND p.case_id = a.case_id
JOIN candidates k ON k.id = p.candidate_id
LEFT JOIN answers n ON n.rater_id = a.rater_id AND n.case_id = a.case_id
LEFT JOIN submissions s ON s.id = n.submission_id
LEFT JOIN ranks rank ON rank.submission_id = s.id AND rank.candidate_id = k.id
ORDER BY r.id, a.number, p.place
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
    copy), ``source`` (original file). A note that a spreadsheet would run as a formula gets an
    apostrophe before it.
    """
    import pandas as pd

    with store.database.reading() as db:
        cursor = db.execute(_DETAILS)
        names = [column[0] for column in cursor.description]
        table = pd.DataFrame([tuple(row) for row in cursor], columns=names)
    table["rank"] = table["rank"].astype("Int64")
    table["note"] = [_harmless(note) for note in table["note"].fillna("")]
    return table


def rankings(table: pd.DataFrame, *, finished_only: bool = False) -> pd.DataFrame:
    """The rows of :func:`details` that hold a rank, as ``cas preference`` reads them.

    Args:
        table: What :func:`details` returned.
        finished_only: Leave out raters who have not finished.
    """
    kept = table["verdict"] == RANKED
    if finished_only:
        kept &= table["finished_at"].notna()
    return table.loc[kept, list(RANKING_COLUMNS)].reset_index(drop=True)


def state(store: Store) -> dict[str, Any]:
    """How far every rater is, and how far they agree so far; plain values."""
    table = details(store)
    with store.database.reading() as db:
        raters = [dict(row) for row in db.execute(_STATE)]
        versions = [
            row["wording"] for row in db.execute("SELECT DISTINCT wording FROM submissions")
        ]
    per_case = table.drop_duplicates(["rater", "case"]).set_index("rater")
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
        "methods": sorted(table["method"].unique()),
        "embedded_world": bool(store.settings().get("embedded_world")),
        "raters": raters,
        "agreement": agreement_of(rankings(table)),
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


def _harmless(note: str) -> str:
    return f"'{note}" if note.startswith(_FORMULA) else note


__all__ = ["CANNOT_JUDGE", "RANKING_COLUMNS", "agreement_of", "details", "rankings", "state"]
