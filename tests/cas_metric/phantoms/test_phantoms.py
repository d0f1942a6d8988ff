"""What holds of every renderer."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.phantoms import DOMAINS, FindingSpec, generator, make_phantom, renderer

EVERY_CLASS = [(domain, label) for domain in DOMAINS for label in renderer(domain).classes]


@pytest.mark.parametrize("domain", DOMAINS)
def test_classes_equal_those_of_the_pack_and_of_the_clinical_domain(domain):
    classes = renderer(domain).classes
    pack = load_domain(domain)
    assert pack.embedded
    assert set(pack.class_names) == set(classes)
    assert set(load_domain(domain.removeprefix("phantom-")).class_names) == set(classes)


@pytest.mark.parametrize("domain", DOMAINS)
def test_checklists_are_short_and_differ(domain):
    pack = load_domain(domain)
    texts = [pack.checklist_text(label) for label in pack.class_names]
    assert len(set(texts)) == len(texts)
    for item in pack.classes:
        words = " ".join(item.checklist.values()).split()
        assert 5 <= len(words) <= 45


@settings(max_examples=60, deadline=None)
@given(case=st.sampled_from(EVERY_CLASS), seed=st.integers(0, 2**63 - 1))
def test_any_seed_gives_a_picture_a_prompt_and_a_truth(case, seed):
    domain, label = case
    phantom = make_phantom(domain, label, seed, size=32)
    assert phantom.image.shape == (32, 32, 3)
    assert phantom.image.dtype == np.uint8
    assert phantom.image.std() > 3
    assert phantom.label == phantom.spec.label == label
    assert label.lower() in phantom.prompt.lower()
    assert 5 <= len(phantom.prompt.split()) <= 40
    assert phantom.prompt.isprintable()


@pytest.mark.parametrize(("domain", "label"), EVERY_CLASS)
def test_a_specification_survives_json(domain, label):
    artist = renderer(domain)
    spec = artist.sample(label, generator(domain, label, 3))
    again = FindingSpec(**json.loads(json.dumps(dataclasses.asdict(spec))))
    assert again == spec
    np.testing.assert_array_equal(artist.render(again), artist.render(spec))
    assert artist.describe(again) == artist.describe(spec)


@pytest.mark.parametrize(("domain", "label"), EVERY_CLASS)
def test_the_scene_is_the_same_at_every_size(domain, label):
    correlations = []
    for seed in range(3):
        small = make_phantom(domain, label, seed, 64).image.astype(float)
        large = make_phantom(domain, label, seed, 128).image.astype(float)
        halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        correlations.append(np.corrcoef(small.ravel(), halved.ravel())[0, 1])
    assert np.median(correlations) > 0.9


def test_pixels_do_not_depend_on_the_process():
    code = (
        "import hashlib\nfrom cas_metric.phantoms import DOMAINS, make_phantom, renderer\n"
        "for d in DOMAINS:\n    l = renderer(d).classes[-1]\n"
        "    print(hashlib.sha256(make_phantom(d, l, 11).image.tobytes()).hexdigest())"
    )
    ran = subprocess.run(  # the test's own code
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [make_phantom(d, renderer(d).classes[-1], 11).image.tobytes() for d in DOMAINS]
    assert ran.stdout.split() == [hashlib.sha256(pixels).hexdigest() for pixels in here]


PINNED = 511248407


def test_random_numbers_are_fixed_for_all_machines():
    drawn = [int(generator("chexpert", "Pneumonia", 7).integers(2**31)) for _ in range(2)]
    assert drawn == [PINNED, PINNED]
    assert int(generator("chexpert", "Pneumonia", 8).integers(2**31)) != PINNED
    assert int(generator("chexpert", "Cardiomegaly", 7).integers(2**31)) != PINNED


@pytest.mark.parametrize(("domain", "label"), EVERY_CLASS)
def test_prompts_tell_instances_of_a_class_apart(domain, label):
    artist = renderer(domain)
    prompts = {
        artist.describe(artist.sample(label, generator(domain, label, seed))) for seed in range(40)
    }
    assert len(prompts) >= 20


def test_unknown_names_are_explained():
    with pytest.raises(InputError, match="chexpert"):
        renderer("chestxray")
    with pytest.raises(InputError, match="Cardiomegaly"):
        make_phantom("chexpert", "Fracture", 0)
