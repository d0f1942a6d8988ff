"""Cases joined by key, drawn by label."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.studies import LABELS, METHODS, read_cases, write_sets

from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import Manifest, read_manifest
from cas_metric.study import Case, collect_cases, draw_cases
from cas_metric.study.cases import allocate


def table(folder: Path, rows: list[dict[str, str]]) -> Manifest:
    """A manifest of files that need not exist."""
    folder.mkdir(parents=True)
    with (folder / "m.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return read_manifest(folder / "m.csv")


def test_images_are_joined_by_reference_whatever_the_order_of_rows(tmp_path: Path) -> None:
    keys = ["p1", "p2", "p3"]
    first = table(
        tmp_path / "a", [{"image": f"a{k}.png", "reference": k, "label": "x"} for k in keys]
    )
    second = table(
        tmp_path / "b", [{"image": f"b{k}.png", "reference": k, "label": "x"} for k in keys[::-1]]
    )
    cases, notes = collect_cases([("one", first), ("two", second)])
    assert [case.key for case in cases] == keys
    for case in cases:
        assert [c.path.name for c in case.candidates] == [f"a{case.key}.png", f"b{case.key}.png"]
    assert notes == []


def test_a_case_that_a_method_lacks_is_left_out_and_counted(tmp_path: Path) -> None:
    first = table(tmp_path / "a", [{"image": f"{k}.png", "id": k, "label": "x"} for k in "123"])
    second = table(tmp_path / "b", [{"image": f"{k}.png", "id": k, "label": "x"} for k in "23"])
    cases, notes = collect_cases([("one", first), ("two", second)])
    assert [case.key for case in cases] == ["2", "3"]
    assert notes == ["1 cases are left out because some method has no image of them"]


def test_labels_that_differ_in_case_are_one(tmp_path: Path) -> None:
    first = table(tmp_path / "a", [{"image": f"{k}.png", "id": k, "label": "Edema"} for k in "123"])
    second = table(tmp_path / "b", [{"image": f"{k}.png", "id": k, "label": "edema"} for k in "12"])
    cases, notes = collect_cases([("one", first), ("two", second)])
    assert [case.label for case in cases] == ["Edema", "Edema"]
    assert "differ in case only" in notes[0]


def test_labels_come_from_the_real_partner_and_the_real_image_may_be_ranked(tmp_path: Path) -> None:
    real = table(tmp_path / "r", [{"image": "r1.png", "id": "r1", "label": "Edema"}])
    sets = [
        (name, table(tmp_path / name, [{"image": f"{name}.png", "reference": "r1"}]))
        for name in ("one", "two")
    ]
    cases, _ = collect_cases(sets, real, rank_real=True)
    assert [(case.key, case.label) for case in cases] == [("r1", "Edema")]
    assert [c.method for c in cases[0].candidates] == ["one", "two", "real"]
    with pytest.raises(InputError, match="--rank-real without real images"):
        collect_cases(sets, None, rank_real=True)


def test_one_manifest_may_name_several_methods(tmp_path: Path) -> None:
    rows = [{"image": f"{m}.png", "reference": "k", "label": "x", "method": m} for m in ("p", "q")]
    cases, _ = collect_cases([(None, table(tmp_path / "a", rows))])
    assert [c.method for c in cases[0].candidates] == ["p", "q"]


def test_a_set_is_called_what_the_caller_calls_it(tmp_path: Path) -> None:
    rows = [{"image": f"{m}.png", "reference": "k", "label": "x", "method": m} for m in ("p", "q")]
    both = table(tmp_path / "a", rows)
    one = table(tmp_path / "b", rows[:1])
    cases, _ = collect_cases([("q", both), ("mine", one)])
    assert [(c.method, c.path.name) for c in cases[0].candidates] == [
        ("q", "q.png"),
        ("mine", "p.png"),
    ]
    with pytest.raises(InputError, match="no generated image is of method 'other'"):
        collect_cases([("other", both), ("mine", one)])


def test_of_several_generation_seeds_one_is_drawn(tmp_path: Path) -> None:
    rows = [
        {"image": f"s{s}.png", "reference": "k", "label": "x", "seed": str(s)} for s in range(9)
    ]
    sets = [("one", table(tmp_path / "a", rows)), ("two", table(tmp_path / "b", rows[:1]))]
    drawn = {collect_cases(sets, seed=s)[0][0].candidates[0].path.name for s in range(8)}
    assert len(drawn) > 2
    again = [collect_cases(sets, seed=3)[0][0].candidates[0] for _ in range(2)]
    assert again[0] == again[1]


def test_contradicting_and_missing_labels_are_listed(tmp_path: Path) -> None:
    first = table(
        tmp_path / "a",
        [{"image": "1.png", "id": "1", "label": "x"}, {"image": "2.png", "id": "2", "label": ""}],
    )
    second = table(
        tmp_path / "b",
        [{"image": "1.png", "id": "1", "label": "y"}, {"image": "2.png", "id": "2", "label": ""}],
    )
    with pytest.raises(PreflightError) as caught:
        collect_cases([("one", first), ("two", second)])
    assert caught.value.problems == ("case '1': labels 'x', 'y'", "case '2': no label")


def test_unusable_sets_are_refused(tmp_path: Path) -> None:
    write_sets(tmp_path, cases=2, methods=("a", "b"))
    one = read_manifest(tmp_path / "a")
    with pytest.raises(InputError, match="1 methods to rank"):
        collect_cases([("a", one)])
    with pytest.raises(InputError, match="given twice"):
        collect_cases([("a", one), ("a", one)])
    other = table(tmp_path / "c", [{"image": "z.png", "reference": "elsewhere", "label": "x"}])
    with pytest.raises(InputError, match=r"no case has an image of every method.*'elsewhere'"):
        collect_cases([("a", one), ("c", other)])


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 200), min_size=1, max_size=8), st.data())
def test_quotas_are_within_one_of_proportion_and_never_more_than_there_are(
    available: dict[str, int], data: st.DataObject
) -> None:
    size = sum(available.values())
    total = data.draw(st.integers(0, size))
    quotas = allocate(available, total)
    assert sum(quotas.values()) == total
    for label, n in available.items():
        assert abs(quotas[label] - total * n / size) < 1
        assert quotas[label] <= n


def test_the_draw_is_stratified_and_seeded(tmp_path: Path) -> None:
    write_sets(tmp_path, cases=30, side=8)
    cases = read_cases(tmp_path)
    drawn = draw_cases(cases, 12, seed=1)
    assert Counter(case.label for case in drawn) == dict.fromkeys(LABELS, 4)
    assert drawn == draw_cases(cases[::-1], 12, seed=1)
    assert drawn != draw_cases(cases, 12, seed=2)
    assert len({case.key for case in drawn}) == 12
    assert [c.method for c in drawn[0].candidates] == list(METHODS)
    with pytest.raises(InputError, match="share only 30"):
        draw_cases(cases, 31, seed=1)


def test_balanced_takes_as_many_of_each_label_as_there_are() -> None:
    labels = ["a"] * 8 + ["b"] * 2 + ["c"] * 5
    cases = [Case(f"{i:02d}", label, ()) for i, label in enumerate(labels)]
    counts = Counter(case.label for case in draw_cases(cases, 11, seed=0, balanced=True))
    assert counts == {"a": 5, "b": 2, "c": 4}
