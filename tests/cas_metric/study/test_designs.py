"""Studies with ties, questions, practice, repetitions, pairs and single images; and older ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.studies import METHODS, Study, opened_study, read_cases, write_sets

from cas_metric.errors import InputError, PreflightError
from cas_metric.images import Window
from cas_metric.study import Design, create_study, open_study, with_window
from cas_metric.study.answers import Conflict
from cas_metric.study.backup import back_up
from cas_metric.study.orders import shortest_way, with_repeats
from cas_metric.study.pairs import choose_pair
from cas_metric.study.results import (
    details,
    rankings,
    ratings,
    reliability_of,
    revisions,
    state,
    turing_of,
)
from cas_metric.study.store import CANNOT_JUDGE, RANKED, Answer, Draft, Refused
from cas_metric.verbs.study_export import export


def rate(study: Study, ranks: Callable[[int, int], dict[int, int]], **more: object) -> None:
    """The first rater answers every case: ``ranks(number, size)`` by place."""
    rater = study.store.rater(study.links[0].token)
    for number in range(1, study.store.progress(rater).total + 1):
        size = len(study.store.open_case(rater, number).images)
        answer = Answer(f"submission-{number}", RANKED, ranks(number, size), **more)  # type: ignore[arg-type]
        study.store.submit(rater, number, answer)


def in_order(number: int, size: int) -> dict[int, int]:
    return {place: place for place in range(1, size + 1)}


def test_tied_images_share_the_rank_after_those_that_are_better(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=2, design=Design(ties=True)) as study:
        rate(study, lambda number, size: {1: 2, 2: 2, 3: 3} if number == 1 else {1: 3, 2: 1, 3: 3})
        table = details(study.store).query("rater == 'rater-1'")
        ranks = table.groupby("case_number")["rank"].apply(list).to_dict()
        assert ranks == {1: [1, 1, 3], 2: [2, 1, 2]}
        from cas_metric.statistics.preference import parse_rankings, preference_scores

        found = preference_scores(parse_rankings(rankings(table)), model="davidson")
        assert set(found.scores) == set(METHODS)


def test_practice_and_repetitions_do_not_count(tmp_path: Path) -> None:
    write_sets(tmp_path / "sets", cases=14)
    cases = read_cases(tmp_path / "sets")
    made = create_study(
        *(tmp_path / "study", cases[:12], ["rater-1"]),
        design=Design(repeats=4),
        practice=cases[12:],
    )
    study = Study(open_study(tmp_path / "study"), made.links, cases)
    rate(study, in_order)
    table = details(study.store)
    kinds = table.drop_duplicates("case_number").set_index("case_number")["kind"]
    assert list(kinds)[:2] == ["practice"] * 2
    assert kinds.value_counts().to_dict() == {"main": 12, "repeat": 4, "practice": 2}
    assert set(rankings(table)["case"]) == {case.key for case in cases[:12]}
    assert len(rankings(table)) == 12 * 3
    # No image has one name twice, so that a repetition cannot be known by its address.
    assert table["image"].is_unique
    again = table[table["kind"] == "repeat"].drop_duplicates("case_number")
    first = table[table["kind"] == "main"].drop_duplicates("case_number").set_index("case")
    assert (again["case_number"].to_numpy() > first["case_number"].loc[again["case"]] + 2).all()
    (whole,) = [one for one in reliability_of(study.store) if not one["rater"]]
    assert (whole["item"], whole["cases"], whole["pairs"]) == ("rank", 4, 12)
    study.store.close()


def test_repetitions_stand_in_the_second_half_far_from_their_originals() -> None:
    rng = np.random.default_rng(0)
    repeats = {case: 100 + case for case in range(5)}
    for _ in range(20):
        order = with_repeats(rng.permutation(30).tolist(), repeats, rng)
        assert sorted(order) == [*range(30), *range(100, 105)]
        assert shortest_way(order, repeats) >= 8
        assert min(order.index(again) for again in repeats.values()) >= 15


def test_a_real_or_synthetic_study_shows_single_images_and_tests_exactly(tmp_path: Path) -> None:
    write_sets(tmp_path / "sets", cases=5, methods=("real", "fake"))
    cases = read_cases(tmp_path / "sets", ("real", "fake"))
    design = Design(layout="single", points=3, items=("Realism",), ask_real=True)
    made = create_study(tmp_path / "study", cases, ["rater-1"], design=design)
    study = Study(open_study(tmp_path / "study"), made.links, cases)
    rater = study.store.rater(made.links[0].token)
    methods = {row["image"]: row["method"] for row in study.store.database.connection().execute(
        "SELECT image, method FROM candidates"
    )}  # fmt: skip
    for number in range(1, 11):
        (image,) = study.store.open_case(rater, number).images
        with pytest.raises(Refused, match="2 questions still"):
            study.store.submit(rater, number, Answer("incomplete", RANKED, {1: 1}))
        rated = {(1, "item1"): 2, (1, "real"): int(methods[image] == "real")}
        answer = Answer(f"submission-{number}", RANKED, {1: 1}, ratings=rated)
        study.store.submit(rater, number, answer)
        assert study.store.open_case(rater, number).ratings == rated
    assert len(ratings(study.store)) == 20
    assert rankings(details(study.store)).empty
    whole = turing_of(study.store)[-1]
    assert whole["accuracy"]["estimate"] == 1.0
    assert whole["p"] == pytest.approx(1 / 2**5)
    for rated in ({(1, "item1"): 4}, {(2, "item1"): 1}, {(1, "else"): 1}):
        draft = Draft({}, "", 0, revision=1, ratings=rated)
        with pytest.raises(Refused, match="does not exist"):
            study.store.save_draft(rater, 1, draft)
    with pytest.raises(InputError, match="by a rater who has finished"):
        export(study.store.folder, tmp_path / "r.csv", finished_only=True)
    assert state(study.store, finished_only=True)["turing"] == []
    assert reliability_of(study.store, finished_only=True) == []
    study.store.finish(rater)
    exported = export(study.store.folder, tmp_path / "r.csv", finished_only=True)
    assert [one["calls"] for one in exported.summary["turing"]] == [10, 10]
    assert Path(exported.summary["ratings"]).read_text().count("\n") == 1 + 20
    study.store.close()


def test_pairs_are_drawn_when_they_are_opened_and_repeat_themselves(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=8, design=Design(layout="pairs", repeats=3)) as study:
        rater = study.store.rater(study.links[0].token)
        with pytest.raises(Refused, match="not open yet"):
            study.store.submit(rater, 1, Answer("unopened-1", RANKED, {1: 1, 2: 2}))
        seen = study.store.open_case(rater, 1).images
        assert study.store.open_case(rater, 1).images == seen
        rate(study, in_order)
        table = details(study.store).query("rater == 'rater-1'")
        pairs = table.groupby("case_number")["method"].apply(frozenset)
        assert set(pairs.map(len)) == {2}
        of_case = table.groupby(["case", "kind"])["method"].apply(frozenset).unstack().dropna()
        assert len(of_case) == 3
        assert (of_case["main"] == of_case["repeat"]).all()
        counts = table[table["kind"] == "main"].groupby("method").size()
        assert counts.max() - counts.min() <= 3
        assert state(study.store)["methods"] == sorted(METHODS)


def test_the_next_pair_is_one_that_was_shown_least() -> None:
    rng = np.random.default_rng(1)
    shown, order = np.zeros((5, 5)), []
    for _ in range(40):
        left, right = choose_pair(shown, np.zeros((5, 5)), rng)
        shown[left, right] += 1
        shown[right, left] += 1
        order.append(left < right)
    assert set(shown[np.triu_indices(5, 1)]) == {4.0}
    assert 10 <= sum(order) <= 30  # who stands first is chance


def test_an_answer_from_another_window_is_not_overwritten(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=2) as study:
        rater, store = study.store.rater(study.links[0].token), study.store
        good = {1: 1, 2: 2, 3: 3}
        store.submit(rater, 1, Answer("window-one-1", RANKED, good, revision=0))
        with pytest.raises(Conflict) as caught:
            store.submit(rater, 1, Answer("window-two-1", CANNOT_JUDGE, {}, revision=0))
        assert caught.value.revision == 1
        assert store.open_case(rater, 1).ranks == good
        assert store.submit(rater, 1, Answer("window-two-1", CANNOT_JUDGE, {}, revision=1))
        with pytest.raises(Refused, match="belongs to another case"):
            store.submit(rater, 2, Answer("window-two-1", RANKED, good))
        every = revisions(store)
        assert list(every["revision"]) == [1] * 3 + [2] * 3
        assert list(every["counts"]) == [0] * 3 + [1] * 3


def test_a_draft_of_another_window_is_not_overwritten_unseen(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=1) as study:
        rater, store = study.store.rater(study.links[0].token), study.store
        first = Draft({1: 1}, "first", 0, revision=0, page="page-1")
        assert store.save_draft(rater, 1, first)
        assert store.save_draft(rater, 1, replace(first, note="more"))
        blind = Draft({1: 2}, "second", 0, revision=0, page="page-2")
        assert not store.save_draft(rater, 1, blind)
        assert store.open_case(rater, 1).note == "more"
        assert store.save_draft(rater, 1, replace(blind, seen="page-1"))
        assert not store.save_draft(rater, 1, first)
        assert store.open_case(rater, 1).note == "second"


def test_deep_images_without_a_window_are_refused_and_shown_with_one(tmp_path: Path) -> None:
    write_sets(tmp_path / "sets", cases=1)
    ramp = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)  # 12 bits in 16
    for path in (tmp_path / "sets").rglob("*.png"):
        Image.fromarray(ramp + len(path.parent.name)).save(path)
    cases = read_cases(tmp_path / "sets")
    with pytest.raises(PreflightError, match=r"more than 8 bits and states no window.*see 16 of"):
        create_study(tmp_path / "study", cases, ["r"])
    create_study(tmp_path / "study", with_window(cases, Window(0, 4095)), ["r"])
    for path in (tmp_path / "study" / "images").iterdir():
        with Image.open(path) as image:
            assert np.ptp(np.asarray(image)) > 250


def test_a_design_whose_parts_do_not_go_together_is_refused(tmp_path: Path) -> None:
    for wrong in (
        {"layout": "circle"},
        {"layout": "single"},
        {"points": 1, "items": ("a",)},
        {"points": 5},
    ):
        with pytest.raises(InputError):
            Design(**wrong)  # type: ignore[arg-type]
    write_sets(tmp_path / "sets", cases=3)
    cases = read_cases(tmp_path / "sets")
    with pytest.raises(InputError, match="repeat at most 1"):
        create_study(tmp_path / "study", cases, ["r"], design=Design(repeats=2))


def test_a_study_of_the_first_format_opens_with_all_it_holds(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=3) as study:
        folder = study.store.folder
        rate(study, in_order)
        new = details(study.store)
    tables = ("study", "raters", "candidates", "assignments", "places", "ranks", "answers")
    old = sqlite3.connect(folder / "old.sqlite3")
    old.executescript((Path(__file__).parent / "format_1.sql").read_text())
    old.execute("ATTACH ? AS new", (str(folder / "study.sqlite3"),))
    old.execute("INSERT INTO cases SELECT id, key, label FROM new.cases")
    for table in tables:
        kept = "WHERE key != 'design'" if table == "study" else ""
        old.execute(f"INSERT INTO {table} SELECT * FROM new.{table} {kept}")
    columns = "id, rater_id, case_id, submission, verdict, note, seconds, wording, submitted_at"
    old.execute(f"INSERT INTO submissions SELECT {columns} FROM new.submissions")
    old.commit()
    old.close()
    (folder / "old.sqlite3").replace(folder / "study.sqlite3")
    for leftover in folder.glob("study.sqlite3-*"):
        leftover.unlink()
    for _ in range(2):  # brought up to date once, and found so afterwards
        store = open_study(folder)
        assert details(store).equals(new)
        assert store.design == Design()
        store.close()
    store = open_study(folder)
    rater = store.rater(study.links[0].token)
    store.submit(rater, 1, Answer("afterwards-1", RANKED, {1: 3, 2: 2, 3: 1}, revision=1))
    with pytest.raises(sqlite3.IntegrityError), store.database.writing() as db:
        db.execute("UPDATE ranks SET rank = 1")
    store.close()


def test_a_backup_of_a_running_study_is_a_study(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=2) as study:
        rate(study, in_order)
        assert back_up(study.store.folder, tmp_path / "copy") == 2
        copy = open_study(tmp_path / "copy")
        assert details(copy).equals(details(study.store))
        assert copy.rater(study.links[0].token).name == "rater-1"
        assert {p.name for p in (tmp_path / "copy" / "images").iterdir()} == copy.images()
        copy.close()
        with pytest.raises(InputError, match="exists"):
            back_up(study.store.folder, tmp_path / "copy")
