"""Behind a proxy: answers come in, or it is said what is wrong; and the address is announced."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.support.studies import opened_study

from cas_metric.errors import InputError
from cas_metric.study.app import create_app
from cas_metric.study.origins import public_host
from cas_metric.study.serving import bind
from cas_metric.study.wording import DEFAULT

ORDER = {"rank.1": "2", "rank.2": "1", "rank.3": "3", "submission": "submission-1"}
JSON = {"accept": "application/json"}
#: A proxy on plain HTTP that replaces Host.
PROXIED = {"origin": "http://ranking.example", "host": "127.0.0.1:8642"}


def test_a_proxy_that_hides_its_host_is_named_once_and_to_the_rater(tmp_path: Path) -> None:
    told: list[str] = []
    with opened_study(tmp_path) as study:
        client = TestClient(create_app(study.store, complain=told.append))
        url = f"{study.path()}case/1"
        headers = {**PROXIED, **JSON, "referer": f"http://ranking.example{url}"}
        for _ in range(3):
            answer = client.post(url, data=ORDER, headers=headers)
        assert answer.status_code == 403
        assert "does not pass on its address" in answer.json()["problem"]
        assert len(told) == 1
        assert "proxy_set_header Host $http_host" in told[0]
        assert "--url http://ranking.example" in told[0]
        foreign = {**PROXIED, **JSON, "referer": "http://ranking.example/elsewhere"}
        problem = client.post(url, data=ORDER, headers=foreign).json()["problem"]
        assert "did not come from a page" in problem
        assert len(told) == 1


def test_the_public_address_and_the_browsers_word_are_believed(tmp_path: Path) -> None:
    with opened_study(tmp_path) as study:
        url = f"{study.path()}case/1/draft"
        named = TestClient(create_app(study.store, public="http://ranking.example/study"))
        assert named.post(url, data=ORDER, headers=PROXIED).status_code == 200
        other = {**PROXIED, "origin": "http://evil.example"}
        assert named.post(url, data=ORDER, headers=other).status_code == 403
        plain = TestClient(create_app(study.store))
        assert plain.post(url, data=ORDER, headers=PROXIED).status_code == 403
        said = {**PROXIED, "sec-fetch-site": "same-origin"}
        assert plain.post(url, data=ORDER, headers=said).status_code == 200
        said = {**PROXIED, "sec-fetch-site": "cross-site"}
        assert named.post(url, data=ORDER, headers=said).status_code == 403


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example", "a.example"),
        ("https://A.example:443/x/", "a.example"),
        ("http://a.example:8080", "a.example:8080"),
        ("http://[::1]:80", "[::1]"),
    ],
)
def test_a_public_address_is_read_as_browsers_write_it(url: str, host: str) -> None:
    assert public_host(url) == host


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "https://", "http://a:b:c"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no address"):
        public_host(url)


def test_connections_are_accepted_before_the_address_is_told() -> None:
    listener = bind("127.0.0.1", 0)
    try:
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass
    finally:
        listener.close()


def test_a_case_that_cannot_be_judged_needs_a_reason_from_the_list(tmp_path: Path) -> None:
    with opened_study(tmp_path) as study:
        client = TestClient(
            create_app(study.store), headers={"origin": "http://testserver"}, follow_redirects=False
        )
        fields = {"submission": "submission-1", "verdict": "cannot-judge"}
        url = f"{study.path()}case/1"
        for wrong in ({}, {"reason": ""}, {"reason": "because"}):
            answer = client.post(url, data={**fields, **wrong}, headers=JSON)
            assert answer.status_code == 422
        assert client.post(url, data={**fields, "reason": "Outside of my field"}).status_code == 303


def test_where_no_reasons_are_listed_none_is_taken(tmp_path: Path) -> None:
    with opened_study(tmp_path, texts=DEFAULT.split("cannot_judge:")[0]) as study:
        client = TestClient(
            create_app(study.store), headers={"origin": "http://testserver"}, follow_redirects=False
        )
        fields = {"submission": "submission-1", "verdict": "cannot-judge"}
        url = f"{study.path()}case/1"
        forged = {**fields, "reason": '=HYPERLINK("http://evil","x")'}
        assert client.post(url, data=forged, headers=JSON).status_code == 422
        assert client.post(url, data=fields).status_code == 303


def test_a_rest_is_proposed_after_a_block_of_cases(tmp_path: Path) -> None:
    texts = DEFAULT.replace("break_every: 25", "break_every: 2")
    with opened_study(tmp_path, cases=5, texts=texts) as study:
        client = TestClient(
            create_app(study.store), headers={"origin": "http://testserver"}, follow_redirects=False
        )
        targets = []
        for number in range(1, 6):
            fields = {**ORDER, "submission": f"submission-{number}"}
            answer = client.post(f"{study.path()}case/{number}", data=fields)
            targets.append(answer.headers["location"])
            if number == 2:
                assert "case/3" in client.get(f"{study.path()}pause").text
        assert targets == ["2", "../pause", "4", "../pause", "../overview"]
        # A revision proposes none.
        again = {**ORDER, "submission": "submission-again"}
        assert client.post(f"{study.path()}case/4", data=again).headers["location"] != "../pause"
