"""A toy training of the diffusion base gives a pipeline that the trainer draws with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.phantoms import diffusion_text, diffusion_unet, diffusion_vae
from benchmarks.phantoms.diffusion_pictures import Pictures as Drawn
from benchmarks.real.generator import SIDE, all_texts, blind_caption, training_pictures
from benchmarks.real.pictures import WORLDS, Pictures

from craft_trainer.bases.loading import load_model
from craft_trainer.config.sections import Sampling
from craft_trainer.inference import sample_images


def pictures() -> Pictures:
    """Twelve pictures of noise, four of each part."""
    images = np.random.default_rng(0).integers(0, 255, (12, 256, 256, 3), dtype=np.uint8)
    parts = np.repeat(["evaluator", "critic", "test"], 4)
    return Pictures(images, np.arange(12) % 2, parts, ("",) * 12, tuple(map(str, range(12))))


def options(add: Callable[[argparse.ArgumentParser], None], *words: str) -> argparse.Namespace:
    """Options of a script, two steps, on the processor."""
    parser = argparse.ArgumentParser()
    add(parser)
    return parser.parse_args(["--steps", "2", "--batch", "2", "--device", "cpu", *words])


def test_toy_base_is_drawn_with(tmp_path: Path) -> None:
    world = WORLDS["chest"]
    drawn = training_pictures(world, pictures())
    diffusion_text.train(
        all_texts(world, pictures()), tmp_path, options(diffusion_text.add_options)
    )
    with_term = options(diffusion_vae.add_options, "--perceptual", "0.1")
    diffusion_vae.train(drawn, tmp_path, with_term)
    diffusion_unet.train(
        drawn,
        lambda _, rng: blind_caption(world, rng),
        tmp_path,
        options(diffusion_unet.add_options, "--channels", "32", "32"),
    )
    model = load_model(str(tmp_path / "pipeline"), device=torch.device("cpu"))
    images = sample_images(model, ["frontal chest film"], [0], Sampling(steps=2), SIDE)
    assert images.shape == (1, 3, SIDE, SIDE)
    assert torch.isfinite(images).all()


def test_colour_term_sees_tint_and_not_brightness() -> None:
    grey = torch.zeros(1, 3, 8, 8)
    brighter, tinted = grey + 0.3, grey + torch.tensor([0.3, 0.0, -0.3]).view(1, 3, 1, 1)
    plain, weighted = (
        [diffusion_vae.reconstruction_loss(grey, other, colour) for other in (brighter, tinted)]
        for colour in (0.0, 2.0)
    )
    assert torch.allclose(weighted[0], plain[0])
    assert torch.allclose(weighted[1], 3 * plain[1])


def test_pictures_are_those_of_the_training_parts() -> None:
    chest, skin = (training_pictures(WORLDS[name], pictures()) for name in ("chest", "skin"))
    assert (len(chest.images), len(skin.images)) == (8, 32)
    assert chest.images.shape[1:] == (3, SIDE, SIDE)
    assert torch.equal(skin.images[:8].flip(3), skin.images[16:24])


def test_captions_name_no_class() -> None:
    rng = np.random.default_rng(0)
    for world in WORLDS.values():
        told = {blind_caption(world, rng).lower() for _ in range(300)}
        names = [name.lower() for name in world.domain.class_names if name != "Normal"]
        assert "" in told
        assert not any(name in text for name in names for text in told)


def test_domains_of_a_batch_take_turns() -> None:
    drawn = Drawn(torch.zeros(9, 3, 4, 4, dtype=torch.uint8), np.array([0] * 7 + [1] * 2), ())
    rows = drawn.balanced(np.random.default_rng(0), 6)
    assert drawn.domains[rows].tolist() == [0, 1, 0, 1, 0, 1]
