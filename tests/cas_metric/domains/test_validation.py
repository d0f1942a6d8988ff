"""A malformed pack gives an error with its line: never a traceback, never a wrong domain."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.fuzzing import FUZZ, garbled

from cas_metric.domains import Domain, load_domain, parse_domain
from cas_metric.errors import InputError

PACK = """\
name: textile
title: Woven fabric
modality: photograph of fabric
classes:
  - name: Intact
    synonyms: [ok, defect free]
    checklist:
      Texture: even weave
  - name: Hole
    checklist:
      Shape/Size: round gap with frayed rim
  - name: Oil Stain
    checklist:
      Color: dark brown blot
"""


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_domain(text, "textile.yaml")
    return str(caught.value)


def replaced(old: str, new: str) -> str:
    assert old in PACK
    return PACK.replace(old, new, 1)


def test_the_example_is_valid():
    domain = parse_domain(PACK)
    assert domain.class_names == ("Intact", "Hole", "Oil Stain")
    assert domain.checklist_text("oil-stain") == "Oil Stain. Color: dark brown blot"
    assert domain.canonical("DEFECT_FREE") == "Intact"


RANKING = """\
ranking:
  role: expert in textiles
  criteria:
    Accuracy: the defect is the one named
    null: a key of the user's own is never dropped
