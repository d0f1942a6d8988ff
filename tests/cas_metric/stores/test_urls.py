"""URLs: shown without secrets, refused where they may not be read, tried again where that helps."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cas_metric.errors import InputError
from cas_metric.files import require_local, told_words
from cas_metric.stores import remote, urls


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:p@ss@host/a.png", "https://host/a.png"),
        ("https://me:pa/ss@host/a.png", "https://host/a.png"),
        ("https://me:pa?ss@host/a.png", "https://host/a.png"),
        ("https://me:pa#ss@host/a.png", "https://host/a.png"),
        ("https://me:wo'rd@host/a", "https://host/a"),
        ("https://host/a?b='secret'&c=other", "https://host/a"),
        ("https:/me:w@h/a.png?sig=1", "https:/h/a.png"),
        ("https://me:w@[2001:db8::1]:80/a.png", "https://[2001:db8::1]:80/a.png"),
        ("https://host:8080/a@2x.png", "https://host:8080/a@2x.png"),
        ("hf://datasets/me/set@main/a.png", "hf://datasets/me/set@main/a.png"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x/a", "s3://arn:aws:s3:eu-west-1:1:accesspoint/x/a"),
        ("abfss://set@me.dfs.core.windows.net/a.png?sig=1", "abfss://set@me.dfs.core.windows.net/a.png"),
        ("a b.png", "a b.png"),
    ],
)  # fmt: skip
def test_a_url_by_itself_is_shown_without_secrets(url: str, shown: str) -> None:
    assert urls.shown(url) == shown
    assert told_words(["score", url, f"--method=B={url}"])[1:] == [shown, f"--method=B={shown}"]


def test_prose_loses_secrets_with_odd_signs() -> None:
    for text, clean in {
        "503 of https://me:p@ss@host/a.png, later": "503 of https://host/a.png, later",
        "of https://me:wo'rd@host/a": "of https://host/a",
        "of https://me:pa/ss@host/a.png.": "of https://host/a.png.",
        "of https://me:pa?ss@host/a.png?sig=1, later": "of https://host/a.png, later",
        "'https://host:8080/a@2x.png' is none": "'https://host:8080/a@2x.png' is none",
        "of 'https://host/a?b='secret'&c=other'": "of 'https://host/a'",
    }.items():
        assert urls.scrubbed(text) == clean


@pytest.mark.parametrize("url", ["https://me:pa/ss@host/a.png", "http://me:pa#ss@host/a.png"])
def test_a_password_that_is_not_encoded_is_refused_before_a_client_tells_it(url: str) -> None:
    with pytest.raises(InputError) as caught:
        urls.protocol_of(url)
    assert "host" in caught.value.problem
    assert caught.value.problem.startswith(f"{url.partition(':')[0]}://host/a.png: ")
    assert "%2F" in caught.value.fix


def test_an_ipv6_literal_is_no_chain() -> None:
    for url in ("http://[::1]:80/a.png", "https://me:w@[2001:db8::1]/a.png"):
        assert urls.protocol_of(url).startswith("http")
        assert not urls.problem(url)
    for url in ("http://[::1]/a::https://h/b", "https://h/[::1]/a::zip://b"):
        with pytest.raises(InputError, match="chained"):
            urls.protocol_of(url)
    assert "no host" in urls.problem("http://[::1/a.png")


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_no_second_try_mends_is_tried_once(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRIES", (0.0, 0.0))
    tries: list[int] = []

    def request() -> None:
        tries.append(number)
        raise OSError(number, "no")

    with pytest.raises(OSError, match="no"):
        remote.retried(request)
    assert len(tries) == 1
    assert urls.is_transient(ConnectionResetError(errno.ECONNRESET, "reset"))


def test_where_results_do_not_go_is_told_without_secrets() -> None:
    with pytest.raises(InputError, match=r"^https://host/out: results") as caught:
        require_local(Path("https://me:word@host/out"))
    assert "word" not in str(caught.value)
