"""From the body of a request to an answer or a draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from cas_metric.study.store import CANNOT_JUDGE, RANKED, Answer, Draft
from cas_metric.study.views import Rated

#: Largest request body: ranks, ratings and a note in any script, percent-encoded.
MAX_BODY: Final = 65_536
#: Nine images with twenty items, a rank and the rest.
MAX_FIELDS: Final = 300


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, url-encoded; refused beyond :data:`MAX_BODY`, however it is sent."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413)
    try:
        fields = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:  # no text, or too many fields
        raise HTTPException(400) from error
    return dict(fields)


def read_answer(form: Mapping[str, str], wording: str) -> Answer:
    """The answer in a form; ``wording`` is the digest of the texts that were shown."""
    verdict = CANNOT_JUDGE if form.get("verdict") == CANNOT_JUDGE else RANKED
    revision = form.get("revision", "")
    return Answer(
        submission=form.get("submission", ""),
        verdict=verdict,
        ranks=_ranks(form),
        note=_note(form),
        seconds=_number(form.get("seconds", ""), float, 0.0),
        wording=wording,
        ratings=_ratings(form),
        reason=form.get("reason", "") if verdict == CANNOT_JUDGE else "",
        revision=_number(revision, int, -1) if revision else None,
    )


def read_draft(form: Mapping[str, str]) -> Draft:
    """The draft in a form."""
    return Draft(
        ranks=_ranks(form),
        note=_note(form),
        seconds=_number(form.get("seconds", ""), float, 0.0),
        revision=_number(form.get("revision", ""), int, 0),
        ratings=_ratings(form),
        page=form.get("submission", "")[:64],
        seen=form.get("seen", "")[:64],
    )


def _ranks(form: Mapping[str, str]) -> dict[int, int]:
    """``rank.PLACE=RANK`` fields; what is no number becomes 0, which no rank or place is."""
    return {
        _number(name.removeprefix("rank."), int, 0): _number(value, int, 0)
        for name, value in form.items()
        if name.startswith("rank.") and value
    }


def _ratings(form: Mapping[str, str]) -> dict[Rated, int]:
    """``rate.PLACE.ITEM=VALUE`` fields."""
    found = {}
    for name, value in form.items():
        if name.startswith("rate.") and value:
            _, place, item = (*name.split(".", 2), "")[:3]
            found[_number(place, int, 0), item[:20]] = _number(value, int, -1)
    return found


def _note(form: Mapping[str, str]) -> str:
    text = form.get("note", "").replace("\r\n", "\n").replace("\x00", "")
    return text.strip()


def _number(text: str, kind: Callable[[str], Any], otherwise: Any) -> Any:
    try:
        return kind(text[:20])
    except ValueError:
        return otherwise
