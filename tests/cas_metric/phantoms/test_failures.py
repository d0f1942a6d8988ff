"""A planted failure is there, and nothing else is."""

import dataclasses

import numpy as np
import pytest

from cas_metric.phantoms import DOMAINS, generator, renderer
from cas_metric.phantoms.failures import FAILURES, faithful

EVERY_CLASS = [(domain, label) for domain in DOMAINS for label in renderer(domain).classes]
DRAWN = ("wrong_class", "missing_finding", "wrong_side", "exaggeration")
PIXELS = ("blur", "noise", "low_contrast")


def sample(domain, label, seed=4):
    artist = renderer(domain)
    return artist, artist.sample(label, generator(domain, label, seed))


def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_request_stays_and_severity_zero_changes_nothing(domain, name):
    label = renderer(domain).classes[1]
    artist, spec = sample(domain, label)
    failed = FAILURES[name](artist, spec, rng(), 1.0)
    assert (failed.label, failed.prompt) == (label, artist.describe(spec))
    assert failed.image.shape == (64, 64, 3)
    unharmed = FAILURES[name](artist, spec, rng(), 0.0)
    np.testing.assert_array_equal(unharmed.image, artist.render(spec))
    assert unharmed.spec == spec


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(("domain", "label"), EVERY_CLASS)
def test_drawn_failures_change_the_finding_and_nothing_else(domain, label, name):
    artist, spec = sample(domain, label)
    failed = FAILURES[name](artist, spec, rng(), 1.0)
    assert failed.spec.seed == spec.seed
    assert failed.spec.nuisance == spec.nuisance
    if name == "missing_finding" and label in ("No Finding", "Normal"):
        assert failed.spec == spec
        return
    assert failed.spec.finding != spec.finding
    assert np.abs(failed.image.astype(float) - artist.render(spec)).mean() > 0.2
    assert (failed.spec.label == label) == (name != "wrong_class")


@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("domain", DOMAINS)
def test_pixel_failures_leave_the_specification_and_grow_with_severity(domain, name):
    artist, spec = sample(domain, renderer(domain).classes[0])
    clean = artist.render(spec).astype(float)
    change = []
    for severity in (0.2, 0.6, 1.0):
        failed = FAILURES[name](artist, spec, rng(), severity)
        assert failed.spec == spec
        change.append(np.abs(failed.image - clean).mean())
    assert 0 < change[0] < change[1] < change[2]


@pytest.mark.parametrize("domain", DOMAINS)
def test_low_contrast_and_blur_keep_the_mean(domain):
    artist, spec = sample(domain, renderer(domain).classes[0])
    clean = artist.render(spec).astype(float)
    for name in ("low_contrast", "blur"):
        failed = FAILURES[name](artist, spec, rng(), 1.0).image.astype(float)
        assert abs(failed.mean() - clean.mean()) < 6
        assert failed.std() < clean.std()


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_faithful_image_shows_the_same_finding_in_another_picture(domain):
    artist, spec = sample(domain, renderer(domain).classes[-1])
    phantom = faithful(artist, spec, rng())
    assert phantom.spec.finding == spec.finding
    assert phantom.spec.nuisance != spec.nuisance
    assert {k: phantom.spec.nuisance[k] for k in artist.context} == {
        k: spec.nuisance[k] for k in artist.context
    }
    assert np.abs(phantom.image.astype(float) - artist.render(spec)).mean() > 3
    # What the prompt says still holds; only its phrasing hangs on the seed.
    assert artist.describe(dataclasses.replace(phantom.spec, seed=spec.seed)) == phantom.prompt
