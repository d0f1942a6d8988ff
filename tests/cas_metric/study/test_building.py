"""What a new study holds, and what it does not."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.studies import METHODS, opened_study, read_cases, write_sets
from typer.testing import CliRunner

from cas_metric.cli.study import app
from cas_metric.errors import InputError, PreflightError
from cas_metric.study import create_study, open_study
from cas_metric.study.building import add_raters, renew_link, revoke_link
from cas_metric.study.results import state
from cas_metric.study.wording import DEFAULT, parse_wording
from cas_metric.verbs.study import links


def chunks(png: bytes) -> list[bytes]:
    """Types of the chunks of a PNG, by its specification."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += 12 + length
    return found


def test_copies_have_the_pixels_and_nothing_else(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=3) as study:
        rows = study.store.database.connection().execute("SELECT * FROM candidates").fetchall()
        assert len(rows) == 9
        for row in rows:
            copy = study.store.folder / "images" / row["image"]
            assert set(chunks(copy.read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}
            with Image.open(copy) as ours, Image.open(row["source"]) as theirs:
                assert np.array_equal(np.asarray(ours), np.asarray(theirs))
                assert "Software" in theirs.text  # so that there was something to lose
            assert not any(m in row["image"] for m in METHODS)
        names = {path.name for path in (study.store.folder / "images").iterdir()}
        assert names == study.store.images()


def test_scaled_copies_are_alike_in_size(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=2, side=64) as study:
        for name in study.store.images():
            with Image.open(study.store.folder / "images" / name) as image:
                assert image.size == (64, 64)


def test_what_may_give_a_method_away_is_said(tmp_path: Path) -> None:
    write_sets(tmp_path, cases=2)
    image = next((tmp_path / METHODS[0]).glob("*000.png"))
    Image.new("RGB", (99, 50)).save(image)
    twin = (tmp_path / METHODS[1] / f"{METHODS[1]}-sample-001.png").read_bytes()
    (tmp_path / METHODS[2] / f"{METHODS[2]}-sample-001.png").write_bytes(twin)
    made = create_study(tmp_path / "study", read_cases(tmp_path), ["r"])
    assert [note.split(" ", 3)[3] for note in made.notes] == [
        "the images differ in size, which may give a method away; --side PIXELS scales all of "
        "them alike",
        "two images are identical, so that their order is chance",
    ]


def test_orders_are_seeded_complete_and_differ_between_raters(tmp_path: Path) -> None:
    query = "SELECT rater_id, case_id, place, candidate_id FROM places ORDER BY 1, 2, 3"
    order = "SELECT rater_id, case_id FROM assignments ORDER BY rater_id, number"
    seen = []
    for seed in (1, 1, 2):
        with opened_study(tmp_path / str(len(seen)), cases=6, seed=seed) as study:
            db = study.store.database.connection()
            places = [tuple(row) for row in db.execute(query)]
            assigned = [tuple(row) for row in db.execute(order)]
            seen.append((places, assigned))
    assert seen[0] == seen[1] != seen[2]
    places, assigned = seen[0]
    by_rater = [[case for rater, case in assigned if rater == k] for k in (1, 2)]
    assert by_rater[0] != by_rater[1]
    assert sorted(by_rater[0]) == sorted(by_rater[1]) == list(range(1, 7))
    shown = Counter((rater, candidate) for rater, _, _, candidate in places)
    assert len(shown) == 2 * 18
    assert set(shown.values()) == {1}


def test_every_place_holds_every_method_about_equally_often(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=4, raters=150) as study:
        rows = study.store.database.connection().execute(
            "SELECT place, method, count(*) FROM places JOIN candidates ON id = candidate_id"
            " GROUP BY 1, 2"
        )
        counts = [row[2] for row in rows]
    # 600 orders: 200 expected, standard deviation 11.5.
    assert len(counts) == 9
    assert all(140 < count < 260 for count in counts)


def test_only_hashes_of_links_are_stored(tmp_path: Path) -> None:
    with opened_study(tmp_path, raters=3) as study:
        tokens = [link.token for link in study.links]
        study.store.close()
        content = b"".join(p.read_bytes() for p in study.store.folder.glob("study.*"))
        assert len(set(tokens)) == 3
        for token in tokens:
            assert len(token) >= 43  # 256 bits in base64
            assert token.encode() not in content
            assert hashlib.sha256(token.encode()).hexdigest().encode() in content


def test_links_can_be_renewed_revoked_and_added(tmp_path: Path) -> None:
    with opened_study(tmp_path, raters=1) as study:
        store, old = study.store, study.links[0].token
        fresh = renew_link(store, "rater-1").token
        assert store.rater(old) is None
        assert store.rater(fresh).name == "rater-1"
        (third,) = add_raters(store, ["Dr. Ü"])
        assert store.progress(store.rater(third.token)).total == 4
        revoke_link(store, "Dr. Ü")
        assert store.rater(third.token) is None
        with pytest.raises(InputError, match="no rater 'nobody'"):
            renew_link(store, "nobody")
        with pytest.raises(InputError, match="already"):
            add_raters(store, ["rater-1"])
        with pytest.MonkeyPatch.context() as patch:  # who only lists waits for no writer
            patch.setattr(type(store.database), "writing", None)
            told = links(store.folder).summary["raters"]
        assert [one["link"] for one in told] == [True, False]


def test_a_study_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_sets(tmp_path / "sets", cases=2)
    cases = read_cases(tmp_path / "sets")
    broken = cases[1].candidates[0].path
    broken.write_bytes(broken.read_bytes()[:80])
    with pytest.raises(PreflightError) as caught:
        create_study(tmp_path / "new" / "study", cases, ["r"])
    assert len(caught.value.problems) == 1
    assert broken.name in caught.value.problems[0]
    assert list((tmp_path / "new").iterdir()) == []


def test_unusable_folders_and_names_are_refused(tmp_path: Path) -> None:
    with opened_study(tmp_path) as study:
        with pytest.raises(InputError, match="is not empty"):
            create_study(study.store.folder, study.cases, ["r"])
        for names in (["a", "a"], [""], ["two\nlines"], ["x" * 99]):
            with pytest.raises(InputError):
                create_study(tmp_path / "other", study.cases, names)
    with pytest.raises(InputError, match="holds no study"):
        open_study(tmp_path)
    (tmp_path / "study.sqlite3").write_bytes(b"no database at all" * 99)
    with pytest.raises(InputError, match="no study's database"):
        open_study(tmp_path)
    (tmp_path / "study.sqlite3").unlink()
    with sqlite3.connect(tmp_path / "study.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="has format 99"):
        open_study(tmp_path)


def test_the_default_text_is_the_instruction_of_appendix_d() -> None:
    wording = parse_wording(DEFAULT, "study.yaml")
    assert wording.instruction.startswith("For each case, you will see the target diagnosis and")
    assert wording.instruction.endswith("Do not attempt to identify the generation method.")
    assert "  " not in wording.instruction
    assert len(wording.criteria) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "title: a\ninstrction: b\n",
            "line 2: unknown key 'instrction'.*did you mean 'instruction'",
        ),
        ("title: a\n", "instruction: Field required"),
        ("- a\n", "does not hold"),
        ("title: a\ninstruction: !!python/object:os.x b\n", "tag"),
        ("title: a\ninstruction: b\ndigest: c\n", "unknown key 'digest'"),
    ],
)
def test_a_wrong_text_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"(?s)study.yaml.*" + message):
        parse_wording(text, "study.yaml")


def test_a_study_does_not_replace_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sets(tmp_path / "sets", cases=2)
    cases = read_cases(tmp_path / "sets")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="the folder that you are in"):
        create_study(Path(), cases, ["r"])
    assert list((tmp_path / "here").iterdir()) == []


def test_no_rater_is_admitted_when_another_name_is_wrong(tmp_path: Path) -> None:
    with opened_study(tmp_path, raters=1) as study:
        words = ["links", str(study.store.folder), "--add", "new", "--renew", "nobody"]
        with pytest.raises(InputError, match="no rater 'nobody'"):
            CliRunner().invoke(app, words, catch_exceptions=False)
        assert [one["rater"] for one in state(study.store)["raters"]] == ["rater-1"]