"""


def test_ranking_criteria_keep_their_order_and_their_keys():
    ranking = parse_domain(PACK + RANKING).ranking
    assert ranking.role == "expert in textiles"
    assert list(ranking.criteria) == ["Accuracy", "null"]
    assert parse_domain(PACK).ranking is None
    assert "ranking.role is missing" in refused(PACK + "ranking:\n  criteria: {A: b}\n")
    assert "ranking.criteria" in refused(PACK + "ranking:\n  role: a\n  criteria: {}\n")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (replaced("title:", "titel:"), 2, "did you mean 'title'?"),
        (replaced("synonyms:", "synonym:"), 6, "did you mean 'synonyms'?"),
        (replaced("title: Woven fabric\n", "title: a\ntitle: b\n"), 3, "already given in line 2"),
        (replaced("name: Hole", "name: Intact"), 4, "'Intact' is listed twice"),
        (replaced("name: Hole", "name: ok"), 4, "stands for both 'Intact' and 'ok'"),
        (replaced("Color: dark brown blot", "Color: […"), 15, "not valid YAML"),
        (replaced("name: textile", "name: Textile Pack"), 1, "lower-case letters"),
        (replaced("Texture: even weave", "Texture: '  '"), 8, "is empty"),
        (replaced("Texture: even weave", "Texture: [a, b]"), 8, "must be text"),
        (replaced("Texture: even weave", "Texture:"), 8, "Texture is empty"),
        (replaced("Texture: even weave", "checklist:"), 8, "checklist is empty"),
        (replaced("[ok, defect free]", "[ok, ~]"), 6, "is empty"),
        (
            replaced("    checklist:\n      Color: dark brown blot", "    checklist: dark"),
            13,
            "keys",
        ),
        (replaced("title: Woven fabric", "title: !!python/name:os.system"), 2, "tag"),
        (replaced("title: Woven fabric", "title: …"), 2, "fill it in"),
        (PACK + "checklist_template: '{attribute}'\n", 15, "{condition} and {attributes}"),
        (PACK + "embedded: perhaps\n", 15, "embedded"),
        (PACK + "prompt_schema: {fields: [], template: [a]}\n", 15, "at least 1"),
    ],
)
def test_each_problem_names_its_line(text, line, told):
    message = refused(text)
    assert f"line {line}:" in message
    assert told in message


def test_all_problems_are_told_at_once():
    message = refused("name: textile\nclases: []\nlicence: MIT\n")
    assert "did you mean 'classes'" in message
    assert "did you mean 'license'" in message
    assert "modality is missing" in message


def test_words_that_yaml_takes_for_something_else_stay_text():
    text = PACK.replace("name: Intact", "name: No").replace("[ok, defect free]", "[off, 1.0]")
    domain = parse_domain(text)
    assert domain.classes[0].name == "No"
    assert domain.classes[0].synonyms == ("off", "1.0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "~",
        "- a\n- b",
        "just text",
        "[" * 3000,
        "a: &x [*x]",
        "a: 1\n---\nb: 2",
        "? [a]\n: b",
        "\0",
    ],
)
def test_what_is_no_pack_at_all(text):
    refused(text)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \xe9", b"a" * 1_100_000])
def test_files_that_are_no_text(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        load_domain(path)


def test_a_folder_and_a_missing_file(tmp_path):
    for spec in (tmp_path, tmp_path / "none.yaml", str(tmp_path / "none.yaml")):
        with pytest.raises(InputError, match="does not exist"):
            load_domain(spec)


def test_packs_of_the_user_directory_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CAS_DOMAINS", str(tmp_path))
    (tmp_path / "textile.yaml").write_text(PACK, encoding="utf-8")
    assert load_domain("textile").title == "Woven fabric"
    with pytest.raises(InputError, match="did you mean 'textile'"):
        load_domain("textiles")


def test_a_user_pack_cannot_stand_in_for_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CAS_DOMAINS", str(tmp_path))
    (tmp_path / "origa.yaml").write_text(PACK.replace("textile", "origa"), encoding="utf-8")
    with pytest.raises(InputError, match="two packs are called 'origa'"):
        load_domain("origa")


def test_file_name_and_name_must_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("CAS_DOMAINS", str(tmp_path))
    (tmp_path / "fabric.yaml").write_text(PACK, encoding="utf-8")
    with pytest.raises(InputError, match="calls itself 'textile'"):
        load_domain("fabric")


# -- generated packs ----------------------------------------------------------------------------


def agrees_with_yaml(domain: Domain, text: str) -> bool:
    """Whether a domain holds what PyYAML, left to itself, reads from the same text."""
    raw = yaml.load(text, Loader=yaml.BaseLoader)  # constructs text, lists and mappings only
    names = [item["name"].strip() for item in raw["classes"]]
    checklists = [item.get("checklist") or {} for item in raw["classes"]]
    return (
        list(domain.class_names) == names
        and len({" ".join(re.split(r"[-_\s]+", name.lower())) for name in names}) == len(names) >= 2
        and [dict(item.checklist) for item in domain.classes]
        == [{k.strip(): v.strip() for k, v in c.items()} for c in checklists]
        and all(len(text) for item in domain.classes for text in item.checklist.values())
    )


@settings(max_examples=FUZZ, deadline=None)
@given(text=garbled(PACK))
def test_garbled_packs(text):
    try:
        domain = parse_domain(text)
    except InputError:
        return
    assert agrees_with_yaml(domain, text)


@settings(max_examples=FUZZ, deadline=None)
@given(text=st.text(max_size=200))
def test_arbitrary_text(text):
    with pytest.raises(InputError):
        parse_domain(text)


LABELS = st.text("aAbB -_", min_size=1, max_size=3)


@settings(max_examples=FUZZ, deadline=None)
@given(
    classes=st.lists(
        st.fixed_dictionaries({"name": LABELS, "synonyms": st.lists(LABELS, max_size=2)}),
        max_size=4,
    )
)
def test_no_two_classes_share_a_spelling(classes):
    """Accepted exactly when an independent count finds every spelling to have one owner."""
    text = yaml.safe_dump({"name": "x", "title": "t", "modality": "m", "classes": classes})
    owners: dict[str, set[int]] = {}
    for i, item in enumerate(classes):
        for spelling in (item["name"], *item["synonyms"]):
            owners.setdefault(re.sub(r"[-_\s]+", " ", spelling).strip().lower(), set()).add(i)
    good = len(classes) >= 2 and "" not in owners and all(len(o) == 1 for o in owners.values())
    try:
        domain = parse_domain(text)
    except InputError:
        assert not good
    else:
        assert good
        for i, item in enumerate(classes):
            assert {domain.index(s) for s in (item["name"], *item["synonyms"])} == {i}


def test_symmetries_are_read_and_none_holds_by_default():
    assert parse_domain(PACK).symmetries == ()
    assert parse_domain(PACK + "symmetries: [mirror, invert]\n").symmetries == ("mirror", "invert")
    assert load_domain("breakhis").symmetries == ("mirror", "rotate90")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "symmetries: [mirror, flip]",
            r"line 15: symmetries.2: .*'mirror', 'rotate90' or 'invert'",
        ),
        ("symmetries: mirror", "line 15: symmetries must be a list"),
        ("symmetries: [mirror, mirror]", "line 15: symmetries: names one of them twice"),
    ],
)
def test_a_wrong_symmetry_is_refused_with_its_line(line, said):
    assert re.search(said, refused(f"{PACK}{line}\n"))
