"""The reward module in a loop of one's own: rows of a manifest, and images that it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import craft_trainer
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError
from craft_trainer.data.dataset import read_examples
from craft_trainer.rewards.targets import prepare_targets


@pytest.fixture(scope="module")
def cam(images: Path, critic: Path) -> craft_trainer.ClinicalAlignmentModule:
    return craft_trainer.ClinicalAlignmentModule.from_manifest(
        images, str(critic), device="cpu", cache="none"
    )


def drawn(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_rows_are_judged_as_training_judges_them(
    cam: craft_trainer.ClinicalAlignmentModule, images: Path, critic: Path
) -> None:
    encoder = load_encoder(str(critic), device="cpu")
    with EmbeddingCache("none") as store:
        targets, probe = prepare_targets(read_examples(images, None), encoder, store, cam.weights)
    theirs = craft_trainer.ClinicalAlignmentModule(encoder, probe)
    expected = theirs.rewards(drawn(3), targets.at([4, 0, 4]))
    for rows in ([4, 0, 4], torch.tensor([4, 0, 4]), ["p4", "p0", "p4"]):
        found = cam(drawn(3), rows)
        assert found.terms.keys() == expected.terms.keys()
        for name, value in expected.terms.items():
            torch.testing.assert_close(found.terms[name], value)


def test_every_reward_has_a_gradient_to_every_image(
    cam: craft_trainer.ClinicalAlignmentModule,
) -> None:
    images = drawn(2).requires_grad_()
    for value in cam(images, [0, 1]).terms.values():
        (gradient,) = torch.autograd.grad(value.sum(), images, retain_graph=True)
        assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("wrong", "problem", "fix"),
    [
        (drawn(2) * 2 - 1, r"where \[0, 1\] is meant", r"images / 2 \+ 0\.5"),
        (drawn(2) * 255, r"where \[0, 1\] is meant", "images / 255"),
        ((drawn(2) * 255).to(torch.uint8), "torch.uint8", "images.float"),
        (drawn(2) * 1.3, r"where \[0, 1\] is meant", "clamp"),
        (drawn(2).index_fill(0, torch.tensor([1]), torch.nan), "not numbers", "half precision"),
        (drawn(2).index_fill(0, torch.tensor([0]), torch.inf), "not numbers", "half precision"),
        (drawn(2).permute(0, 2, 3, 1), "shape", r"\(B, 3, H, W\)"),
        (drawn(2)[0], "shape", r"\(B, 3, H, W\)"),
        (drawn(2)[:, :1], "shape", r"\(B, 3, H, W\)"),
        (drawn(2)[:0], "shape", r"\(B, 3, H, W\)"),
    ],
)
def test_what_is_no_image_in_zero_to_one_is_refused(
    cam: craft_trainer.ClinicalAlignmentModule, wrong: torch.Tensor, problem: str, fix: str
) -> None:
    assert cam.targets is not None
    rows = list(range(len(wrong)))
    for call in (
        lambda: cam(wrong, rows),
        lambda: cam.rewards(wrong, cam.targets.at(rows)),  # type: ignore[union-attr]
    ):
        with pytest.raises(InputError, match=problem) as caught:
            call()
        assert re.search(fix, caught.value.fix)


def test_half_precision_that_rounds_over_one_is_an_image(
    cam: craft_trainer.ClinicalAlignmentModule,
) -> None:
    cam((drawn(2) * 1.003).bfloat16(), [0, 1])


@pytest.mark.parametrize("rows", [[0], [0, 6], [0, -1], ["p0", "nobody"]])
def test_rows_that_are_not_there_are_named(
    cam: craft_trainer.ClinicalAlignmentModule, rows: list[int]
) -> None:
    with pytest.raises(InputError, match=r"2 images and 1 rows|is no row of the manifest"):
        cam(drawn(2), rows)


def test_a_module_without_a_manifest_says_so(cam: craft_trainer.ClinicalAlignmentModule) -> None:
    bare = craft_trainer.ClinicalAlignmentModule(cam.critic, cam.probe)
    with pytest.raises(InputError, match="no manifest"):
        bare(drawn(1), [0])
