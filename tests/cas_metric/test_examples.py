"""The API reference shows an example of everything that it holds, and all of them run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.examples import documented, run_examples
from tests.support.mllm_server import MllmServer
from tests.support.oracles import Gallery, audit_oracle, judge_oracle

import cas_metric
from cas_metric.verbs.demo import demo

NAMES = documented("cas-metric")
SOURCE = Path(cas_metric.__file__).parent
#: Verbs whose examples ask a language model.
ASKING = ("cas_metric.verbs.audit.audit", "cas_metric.verbs.judge.judge")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the examples run: beside a small ``demo``, with a cache of their own."""
    place = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("CAS_CACHE", str(place / "cache"))
        demo("demo", images=16)
        yield place


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_shows_how_it_is_called(name: str) -> None:
    run_examples(name, {})


@pytest.mark.parametrize("name", ASKING)
def test_what_asks_a_language_model_asks_the_one_of_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = Path("demo/generated/faithful"), Path("demo/generated/wrong")
    gallery = Gallery(good, bad)
    audited = audit_oracle(gallery, cas_metric.load_domain("phantom-chexpert"))
    judged = judge_oracle(gallery, {good: 1.0, bad: 0.0})
    with MllmServer(lambda call: (judged if len(call.images) > 1 else audited)(call)) as server:
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        run_examples(name, {})
        assert server.calls


def test_the_reference_holds_the_public_face_and_nothing_twice() -> None:
    assert {f"cas_metric.{name}" for name in cas_metric.__all__} <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_no_example_is_skipped() -> None:
    skipped = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if re.search(r"doctest: *\+SKIP", file.read_text(encoding="utf-8"))
    }
    assert not skipped
