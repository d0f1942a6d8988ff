"""Maps find what was put into an image, whatever the family of the encoder."""

import numpy as np
import pytest
import torch
from torch import nn

from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError
from cas_metric.explanation.maps import along, mean_tokens, occlusion_map, out_of_focus, token_map
from cas_metric.explanation.overlay import AGAINST, FOR, overlay


@pytest.fixture(scope="module", params=["phantom-siglip", "phantom-metaclip", "phantom-dino"])
def encoder(request):
    return load_encoder(request.param)


@pytest.fixture(scope="module")
def inputs(encoder):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return encoder.official_preprocess([pixels])


def test_shares_add_up_to_the_change_of_the_score(encoder, inputs):
    """Completeness of integrated gradients, on the path from the blurred image to the image."""
    direction = np.random.default_rng(1).normal(size=encoder.dim)
    score = along(direction)
    found = token_map(encoder, inputs, score)
    with torch.no_grad():
        ends = [float(score(encoder.embed_pixels(x))) for x in (inputs, out_of_focus(inputs))]
    assert found.shape == (8, 8)
    assert found.sum() == pytest.approx(ends[0] - ends[1], abs=0.15 * float(np.abs(found).sum()))


def test_the_path_may_begin_at_the_usual_tokens_of_other_images(encoder, inputs):
    pixels = np.random.default_rng(3).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    others = encoder.official_preprocess(list(pixels))
    start, alone = mean_tokens(encoder, others), [mean_tokens(encoder, x[None]) for x in others]
    assert start.numpy() == pytest.approx(sum(alone).numpy() / 2, abs=1e-5)
    score = along(np.random.default_rng(1).normal(size=encoder.dim))
    found = token_map(encoder, inputs, score, alone[0])
    with torch.no_grad():
        ends = [float(score(encoder.embed_pixels(x))) for x in (inputs, others[:1])]
    assert found.sum() == pytest.approx(ends[0] - ends[1], abs=0.15 * float(np.abs(found).sum()))


def test_a_token_that_does_not_change_has_no_share(encoder, inputs):
    blank = torch.zeros_like(inputs)
    assert np.abs(token_map(encoder, blank, along(np.ones(encoder.dim)))).max() < 1e-6


def test_occlusion_is_the_loss_of_each_patch(encoder, inputs):
    score = along(np.random.default_rng(2).normal(size=encoder.dim))
    found = occlusion_map(encoder, inputs, score)
    copy = inputs.clone()
    copy[..., 8:16, 40:48] = out_of_focus(inputs)[..., 8:16, 40:48]
    with torch.no_grad():
        lost = score(encoder.embed_pixels(inputs)) - score(encoder.embed_pixels(copy))
    assert found[1, 5] == pytest.approx(float(lost), abs=1e-4)


def test_a_network_without_patches_is_refused(encoder):
    class Bare:
        name = "bare"
        model = nn.Sequential(nn.Conv2d(3, 4, 3))

    with pytest.raises(InputError, match="no patch tokens"):
        token_map(Bare(), torch.zeros(1, 3, 8, 8), along(np.ones(4)))


def test_overlays_are_orange_for_and_blue_against():
    found = np.array([[1.0, 0.0], [0.0, -1.0]])
    drawn = overlay(np.full((64, 64, 3), 128, dtype=np.uint8), found).astype(int)
    assert drawn.shape == (64, 64, 3)
    places = (((5, 5), FOR), ((58, 58), AGAINST))
    distance = [np.abs(drawn[at] - np.array(ink)).sum() for at, ink in places]
    assert max(distance) < np.abs(drawn[5, 58] - np.array(FOR)).sum()
    assert (overlay(np.zeros((8, 8, 3)), np.zeros((2, 2))) == 0).all()
