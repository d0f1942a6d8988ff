"""The web application as a client meets it, honest or not."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient
from tests.support.studies import METHODS, Study, method_of_image, opened_study

from cas_metric.study.app import MAX_BODY, create_app
from cas_metric.study.wording import DEFAULT

HERE = {"origin": "http://testserver"}
ORDER = {"rank.1": "2", "rank.2": "1", "rank.3": "3", "submission": "submission-1"}


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with opened_study(tmp_path, cases=3) as opened:
        yield opened


@pytest.fixture
def client(study: Study) -> TestClient:
    return TestClient(create_app(study.store), follow_redirects=False, headers=HERE)


def stored(study: Study, table: str = "submissions") -> int:
    query = f"SELECT count(*) FROM {table}"
    return study.store.database.connection().execute(query).fetchone()[0]


def test_a_rater_goes_from_the_first_page_to_the_last(client: TestClient, study: Study) -> None:
    base = study.path()
    assert "case/1" in client.get(base).text
    for number in (1, 2, 3):
        page = client.get(f"{base}case/{number}").text
        assert f"Case {number} " in page
        fields = {**ORDER, "submission": f"submission-{number}", "verdict": "ranked"}
        done = client.post(f"{base}case/{number}", data=fields)
        assert done.status_code == 303
        expected = str(number + 1) if number < 3 else "../overview"
        assert done.headers["location"] == expected
    assert "Finish" in client.get(f"{base}overview").text
    assert client.post(f"{base}finish").status_code == 303
    assert "Thank you" in client.get(base).text
    assert client.get(f"{base}case/1").headers["location"] == "../"
    again = client.post(f"{base}case/1", data={**ORDER, "submission": "submission-9"})
    assert again.status_code == 409


def test_the_form_alone_holds_rank_entry_fields(client: TestClient, study: Study) -> None:
    page = client.get(f"{study.path()}case/1").text
    fields = re.findall(r'<input type="radio" name="rank\.(\d)" value="(\d)"', page)
    assert fields == [(p, r) for p in "123" for r in "123"]


def test_a_forged_link_looks_like_any_other_missing_page(client: TestClient, study: Study) -> None:
    token = study.links[0].token
    image = next(iter(study.store.images()))
    forged = ["x", token[:-1] + ("A" if token[-1] != "A" else "B"), token.lower(), token + "A"]
    plain = client.get("/no/such/page/at/all")
    for bad in forged:
        for path in ("", "overview", "case/1", f"image/{image}", "nothing"):
            answer = client.get(f"/r/{bad}/{path}")
            assert answer.status_code == 404
            assert answer.headers == {
                **plain.headers,
                "content-length": answer.headers["content-length"],
            }
            # The same page, but for the relative address of its style.
            assert answer.text.replace("../", "") == plain.text.replace("../", "")
        assert client.post(f"/r/{bad}/case/1", data=ORDER).status_code == 404
    assert client.get(f"/r/{token}/nothing").text == client.get(f"/r/{forged[1]}/nothing").text
    assert client.get("/").status_code == 404
    assert stored(study) == 0


def test_whatever_names_a_file_hands_out_nothing_else(client: TestClient, study: Study) -> None:
    base = study.path()
    assert client.get(f"{base}image/{next(iter(study.store.images()))}").status_code == 200
    for name in (
        *(
            "..%2fstudy.sqlite3",
            "..%2f..%2f..%2fetc%2fpasswd",
            "%2e%2e/study.yaml",
            "study.sqlite3",
        ),
        *("%00.png", "a.png", "..%5cstudy.yaml", "%252e%252e%252fstudy.yaml"),
    ):
        answer = client.get(f"{base}image/{name}")
        assert answer.status_code == 404, name
        assert b"SQLite" not in answer.content
        assert client.get(f"/static/{name}").status_code == 404


def test_images_of_another_study_are_not_there(
    tmp_path: Path, client: TestClient, study: Study
) -> None:
    with opened_study(tmp_path / "other", cases=1) as other:
        foreign = next(iter(other.store.images()))
        assert client.get(f"{study.path()}image/{foreign}").status_code == 404
        assert client.get(f"{other.path()}").status_code == 404


def test_requests_of_other_sites_change_nothing(client: TestClient, study: Study) -> None:
    url = f"{study.path()}case/1"
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver:81"},
        {"origin": "http://testserver.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://testserver", "sec-fetch-site": "same-site"},
        {},
    ):
        bare = TestClient(client.app, follow_redirects=False, headers=headers)
        assert bare.post(url, data=ORDER).status_code == 403
        assert bare.post(f"{url}/draft", data=ORDER).status_code == 403
    assert stored(study) == stored(study, "drafts") == 0
    own = TestClient(client.app, follow_redirects=False, headers={"sec-fetch-site": "same-origin"})
    assert own.post(url, data=ORDER).status_code == 303
    # Behind a proxy that ends TLS the scheme differs, the host does not.
    proxied = TestClient(
        client.app, headers={"origin": "https://study.clinic", "host": "study.clinic"}
    )
    assert proxied.post(f"{url}/draft", data=ORDER).status_code == 200


def test_a_double_click_is_one_answer(client: TestClient, study: Study) -> None:
    url = f"{study.path()}case/1"
    answers = [client.post(url, data=ORDER) for _ in range(3)]
    assert {a.status_code for a in answers} == {303}
    assert {a.headers["location"] for a in answers} == {"2"}
    assert stored(study) == stored(study, "answers") == 1


def test_an_incomplete_ranking_is_refused_in_words(client: TestClient, study: Study) -> None:
    url = f"{study.path()}case/1"
    fields = {"rank.1": "1", "rank.2": "1", "rank.3": "2", "submission": "submission-1"}
    assert "Two images have the same rank" in client.post(url, data=fields).text
    json = {"accept": "application/json"}
    short = client.post(url, data={"rank.1": "1", "submission": "submission-1"}, headers=json)
    assert short.status_code == 422
    assert short.json() == {"saved": False, "problem": "2 images still without a rank"}
    for odd in ({"rank.x": "1"}, {"rank.9": "1"}, {"rank.1": "-1"}, {"rank.1": "1e9"}, {}):
        assert client.post(url, data={"submission": "submission-1", **odd}).status_code == 422
    assert stored(study) == 0


def test_cases_ahead_are_not_shown(client: TestClient, study: Study) -> None:
    base = study.path()
    assert client.get(f"{base}case/3").headers["location"] == "1"
    for number in ("0", "4", "-1", "1x", "9" * 30, "١"):
        assert client.get(f"{base}case/{number}").status_code == 404


def test_html_in_notes_and_labels_is_text(tmp_path: Path) -> None:
    attack = "</textarea><script>alert(1)</script><img src=x onerror=alert(2)>"
    texts = DEFAULT.replace("title: Image ranking study", f"title: '{attack}'")
    with opened_study(tmp_path, cases=1, texts=texts) as study:
        with study.store.database.writing() as db:
            db.execute("UPDATE cases SET label = ?", (attack,))
        client = TestClient(create_app(study.store), headers=HERE)
        client.post(f"{study.path()}case/1/draft", data={"note": attack, "revision": "0"})
        for path in ("", "case/1", "overview"):
            page = client.get(study.path() + path).text
            assert "<script>alert" not in page
            assert "<img src=x" not in page
        page = client.get(f"{study.path()}case/1").text
        assert page.count(html.escape(attack)) >= 2  # the note and the label are there, as text
        assert "unsafe-inline" not in client.get(study.path()).headers["content-security-policy"]


@pytest.mark.parametrize("declared", [True, False])
def test_large_bodies_are_refused(client: TestClient, study: Study, declared: bool) -> None:
    body = b"note=" + b"x" * (MAX_BODY + 1)
    chunks = iter([body[:1000], body[1000:]])
    sent = client.post(
        f"{study.path()}case/1/draft",
        content=body if declared else chunks,
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert sent.status_code == 413
    many = "&".join(f"a{i}=1" for i in range(1000))
    assert client.post(f"{study.path()}case/1/draft", content=many).status_code == 400
    assert client.post(f"{study.path()}case/1/draft", content=b"\xff\xfe").status_code == 400
    assert stored(study, "drafts") == 0


def test_every_response_carries_the_headers(client: TestClient, study: Study) -> None:
    image = next(iter(study.store.images()))
    for path in (study.path(), f"{study.path()}image/{image}", "/static/study.css", "/nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert not {"etag", "last-modified", "set-cookie", "server"} & set(headers)


def test_pages_load_nothing_from_elsewhere_and_name_no_method(
    client: TestClient, study: Study
) -> None:
    files = ["study.css", "theme.js", "case.js", "drag.js", "ranking.js", "saving.js", "viewer.js"]
    pages = [client.get(f"/static/{name}") for name in (*files, "icon.svg")]
    assert {page.status_code for page in pages} == {200}
    pages += [client.get(study.path() + path) for path in ("", "case/1", "overview")]
    for page in pages:
        text = page.text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\(", text)
        assert not any(method in text for method in METHODS)
        assert "style=" not in text
        assert not re.search(r"<script(?! (type=\"module\" )?src=)", text)


def test_two_raters_see_the_same_images_under_their_own_links(
    client: TestClient, study: Study
) -> None:
    seen = []
    for rater in (0, 1):
        page = client.get(f"{study.path(rater)}case/1").text
        seen.append(re.findall(r"image/([0-9a-f]{32}\.png)", page))
        assert study.links[1 - rater].token not in page
        assert f"rater-{2 - rater}" not in client.get(study.path(rater)).text
    methods = method_of_image(study.store)
    assert all({methods[name] for name in names} == set(METHODS) for names in seen)


def test_the_link_without_its_last_slash_works(client: TestClient, study: Study) -> None:
    moved = client.get(study.path().rstrip("/"))
    assert moved.status_code == 308
    assert moved.headers["location"] == f"./{study.links[0].token}/"


def test_a_link_without_its_last_slash_leads_nowhere_else(client: TestClient) -> None:
    moved = client.get("/r/https:elsewhere.example")
    assert urljoin("http://testserver/r/x", moved.headers["location"]).startswith(
        "http://testserver/r/"
    )


def test_an_origin_that_is_no_address_is_refused(client: TestClient, study: Study) -> None:
    answer = client.post(f"{study.path()}case/1", data=ORDER, headers={"origin": "http://[::1"})
    assert answer.status_code == 403
