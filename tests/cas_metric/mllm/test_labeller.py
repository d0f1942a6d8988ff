"""Reports read by rules: sentences as radiologists write them, with what they mean."""

from __future__ import annotations

import pytest

from cas_metric.domains import load_domain
from cas_metric.mllm.labeller import read_report, support

CHEST = load_domain("chexpert")
P, E, C, N = "Pneumonia", "Pleural Effusion", "Cardiomegaly", "No Finding"

#: Findings, and what they say of some classes.
SENTENCES = {
    "There is no pleural effusion or consolidation.": {E: "denied", P: "denied", N: "present"},
    "No consolidation, infiltrate, or effusion.": {E: "denied", P: "denied", N: "present"},
    "Patchy consolidation in the left base. No effusion.": {P: "present", E: "denied"},
    "The heart is enlarged without pleural effusion.": {C: "present", E: "denied"},
    "No effusion, but the cardiac silhouette is enlarged.": {C: "present", E: "denied"},
    "Without effusion, the heart is enlarged.": {C: "present", E: "denied"},
    "Possible small left pleural effusion.": {E: "uncertain", N: "denied"},
    "Opacity which may represent pneumonia.": {P: "uncertain"},
    "Pneumonia cannot be excluded.": {P: "uncertain", N: "denied"},
    "Pleural effusion is not seen.": {E: "denied", N: "present"},
    "Pneumonia has resolved.": {P: "denied"},
    "Effusions are absent; cardiomegaly.": {E: "denied", C: "present"},
    "Heart size is normal and the lungs are clear.": {C: "not mentioned", N: "present"},
    "Normal heart size. Focal opacities at the right base.": {P: "present", N: "denied"},
    "Blunting of the costophrenic angle.": {E: "present"},
    "Infiltrate versus atelectasis.": {P: "uncertain"},
    "Not only cardiomegaly.": {C: "present"},
    # A denial ends where another statement begins.
    "No pneumothorax and a large left pleural effusion.": {E: "present", N: "denied"},
    "Negative for pneumothorax, with moderate pleural effusion.": {E: "present", N: "denied"},
    "Heart size is normal, without edema, pleural effusion present.": {E: "present"},
    "No evidence of pneumonia, but a small left pleural effusion persists.": {
        P: "denied",
        E: "present",
    },
    "No focal consolidation, and the previously seen pleural effusion has increased.": {
        P: "denied",
        E: "present",
    },
    "Consolidation is no longer seen and cardiomegaly persists.": {P: "denied", C: "present"},
    # A list does not.
    "No pneumothorax or pleural effusion is present.": {E: "denied", N: "present"},
    "No consolidation, pleural effusion, or cardiomegaly seen.": dict.fromkeys((P, E, C), "denied"),
    "No focal consolidation, pleural effusion or pneumothorax is seen.": {P: "denied", E: "denied"},
    "Lungs are clear without edema, consolidation, or effusion.": {P: "denied", E: "denied"},
    "Neither consolidation nor pleural effusion is identified.": {P: "denied", E: "denied"},
    # What is denied is the change.
    "No change in the large pleural effusion.": {E: "present", N: "denied"},
    "There has been no significant interval change in the consolidation.": {P: "present"},
    "No interval increase in the pleural effusion.": {E: "present"},
    "Stable moderate cardiomegaly with no overt consolidation.": {C: "present", P: "denied"},
    # Other words for it.
    "Findings unlikely to represent pneumonia.": {P: "denied", N: "present"},
    "Pneumonia has been excluded.": {P: "denied", N: "present"},
    "Pneumonia has not been excluded.": {P: "uncertain"},
    "Consolidation is no longer seen.": {P: "denied", N: "present"},
    "The right pleural effusion has resolved.": {E: "denied"},
    "Pleural effusions have resolved.": {E: "denied"},
    "This is not a normal chest radiograph.": {N: "denied"},
    "No acute disease, normal chest radiograph.": {N: "present"},
    "Without effusion and normal chest otherwise.": {N: "present", E: "denied"},
}


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences(text: str) -> None:
    said = read_report(text, "", CHEST)
    assert {name: said[name] for name in SENTENCES[text]} == SENTENCES[text]


def test_an_impression_that_is_a_name() -> None:
    assert read_report("hazy lung", "No Finding.", CHEST)[N] == "present"
    assert read_report("", "pneumonia", CHEST) == {
        N: "denied",
        C: "not mentioned",
        P: "present",
        E: "not mentioned",
    }


def test_a_normal_class_that_is_denied_is_not_inferred() -> None:
    said = read_report("This is not a normal chest radiograph.", "Abnormal radiograph.", CHEST)
    assert said[N] == "denied"


def test_the_longest_of_overlapping_names_counts() -> None:
    fundus = load_domain("origa")
    said = read_report("Findings of a non-glaucoma eye.", "", fundus)
    assert said == {"Normal": "present", "Glaucoma": "not mentioned"}
    assert read_report("No glaucoma.", "", fundus)["Normal"] == "present"
    assert read_report("Normal vessels, glaucomatous disc.", "", fundus)["Normal"] == "denied"


def test_a_domain_without_a_normal_class_infers_nothing() -> None:
    skin = load_domain("fitzpatrick17k")
    assert set(read_report("clear skin", "", skin).values()) == {"not mentioned"}
    assert read_report("", "plaque psoriasis", skin)["Psoriasis"] == "present"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({P: "present", E: "denied"}, 1.0),
        ({P: "uncertain", E: "denied"}, 0.5),
        ({P: "present", E: "uncertain"}, 1 / 1.5),
        ({P: "denied", E: "present"}, 0.0),
        ({P: "not mentioned", E: "not mentioned"}, 0.0),
    ],
)
def test_support(said, expected) -> None:
    assert support(said, P) == pytest.approx(expected)
