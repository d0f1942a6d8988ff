"""Kill the server of a study in the middle of 200 raters, again and again.

Every rater answers as fast as the server takes it. Each round the server process gets SIGKILL at a
random point, with requests of all raters under way, and is started anew. Lost is an answer that was
acknowledged and is not in the export; altered, one that is there with other ranks.

    python -m benchmarks.study.kills --rounds 20
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from tests.support.studies import opened_study

from cas_metric.study import open_study
from cas_metric.study.results import details, revisions

METHODS = 3
#: (rater, number of the case) to ranks by image; only what the server confirmed.
Confirmed = dict[tuple[int, int], dict[str, int]]


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The server, and its address."""
    command = [sys.executable, "-m", "cas_metric.cli", "study", "serve", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    return server, re.search(r"http://\S+?(?=,)", line)[0]  # type: ignore[index]


async def rate(client: httpx.AsyncClient, base: str, rater: int, confirmed: Confirmed) -> None:
    """Answer the next case until the server is gone."""
    try:
        found = re.search(r'href="case/(\d+)"', (await client.get(base)).text)
        number = int(found[1]) if found else 0
        while number:
            page = (await client.get(f"{base}case/{number}")).text
            images = re.findall(r"picture.*?image/([0-9a-f]{32}\.png)", page)
            submission = re.search(r'name="submission" value="([^"]+)"', page)[1]  # type: ignore[index]
            ranks = random.sample(range(1, METHODS + 1), METHODS)
            fields = {f"rank.{place}": str(rank) for place, rank in enumerate(ranks, 1)}
            fields |= {"submission": submission, "verdict": "ranked", "revision": "0"}
            answer = await client.post(f"{base}case/{number}", data=fields)
            if answer.status_code == 303:
                confirmed[rater, number] = dict(zip(images, ranks, strict=True))
            number = number + 1 if answer.headers["location"] != "../overview" else 0
    except httpx.HTTPError:
        return


async def one_round(
    address: str, paths: list[str], server: subprocess.Popen[str], confirmed: Confirmed, more: int
) -> None:
    """Let all raters work until ``more`` answers are confirmed, and kill the server."""
    limits = httpx.Limits(max_connections=len(paths))
    async with httpx.AsyncClient(
        base_url=address, headers={"origin": address}, limits=limits, timeout=60
    ) as client:
        before = len(confirmed)
        raters = [
            asyncio.create_task(rate(client, path, k, confirmed)) for k, path in enumerate(paths, 1)
        ]
        while len(confirmed) < before + more and not all(task.done() for task in raters):
            await asyncio.sleep(0.003)
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.gather(*raters)


def check(folder: Path, confirmed: Confirmed) -> tuple[int, int, int]:
    """How many confirmed answers are lost or altered, and how many were stored twice."""
    store = open_study(folder)
    table, every = details(store), revisions(store)
    store.close()
    table["rater"] = table["rater"].str.removeprefix("rater-").astype(int)
    ranked = table.dropna(subset=["rank"])
    stored = {
        key: dict(zip(rows["image"], rows["rank"].astype(int), strict=True))
        for key, rows in ranked.groupby(["rater", "case_number"])
    }
    lost = sum(key not in stored for key in confirmed)
    altered = sum(key in stored and stored[key] != ranks for key, ranks in confirmed.items())
    twice = int((every.groupby(["rater", "case_number"])["revision"].max() > 1).sum())
    return lost, altered, twice


def main() -> None:
    """Run the rounds, and stop at the first answer that is lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    confirmed: Confirmed = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with opened_study(root, cases=options.cases, raters=options.raters) as study:
            folder, paths = study.store.folder, [f"/r/{link.token}/" for link in study.links]
        for number in range(1, options.rounds + 1):
            server, address = start(folder)
            before, began = len(confirmed), time.monotonic()
            more = random.randint(20, 400)
            asyncio.run(one_round(address, paths, server, confirmed, more))
            server.wait()
            lost, altered, twice = check(folder, confirmed)
            print(
                f"round {number}: {len(confirmed) - before} answers confirmed in "
                f"{time.monotonic() - began:.1f} s, then SIGKILL; of {len(confirmed)} so far "
                f"{lost} lost, {altered} altered, {twice} stored twice",
                flush=True,
            )
            assert lost == altered == twice == 0
    print(f"{options.rounds} rounds, {options.raters} raters: nothing confirmed was lost")


if __name__ == "__main__":
    main()
