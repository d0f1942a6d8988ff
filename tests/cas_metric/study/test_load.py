"""Two hundred raters at once over HTTP: nothing is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import httpx
from tests.support.studies import Study, method_of_image, opened_study, served

from cas_metric.study.app import create_app
from cas_metric.study.results import details, rankings

RATERS = 200
CASES = 2


async def rate(client: httpx.AsyncClient, study: Study, rater: int) -> dict[tuple[int, str], int]:
    """Answer every case, twice over as an impatient hand does; (case number, image) to rank."""
    clicked = {}
    base = study.path(rater)
    for number in range(1, CASES + 1):
        page = (await client.get(f"{base}case/{number}")).raise_for_status().text
        images = re.findall(r"image/([0-9a-f]{32}\.png)", page)
        submission = re.search(r'name="submission" value="([^"]+)"', page)[1]
        ranks = random.Random(rater * 10 + number).sample(range(1, 4), 3)
        fields = {f"rank.{place}": str(rank) for place, rank in enumerate(ranks, 1)}
        fields |= {"submission": submission, "verdict": "ranked", "note": f"{rater}/{number}"}
        twice = [client.post(f"{base}case/{number}", data=fields) for _ in range(2)]
        for answer in await asyncio.gather(*twice):
            assert answer.status_code == 303
        clicked |= {(number, name): r for name, r in zip(images, ranks, strict=True)}
    assert (await client.post(f"{base}finish")).status_code == 303
    return clicked


async def rate_all(address: str, study: Study) -> list[dict[tuple[int, str], int]]:
    """Every rater with connections of their own, as browsers have."""

    async def alone(rater: int) -> dict[tuple[int, str], int]:
        # There is no TLS here, whose certificates each client would read.
        settings = {"base_url": address, "headers": {"origin": address}, "verify": False}
        async with httpx.AsyncClient(**settings, timeout=120) as client:
            return await rate(client, study, rater)

    return await asyncio.gather(*(alone(rater) for rater in range(RATERS)))


def test_two_hundred_raters_at_once(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=CASES, raters=RATERS) as study:
        with served(create_app(study.store)) as address:
            clicked = asyncio.run(rate_all(address, study))
        table = details(study.store)
        assert method_of_image(study.store).keys() == set(table["image"])
    assert len(rankings(table, finished_only=True)) == RATERS * CASES * 3
    assert (table["revision"] == 1).all()
    for rater, expected in enumerate(clicked):
        mine = table[table["rater"] == f"rater-{rater + 1}"]
        found = mine.set_index(["case_number", "image"])["rank"].to_dict()
        assert found == expected
        assert set(mine["note"]) == {f"{rater}/{number}" for number in range(1, CASES + 1)}
