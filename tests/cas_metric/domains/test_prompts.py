"""Prompt schemas: what Appendix B demands is demanded, and nothing can crash them."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas_metric.domains import PromptSchema, load_domain
from cas_metric.errors import InputError

GOOD = {
    "fitzpatrick17k": (
        "Melanoma",
        {"body_part": "back", "lesion_features": "irregular dark patch with notched border"},
        "Melanoma, irregular dark patch with notched border, on the back",
    ),
    "chexpert": (
        "No Finding",
        {
            "devices": "none",
            "key_findings": "clear lungs, sharp costophrenic angles",
            "visual_summary": "dark lung fields with a heart of ordinary width.",
        },
        "frontal chest x-ray, No Finding, clear lungs, sharp costophrenic angles, "
        "dark lung fields with a heart of ordinary width",
    ),
    "breakhis": (
        "Mucinous Carcinoma",
        {
            "tissue_context": "mucinous",
            "key_findings": ["mucin pools", "floating cell clusters"],
            "visual_summary": "pale lakes with small islands of dark cells",
        },
        "H&E breast histopathology at 100x, Mucinous Carcinoma, mucinous tissue, mucin pools, "
        "floating cell clusters, pale lakes with small islands of dark cells",
    ),
    "origa": (
        "Glaucoma",
        {
            "disc_appearance": "rim thinning",
            "key_findings": "enlarged cup, vessel nasalization",
            "visual_summary": "large pale cup close to the lower rim",
        },
        "retinal fundus photograph, Glaucoma, rim thinning, enlarged cup, vessel nasalization, "
        "large pale cup close to the lower rim",
    ),
}

LIMITS = {
    "fitzpatrick17k": ("lesion_features", 20),
    "chexpert": ("visual_summary", 16),
    "breakhis": ("visual_summary", 18),
    "origa": ("visual_summary", 18),
}


@functools.cache
def schema(name: str) -> PromptSchema:
    found = load_domain(name).prompt_schema
    assert found is not None
    return found


@pytest.mark.parametrize("name", GOOD)
def test_good_answer_renders(name):
    label, answer, prompt = GOOD[name]
    assert schema(name).validate(answer, label) == []
    assert schema(name).render(answer, label) == prompt


@pytest.mark.parametrize("name", LIMITS)
def test_word_limits_of_appendix_b(name):
    key, limit = LIMITS[name]
    label, answer, _ = GOOD[name]
    assert schema(name).validate({**answer, key: "word " * limit}, label) == []
    assert schema(name).validate({**answer, key: "word " * (limit + 1)}, label) == [
        f"{key}: {limit + 1} words, at most {limit} allowed"
    ]


@pytest.mark.parametrize("name", GOOD)
def test_missing_unknown_and_mistyped_keys(name):
    label, answer, _ = GOOD[name]
    for key in answer:
        rest = {other: value for other, value in answer.items() if other != key}
        assert schema(name).validate(rest, label) == [f"{key}: missing"]
        assert any(
            "must be text" in line for line in schema(name).validate({**answer, key: 3}, label)
        )
    assert schema(name).validate({**answer, "grade": "2"}, label) == ["grade: unknown key"]
    assert schema(name).validate(None, label) == ["the answer is NoneType, not an object with keys"]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("fitzpatrick17k", "body_part", "left shin region"),
        ("fitzpatrick17k", "skin_type", "olive"),
        ("chexpert", "key_findings", "clear lungs, tumour"),
        ("breakhis", "tissue_context", "muscular"),
        ("breakhis", "key_findings", "mucin pools, high grade"),
        ("origa", "disc_appearance", "pale disc"),
    ],
)
def test_closed_vocabularies(name, key, value):
    label, answer, _ = GOOD[name]
    assert any(
        "is not one of" in line for line in schema(name).validate({**answer, key: value}, label)
    )


@pytest.mark.parametrize(
    ("name", "key", "text", "term"),
    [
        ("fitzpatrick17k", "lesion_features", "erythematous patch", "erythematous"),
        ("breakhis", "visual_summary", "cells with high mitotic rate", "mitotic"),
        ("origa", "visual_summary", "cup that suggests raised intraocular pressure", "intraocular"),
        ("chexpert", "visual_summary", "left basal Opacities", "opacities"),
    ],
)
def test_forbidden_terms(name, key, text, term):
    label, answer, _ = GOOD[name]
    problems = schema(name).validate({**answer, key: text}, label)
    assert any(line.startswith("forbidden term") and term in line for line in problems)


def test_no_finding_never_names_pathology_while_its_neighbours_may():
    answer = {
        "devices": "none",
        "key_findings": "focal opacity",
        "visual_summary": "hazy left base",
    }
    assert schema("chexpert").validate(answer, "Pneumonia") == []
    problems = schema("chexpert").validate(answer, "No Finding")
    assert any(line.startswith("key_findings") for line in problems)
    assert any("'opacity'" in line for line in problems)
    assert any("'hazy'" in line for line in problems)


@pytest.mark.parametrize(
    "text", ["no effusion", "lungs without fluid", "absence of fluid", "heart is not wide"]
)
def test_negations_are_refused_in_radiographs(text):
    label, answer, _ = GOOD["chexpert"]
    problems = schema("chexpert").validate({**answer, "visual_summary": text}, label)
    assert any("negation" in line for line in problems)


def test_words_that_merely_contain_a_negation_are_fine():
    label, answer, _ = GOOD["chexpert"]
    summary = "notable normal nodal tissue"
    assert schema("chexpert").validate({**answer, "visual_summary": summary}, label) == []


def test_a_bad_answer_is_not_rendered():
    with pytest.raises(InputError, match="violates the prompt schema"):
        schema("origa").render({}, "Glaucoma")


def test_instructions_carry_every_rule():
    text = schema("chexpert").instructions("No Finding")
    for expected in ("No Finding", "at most 16 words", "opacity", "clear lungs", "never say"):
        assert expected in text
    assert "meniscus sign" not in text  # of another label


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(GOOD)),
    changes=st.dictionaries(
        st.sampled_from(
            ["body_part", "devices", "key_findings", "visual_summary", "lesion_features", "x"]
        ),
        VALUES,
    ),
)
def test_no_answer_crashes_and_accepted_ones_render(name, changes):
    label, answer, _ = GOOD[name]
    changed = {**answer, **changes}
    if schema(name).validate(changed, label):
        with pytest.raises(InputError):
            schema(name).render(changed, label)
    else:
        assert label in schema(name).render(changed, label)


@settings(deadline=None)
@given(answer=VALUES)
def test_any_json_value_is_judged(answer):
    assert schema("chexpert").validate(answer, "Pneumonia")


def test_nothing_to_list_is_left_out_however_it_is_spelt():
    label, answer, prompt = GOOD["chexpert"]
    assert schema("chexpert").render({**answer, "devices": "None"}, label) == prompt
    problems = schema("chexpert").validate({**answer, "devices": ["None", "tube"]}, label)
    assert any("stands beside other values" in line for line in problems)
