"""Contrasts of attributes, ranked among real images, on embeddings made by hand."""

import numpy as np
import pytest
from tests.support.runs import score_rows

from cas_metric.domains import Domain, DomainClass
from cas_metric.explanation.attributes import (
    attribute_texts,
    attributes_of,
    beyond_the_others,
    deviations,
    item,
    order,
    ranks,
)
from cas_metric.explanation.why import explain_attributes, explain_primitives

DOMAIN = Domain(
    name="toy",
    title="Toy",
    modality="toy",
    classes=(
        DomainClass(name="a", checklist={"Color": "red", "Shape": "round", "Place": "skin"}),
        DomainClass(name="b", checklist={"Color": "blue", "Shape": "square", "Place": "skin"}),
        DomainClass(name="c", checklist={"Color": "green"}),
    ),
)


@pytest.fixture
def vectors():
    texts = attribute_texts(DOMAIN)
    return dict(zip(texts, np.eye(len(texts), dtype=np.float32), strict=True))


def test_an_attribute_is_contrasted_with_those_of_the_classes_that_have_it(vectors):
    found = attributes_of(DOMAIN, "a", vectors)
    assert found.names == ("Color", "Shape")  # Place is the same everywhere it is named
    colour = vectors[item("Color", "red")] - 0.5 * (
        vectors[item("Color", "blue")] + vectors[item("Color", "green")]
    )
    assert found.directions[0] == pytest.approx(colour)
    assert found.directions[1] == pytest.approx(
        vectors[item("Shape", "round")] - vectors[item("Shape", "square")]
    )
    assert found.contrasts([vectors[item("Shape", "square")]])[0] == pytest.approx([0, -1])


def test_what_was_taken_out_is_named_first(vectors):
    rng = np.random.default_rng(0)
    whole = vectors[item("Color", "red")] + vectors[item("Shape", "round")]
    real = whole + rng.normal(0, 0.1, (40, len(vectors)))
    # The colour hardly varies among real images, so the smaller loss of it is the larger one.
    real[:, list(vectors).index(item("Shape", "round"))] += rng.normal(0, 0.5, 40)
    image = whole - 0.6 * vectors[item("Color", "red")] - 0.8 * vectors[item("Shape", "round")]
    rows = score_rows("m", n=2).assign(label="a")
    both = np.stack([image, np.full_like(image, np.nan)])
    found = explain_attributes(rows, both, np.array(["a"] * 40), real, DOMAIN, vectors)
    assert list(found["attribute"]) == ["Color", "Shape"]  # none of the unreadable image
    assert list(found["place"]) == [1, 2]
    assert found["rank"].iloc[0] == pytest.approx(1 / 41)


def test_deviations_and_ranks_against_numpy():
    rng = np.random.default_rng(1)
    real, own = rng.normal(size=(30, 2)), rng.normal(size=(4, 2))
    z = (own - real.mean(axis=0)) / real.std(axis=0, ddof=1)
    assert deviations(own, real) == pytest.approx(z)
    expected = [[((real[:, k] <= v[k]).sum() + 1) / 31 for k in (0, 1)] for v in own]
    assert ranks(own, real) == pytest.approx(np.array(expected))


def test_what_goes_with_the_others_is_not_lacking_by_itself():
    rng = np.random.default_rng(2)
    common = rng.normal(size=(400, 1))
    real = deviations(x := common + 0.5 * rng.normal(size=(400, 3)), x)
    # All fall, the second by less; but it falls by more than the others, which hardly move, say.
    found = beyond_the_others(np.array([[-2.0, -2.0, -2.0], [0.0, -1.5, 0.0]]), real)
    assert found[1].argmin() == 1
    assert found[0, 0] > -1.645  # less than the deviation of -2 alone says
    slopes = np.linalg.lstsq(real[:, [0, 2]], real[:, 1], rcond=None)[0]
    rest = real[:, 1] - real[:, [0, 2]] @ slopes
    exact = (real[:, 1] - real[:, [0, 2]] @ slopes) / rest.std(ddof=3)
    assert np.corrcoef(beyond_the_others(real, real)[:, 1], exact)[0, 1] > 0.995
    told = real.copy()
    told[:, 2] = np.nan
    assert np.isnan(beyond_the_others(told, told)).all(axis=0).tolist() == [False, False, True]


def test_without_spread_or_enough_real_images_nothing_is_claimed():
    assert np.isnan(deviations([[1.0]], [[1.0]] * 4)).all()
    assert np.isnan(deviations([[1.0]], [[2.0]] * 40)).all()
    assert order([np.nan, 2.0, -1.0]) == [2, 1, 0]


def test_the_lowest_primitive():
    real = score_rows("Real", n=60, sfs_one=True)
    floor = real.assign(sfs=np.random.default_rng(2).normal(0.8, 0.05, 60))
    rows = score_rows("m", n=4).assign(
        vdc=0.15, ccs=0.14, dd_prob=real["dd_prob"].mean(), sfs=[0.8, 0.2, 0.8, 0.8]
    )
    rows.loc[0, "vdc"] = -1.0
    rows.loc[2, "dd_prob"] = -2.0
    found = explain_primitives(rows, real, floor)
    assert list(found["lowest"][:3]) == ["vdc", "sfs", "dd"]
    assert found["sfs"][1] < -8
    assert list(explain_primitives(rows, None, None)["lowest"]) == [""] * 4
