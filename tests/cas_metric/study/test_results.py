"""What comes out: the tables, the agreement, and the verbs that make them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd
import pytest
from tests.support.studies import METHODS, Study, opened_study
from typer.testing import CliRunner

from cas_metric.cli.study import app
from cas_metric.errors import CasError, InputError
from cas_metric.statistics.preference import parse_rankings
from cas_metric.study.results import agreement_of, details, rankings, state
from cas_metric.study.store import CANNOT_JUDGE, RANKED, Answer
from cas_metric.verbs.study import status

runner = CliRunner()


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with opened_study(tmp_path, cases=6) as opened:
        yield opened


def place_of(study: Study, rater: int, number: int) -> dict[str, int]:
    """Method to the place in which a rater sees it."""
    rows = study.store.database.connection().execute(
        "SELECT method, place FROM assignments a JOIN places p USING (rater_id, case_id)"
        " JOIN candidates c ON c.id = p.candidate_id WHERE rater_id = ? AND number = ?",
        (rater, number),
    )
    return {row["method"]: row["place"] for row in rows}


def rank_all(study: Study, rater: int, order: Callable[[int], list[str]], count: int = 6) -> None:
    """Rank by method, best first, whatever the places."""
    who = study.store.rater(study.links[rater - 1].token)
    for number in range(1, count + 1):
        places = place_of(study, rater, number)
        ranks = {places[method]: rank for rank, method in enumerate(order(number), 1)}
        answer = Answer(f"submission-{number}", RANKED, ranks, "fine", 4.0 * number, "digest")
        study.store.submit(who, number, answer)


def test_the_export_holds_what_was_ranked_in_the_form_that_preference_reads(study: Study) -> None:
    rank_all(study, 1, lambda number: list(METHODS))
    rank_all(study, 2, lambda number: list(METHODS)[::-1], count=2)
    table = rankings(details(study.store))
    assert list(table) == ["case", "rater", "method", "rank", "position"]
    parsed = parse_rankings(table)
    assert len(parsed.cases) == 8
    for rater, ranks in zip(parsed.raters, parsed.ranks, strict=True):
        expected = [1, 2, 3] if rater == "rater-1" else [3, 2, 1]
        assert [ranks[parsed.methods.index(m)] for m in METHODS] == expected
    shown = table[table["rater"] == "rater-2"].groupby("case")["position"].apply(sorted)
    assert all(positions == [1, 2, 3] for positions in shown)


def test_details_hold_every_image_of_every_case(study: Study) -> None:
    rank_all(study, 1, lambda number: list(METHODS), count=1)
    who = study.store.rater(study.links[0].token)
    study.store.submit(who, 2, Answer("unjudged-1", CANNOT_JUDGE, {}, "=HYPERLINK(1)"))
    table = details(study.store)
    assert len(table) == 2 * 6 * 3
    mine = table[table["rater"] == "rater-1"]
    assert list(mine.groupby("case_number")["verdict"].first()) == [
        *(RANKED, CANNOT_JUDGE),
        *["unanswered"] * 4,
    ]
    assert set(mine.loc[mine["case_number"] == 1, "seconds"]) == {4.0}
    assert set(mine.loc[mine["case_number"] == 2, "note"]) == {"=HYPERLINK(1)"}
    assert mine.loc[mine["case_number"] > 1, "rank"].isna().all()
    assert len(rankings(table)) == 3


def test_agreement_is_that_of_an_independent_implementation(study: Study) -> None:
    rng = np.random.default_rng(3)
    orders = {(r, n): list(rng.permutation(METHODS)) for r in (1, 2) for n in range(1, 7)}
    for rater in (1, 2):
        rank_all(study, rater, lambda number, rater=rater: orders[rater, number])
    table = rankings(details(study.store))
    wide = table.pivot_table(index="rater", columns=["case", "method"], values="rank")
    oracle = krippendorff.alpha(wide.to_numpy(dtype=float), level_of_measurement="ordinal")
    found = agreement_of(table)
    assert found["alpha"]["estimate"] == pytest.approx(oracle, abs=1e-12)
    assert found["n_shared"] == 6
    assert state(study.store)["agreement"]["alpha"]["estimate"] == pytest.approx(oracle, abs=1e-12)


def test_where_there_is_no_interval_none_is_told(study: Study) -> None:
    for rater in (1, 2):
        rank_all(study, rater, lambda number: list(METHODS))
    text = status(study.store.folder).text
    assert "Kendall's W 1.000 (chance 0.50)" in text
    assert "nan" not in text


def test_the_state_counts_and_warns(study: Study) -> None:
    found = state(study.store)
    assert [one["answered"] for one in found["raters"]] == [0, 0]
    assert found["raters"][0]["last_activity"] is None
    assert found["agreement"] is None
    rank_all(study, 1, lambda number: list(METHODS), count=3)
    who = study.store.rater(study.links[0].token)
    study.store.submit(who, 4, Answer("unjudged-1", CANNOT_JUDGE, {}, wording="another text"))
    found = state(study.store)
    first = found["raters"][0]
    assert (first["answered"], first["cannot_judge"], first["cases"]) == (4, 1, 6)
    assert first["median_seconds"] == 6.0  # of 4, 8, 12 and 0
    assert "2 versions of study.yaml" in found["warnings"][0]


def test_finished_only_leaves_the_others_out(study: Study) -> None:
    rank_all(study, 1, lambda number: list(METHODS))
    rank_all(study, 2, lambda number: list(METHODS), count=5)
    study.store.finish(study.store.rater(study.links[0].token))
    table = rankings(details(study.store), finished_only=True)
    assert set(table["rater"]) == {"rater-1"}


def test_the_verbs_lead_from_images_to_preference_scores(tmp_path: Path) -> None:
    from cas_metric.cli.preference import app as preference

    with opened_study(tmp_path / "first", cases=12) as source:
        sets = [f"{m}={tmp_path / 'first' / 'sets' / m}" for m in METHODS]
        rank_all(source, 1, lambda number: METHODS, count=1)
        other = str(source.store.folder)
    folder = tmp_path / "made"
    made = runner.invoke(
        app, ["create", str(folder), *sets, "--cases", "9", "--seed", "4", "--json"]
    )
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout)
    assert result["labels"] == {"Cardiomegaly": 3, "Edema": 3, "No Finding": 3}
    assert [one["rater"] for one in result["links"]] == ["rater-1", "rater-2"]
    with pytest.raises(InputError, match="nothing has been ranked"):
        run("export", str(folder), "--out", str(tmp_path / "r.csv"))
    with pytest.raises(InputError, match=r"--out .*answers/rankings\.csv"):
        run("export", str(folder), "--out", f"{tmp_path / 'answers'}/")

    from cas_metric.study import Link, open_study

    tokens = [one["url"].split("/")[-2] for one in result["links"]]
    links = tuple(Link(f"rater-{k}", token) for k, token in enumerate(tokens, 1))
    opened = Study(open_study(folder), links, source.cases)
    rng = np.random.default_rng(0)
    for rater in (1, 2):
        rank_all(opened, rater, lambda number: list(rng.permutation(METHODS)), count=9)
    opened.store.close()

    exported = json.loads(run("export", str(folder), "--out", str(tmp_path / "r.csv"), "--json"))
    assert exported["rows"] == 2 * 9 * 3
    assert exported["agreement"]["n_shared"] == 9
    assert len(pd.read_csv(tmp_path / "r-details.csv")) == 54
    run("export", str(folder), "--out", str(tmp_path / "r.csv"))  # its own
    own = (tmp_path / "r.csv").read_bytes()
    with pytest.raises(InputError, match=r"r\.csv is of another study"):
        run("export", other, "--out", str(tmp_path / "r.csv"))
    assert (tmp_path / "r.csv").read_bytes() == own
    scored = runner.invoke(preference, [str(tmp_path / "r.csv"), "--json", "--resamples", "100"])
    assert scored.exit_code == 0, scored.output
    table = json.loads(scored.stdout)
    assert set(table["scores"]) == set(METHODS)
    assert table["n_rankings"] == 18
    assert table["position_bias"] is not None
    assert table["agreement"]["alpha"]["estimate"] == exported["agreement"]["alpha"]["estimate"]

    status = run("status", str(folder))
    assert "9/9" in status
    assert "Krippendorff's alpha" in status
    assert run("links", str(folder)).splitlines() == ["rater-1: has a link", "rater-2: has a link"]
    fresh = run("links", str(folder), "--renew", "rater-1", "--url", "https://x.example/study/")
    assert fresh.startswith("rater-1: https://x.example/study/r/")


def run(*words: str) -> str:
    """Standard output of a verb; its CasError, if any, is raised."""
    done = runner.invoke(app, list(words))
    if isinstance(done.exception, CasError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_template_is_written_and_used(tmp_path: Path) -> None:
    from tests.support.studies import write_sets

    write_sets(tmp_path / "sets", cases=2)
    texts = tmp_path / "mine.yaml"
    run("template", "--out", str(texts))
    texts.write_text(texts.read_text().replace("Image ranking study", "Röntgenstudie"))
    sets = [f"{m}={tmp_path / 'sets' / m}" for m in METHODS]
    run("create", str(tmp_path / "s"), *sets, "--template", str(texts), "--rater", "Dr. A")
    assert "Röntgenstudie" in (tmp_path / "s" / "study.yaml").read_text()
    with pytest.raises(InputError, match="exists"):
        run("template", "--out", str(texts))


@pytest.mark.parametrize(
    ("host", "private"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("h", False)],
)
def test_serving_elsewhere_than_on_loopback_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, private: bool
) -> None:
    monkeypatch.setattr("cas_metric.study.serving.run", lambda *_, **__: None)
    done = runner.invoke(app, ["serve", str(tmp_path), "--host", host])
    assert ("warning" in done.stderr) == (not private)
