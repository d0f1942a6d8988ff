"""Pairs by key, whatever the order; and the list of everything that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import Manifest, pair, preflight, read_manifest
from cas_metric.manifest.pairing import differing_in_a_point
from cas_metric.manifest.reading import manifest_of
from cas_metric.tables import table_of


def manifest(root: Path = Path("/data"), **columns) -> Manifest:
    """A manifest; ``image`` defaults to the id."""
    columns.setdefault("image", [f"{key}.png" for key in columns["id"]])
    return manifest_of(table_of(columns, "table"), root)


REAL = manifest(id=["a", "b", "c"], label=["x", "y", "x"], patient=["p1", "p2", "p3"])


def test_by_id_in_another_order():
    joined = pair(manifest(id=["c", "a"]), REAL)
    assert joined["reference_id"].tolist() == ["c", "a"]
    assert joined["reference_image"].tolist() == ["c.png", "a.png"]
    assert joined["reference_row"].tolist() == [2, 0]
    assert joined["reference_label"].tolist() == ["x", "x"]
    assert joined["reference_patient"].tolist() == ["p3", "p1"]


def test_reference_wins_over_id_and_may_name_id_or_image():
    joined = pair(manifest(id=["a", "b", "c"], reference=["b", "c.png", ""]), REAL)
    assert joined["reference_id"].tolist() == ["b", "c", "c"]


def test_a_reference_may_be_spelt_as_the_real_table_spells_its_file(tmp_path):
    """``IMG_1.PNG`` in both tables, ``img_1.png`` on the disk, as Windows hands them over."""
    for name in ("img_1.png", "img_2.png"):
        (tmp_path / name).touch()
    real = manifest(tmp_path, id=["p", "q"], image=["IMG_1.PNG", "IMG_2.PNG"])
    assert real.rows["image"].tolist() == ["img_1.png", "img_2.png"]
    drawn = manifest(id=["a", "b", "c"], reference=["IMG_2.PNG", "img_1.png", "./IMG_1.PNG"])
    assert pair(drawn, real)["reference_row"].tolist() == [1, 0, 0]


def test_ids_are_the_same_however_a_path_is_written(tmp_path):
    folders = {"m1": ["./images/1.png", "images//2.png"], "m2": ["images\\1.png", "images\\2.png"]}
    for name, images in folders.items():
        (tmp_path / "all" / name / "images").mkdir(parents=True)
        for number in (1, 2):
            (tmp_path / "all" / name / "images" / f"{number}.png").touch()
        table = pd.DataFrame({"file_name": images, "label": ["x", "y"]})
        table.to_csv(tmp_path / "all" / name / "metadata.csv", index=False)
    own = [read_manifest(tmp_path / "all" / name) for name in folders]
    for one in (*own, read_manifest(tmp_path / "all").take([0, 1])):
        assert one.rows["id"].tolist() == ["images/1", "images/2"]
        assert pair(one, own[1])["reference_row"].tolist() == [0, 1]
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "a\\b.png").touch()  # a name, not a path
    assert manifest(odd, id=[""], image=["a\\b.png"]).rows["id"].tolist() == ["a\\b"]


def test_keys_that_differ_in_a_point_alone_are_told():
    assert differing_in_a_point("patient", ["1234.0", "5"], ["1234", "5", ""])
    assert not differing_in_a_point("patient", ["1.50", "v2.0"], ["1.5", "1", "v2"])


def test_methods_and_seeds_share_a_partner():
    generated = manifest(
        id=["a", "a", "a"], method=["m", "n", "m"], seed=["1", "1", "2"], image=["1", "2", "3"]
    )
    assert pair(generated, REAL)["reference_id"].tolist() == ["a"] * 3
    with pytest.raises(PreflightError, match="2 rows with id 'a', method 'm', seed 1"):
        pair(manifest(id=["a"] * 2, method=["m"] * 2, seed=["1"] * 2, image=["1", "2"]), REAL)


def test_everything_that_does_not_fit_is_listed():
    generated = manifest(
        id=["a", "z", "b", "b", "q"],
        reference=["", "", "", "", "nowhere"],
        image=["1", "2", "3", "4", "5"],
    )
    real = manifest(id=["a", "b", "a"], image=["a.png", "b.png", "a2.png"])
    with pytest.raises(PreflightError) as caught:
        pair(generated, real)
    assert caught.value.problems == (
        "generated: 2 rows with id 'b'",
        "real: 2 rows with id 'a'",
        "generated 'a': 2 real images with id 'a' ('a.png', 'a2.png')",
        "generated 'z': no real image with id 'z'",
        "generated 'q': no real image with reference 'nowhere'",
    )


def test_an_id_that_is_the_image_of_another_row_is_ambiguous():
    real = manifest(id=["one", "two"], image=["two", "b.png"])
    with pytest.raises(PreflightError, match="2 real images with reference 'two'"):
        pair(manifest(id=["g"], reference=["two"]), real)


def test_when_no_key_fits_both_forms_are_shown():
    with pytest.raises(PreflightError, match=r"look like 'gen/a', the real ids like 'a'"):
        pair(manifest(id=["gen/a", "gen/b"]), REAL)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_shuffling_never_changes_the_pairs(data):
    keys = data.draw(st.lists(st.text("abc01", min_size=1), min_size=1, unique=True))
    first, second = data.draw(st.permutations(keys)), data.draw(st.permutations(keys))
    joined = pair(manifest(id=first), manifest(id=second))
    assert joined["id"].tolist() == first
    assert joined["reference_id"].tolist() == first
    assert [second[row] for row in joined["reference_row"]] == first


# -- preflight ------------------------------------------------------------------------------------


class StubDomain:
    """Two classes, one without a checklist; stands for a domain pack."""

    name = "stub"
    class_names = ("Melanoma", "Nevus")

    def canonical(self, label: str) -> str:
        for name in self.class_names:
            if name.lower() == label.lower():
                return name
        raise InputError(f"label {label!r} is no class")

    def checklist_text(self, label: str) -> str:
        return {"Melanoma": "Melanoma. Colour: varied"}.get(label, "")


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / name)


def test_a_sound_pair_has_no_problems(tmp_path):
    pictures(tmp_path / "g", "a.png", "b.png")
    pictures(tmp_path / "r", "a.png", "b.png")
    generated = manifest(tmp_path / "g", id=["a", "b"], label=["melanoma", "Melanoma"])
    real = manifest(tmp_path / "r", id=["b", "a"], label=["Melanoma", "MELANOMA"])
    assert preflight(generated, real, StubDomain()) == []
    assert preflight(generated, generated, None) == []


def test_a_class_may_be_called_none_where_a_domain_has_it(tmp_path):
    class WithNone(StubDomain):
        class_names = ("Melanoma", "None")

        def checklist_text(self, name):
            return "a checklist"

    pictures(tmp_path, "a.png", "b.png")
    images = manifest(tmp_path, id=["a", "b"], label=["None", "Melanoma"])
    assert preflight(images, images, WithNone()) == []
    (first, *_) = preflight(images, images, None)
    assert "label is 'None', a missing value in disguise; a class of that name needs" in first


def test_every_problem_is_listed(tmp_path):
    pictures(tmp_path / "g", "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "g" / "broken.png").write_text("not an image")  # scored as failed, no problem here
    pictures(tmp_path / "r", "a.png", "b.png", "c.png")
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"x")
    (tmp_path / "g" / "link.png").symlink_to(outside)
    generated = manifest(
        tmp_path / "g",
        id=["a", "b", "c", "d", "e", "broken", "link"],
        label=["Melanoma", "Nevus", "Melanom", "", "Melanoma", "Melanoma", "Melanoma"],
        prompt=["", "nan", "", "", "", "", ""],
        reference=["", "", "", "a", "a", "a", "a"],
    )
    real = manifest(tmp_path / "r", id=["a", "b", "c"], label=["Melanoma", "Melanoma", "Melanoma"])
    problems = preflight(generated, real, StubDomain())
    expected = [
        f"generated 'e': no such file: {tmp_path / 'g' / 'e.png'}",
        "generated 'link': 'link.png' is a link that leads out",
        "generated 'b': prompt is 'nan', a missing value in disguise",
        "generated: no label (1 images, first 'd')",
        "generated: unknown label 'Melanom' in domain stub (1 images, first 'c'); did you mean "
        "'Melanoma'?",
        "generated: label 'Nevus' has no checklist in domain stub (1 images, first 'b')",
        "generated 'b': label 'Nevus', but its reference is 'Melanoma'",
        "generated 'c': label 'Melanom', but its reference is 'Melanoma'",
    ]
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(start), problem


def test_a_domain_without_any_checklist_is_no_problem(tmp_path):
    """CCS is then not to be had, which scoring says; nothing is wrong with the labels."""
    pictures(tmp_path, "a.png")
    both = manifest(tmp_path, id=["a"], label=["Nevus"])
    bare = StubDomain()
    bare.checklist_text = lambda label: ""  # type: ignore[method-assign]  # a stub
    assert preflight(both, both, bare) == []


def test_a_missing_reader_is_found_once(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(b"x")
    both = manifest(tmp_path, id=["a", "b"], image=["a.dcm", "b.dcm"])
    assert len(preflight(both, both, None)) == 2  # one a side


def test_many_rows_are_joined_without_comparing_every_pair():
    keys = [f"{i:06d}" for i in range(20_000)]
    joined = pair(manifest(id=keys), manifest(id=keys[::-1]))
    assert joined["reference_row"].tolist() == list(range(19_999, -1, -1))
    assert isinstance(joined, pd.DataFrame)
