"""Rewards: the metric's own primitives, differentiable to the pixels and no further."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cas_metric.encoders import ModelEncoder, load_encoder
from cas_metric.errors import InputError
from cas_metric.scoring.probe import Probe
from craft_trainer.guards.statistics import image_statistics, reward_gradients
from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule, Targets
from craft_trainer.runtime.failures import require_finite

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def encoder(critic: Path) -> ModelEncoder:
    return load_encoder(critic, device="cpu")


def probe_of(encoder: ModelEncoder) -> Probe:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, encoder.dim, generator=generator)
    return Probe(CLASSES, encoder.fingerprint, weight, torch.zeros(3))


def targets_of(encoder: ModelEncoder, count: int) -> Targets:
    generator = torch.Generator().manual_seed(6)
    vectors = F.normalize(torch.randn(3, count, encoder.dim, generator=generator), dim=-1)
    return Targets(*vectors, torch.arange(count) % 3)


def pixels(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 40, 40, generator=torch.Generator().manual_seed(2))


def test_rewards_are_equations_two_to_six(encoder: ModelEncoder) -> None:
    probe, targets, images = probe_of(encoder), targets_of(encoder, 4), pixels(4)
    rewards = ClinicalAlignmentModule(encoder, probe).rewards(images, targets)
    e = encoder.embed_images(images)
    expected = {
        "vdc": (e * targets.prompt).sum(dim=1),
        "ccs": (e * targets.checklist).sum(dim=1),
        "dd": torch.log_softmax(e @ probe.weight.T, dim=1)[range(4), targets.label],
        "sfs": (e * targets.reference).sum(dim=1),
    }
    assert list(rewards.terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(rewards.terms[name], value)
    torch.testing.assert_close(rewards.r_cam, torch.stack(list(expected.values())).mean(dim=0))


def test_gradients_reach_the_pixels_and_not_the_critic(encoder: ModelEncoder) -> None:
    images = pixels(2).requires_grad_()
    module = ClinicalAlignmentModule(encoder, probe_of(encoder))
    module.rewards(images, targets_of(encoder, 2)).r_cam.sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().amax(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_following_the_gradient_raises_the_reward(encoder: ModelEncoder) -> None:
    module, targets = ClinicalAlignmentModule(encoder, probe_of(encoder)), targets_of(encoder, 2)
    images = pixels(2).requires_grad_()
    before = module.rewards(images, targets).r_cam.mean()
    (gradient,) = torch.autograd.grad(before, images)
    after = module.rewards(images + 1e-2 * gradient / gradient.norm(), targets).r_cam.mean()
    assert after > before


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"vdx": 1.0}, "cannot be used"),
        ({"vdc": -1.0}, "cannot be used"),
        ({"vdc": 0.0}, "switched off"),
        ({"dd": 1.0}, "needs a probe"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    encoder: ModelEncoder, weights: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ClinicalAlignmentModule(encoder, None, weights)


def test_a_probe_of_another_space_is_refused(encoder: ModelEncoder) -> None:
    foreign = Probe(CLASSES, "another", torch.zeros(3, encoder.dim), torch.zeros(3))
    with pytest.raises(InputError, match="not fitted"):
        ClinicalAlignmentModule(encoder, foreign)


def test_repeats_are_ordered_repeat_by_repeat(encoder: ModelEncoder) -> None:
    targets = targets_of(encoder, 5)
    assert targets.at((3, 1)).repeat(2).label.tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(targets.at((3, 1)).repeat(2).prompt[2], targets.prompt[3])


def test_reward_gradients_against_their_definition() -> None:
    images = torch.ones(1, 3, 2, 2, requires_grad=True)
    left, right = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    left[0, 0, 0, 0], right[0, 0, 0, 0], right[0, 0, 0, 1] = 3.0, 1.0, 1.0
    terms = {"one": (images * left).sum()[None], "two": (images * right).sum()[None]}
    logs = reward_gradients(terms, images)
    assert float(logs["reward_gradient/norm_one"]) == pytest.approx(3.0)
    assert float(logs["reward_gradient/cosine_one_two"]) == pytest.approx(2**-0.5)


def test_statistics_tell_flat_saturated_and_collapsed_images_from_others() -> None:
    noise = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    flat, red = torch.full((4, 3, 16, 16), 0.4), torch.zeros(4, 3, 16, 16)
    red[:, 0] = 1.0
    of_noise, of_flat, of_red = (image_statistics(x, 2) for x in (noise, flat, red))
    for name in ("edge_density", "entropy", "diversity"):
        assert of_flat[f"image/{name}"] == 0
        assert of_noise[f"image/{name}"] > 0.05
    assert of_red["image/saturation"] == 1
    assert of_flat["image/saturation"] == 0
    assert of_red["image/clipped"] == 1
    assert of_flat["image/clipped"] == 0


def test_the_reward_is_named_before_the_loss_that_it_spoils() -> None:
    nan = float("nan")
    logs = {"loss/total": nan, "reward/r_cam": nan, "reward/dd": nan, "reward/vdc": 0.1}
    with pytest.raises(Exception, match=r"reward/dd is nan in step 7"):
        require_finite(logs, 7, "the start")
    require_finite({"loss/total": 0.1}, 7, "the start")
