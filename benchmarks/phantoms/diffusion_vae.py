"""Train the autoencoder of phantom-sd: 64×64 pictures to 16×16×8 latents and back.

``python -m benchmarks.phantoms.diffusion_vae SCRATCH OUT``; an interrupted run continues.

The loss is the mean absolute error of the pixels at three scales, since much of the finest one is
noise that no latent can hold, and of their differences to the neighbours, so that thin lines count
(vessels, clefts, costophrenic angles). A small Kullback-Leibler term keeps the latents smooth.

``--start`` continues from another autoencoder, such as the embedded one; ``--perceptual`` adds the
distance of phantom-dino's tokens after each block; no encoder that scores has a part in it.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F
from transformers import Dinov2Model

from benchmarks.phantoms.architectures import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.phantoms.diffusion_pictures import SEED, Pictures, pixels, read_pictures
from benchmarks.phantoms.loop import add_machine, run, set_machine

#: Weights of the difference and the Kullback-Leibler term, each a mean over its elements.
DIFFERENCES, DIVERGENCE = 0.3, 5e-4
#: Sides of the squares over which pixels are averaged before they are compared.
SCALES = (1, 2, 4)


def build_vae() -> AutoencoderKL:
    """The untrained autoencoder."""
    torch.manual_seed(SEED)
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=8,
        sample_size=64,
    ).to(memory_format=torch.channels_last)


def differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences of neighbouring pixels."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def reconstruction_loss(images: Tensor, rebuilt: Tensor, colour: float = 0.0) -> Tensor:
    """Mean absolute error of pixels at every scale and of their differences.

    ``colour`` weights that of what is left of the pixels without their brightness: a purple and a
    grey lesion differ little in the mean over three channels.
    """
    error = rebuilt - images
    tint = error - error.mean(dim=1, keepdim=True)
    total = sum(F.avg_pool2d(error, side).abs().mean() for side in SCALES)
    total = total + colour * sum(F.avg_pool2d(tint, side).abs().mean() for side in SCALES)
    pairs = zip(differences(images), differences(rebuilt), strict=True)
    return total + DIFFERENCES * sum((left - right).abs().mean() for left, right in pairs)


class Perceptual:
    """Mean absolute difference of phantom-dino's tokens after each block."""

    def __init__(self, device: torch.device) -> None:
        folder = Path(str(files("cas_metric"))) / "phantoms" / "weights" / "phantom-dino"
        self.model = Dinov2Model.from_pretrained(folder, dtype=torch.float32).to(device)
        self.model.requires_grad_(False).eval()
        mean, std = (torch.tensor(v, device=device) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.mean, self.std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def tokens(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised tokens of ``(B, 3, 64, 64)`` in [-1, 1], one tensor a block."""
        scaled = ((images + 1) / 2 - self.mean) / self.std
        hidden = self.model(pixel_values=scaled, output_hidden_states=True).hidden_states
        return tuple(F.layer_norm(one, one.shape[-1:]) for one in hidden[1:])

    def __call__(self, images: Tensor, rebuilt: Tensor) -> Tensor:
        """The difference, a scalar."""
        with torch.no_grad():
            wanted = self.tokens(images)
        pairs = zip(wanted, self.tokens(rebuilt), strict=True)
        return torch.stack([(one - other).abs().mean() for one, other in pairs]).mean()


def latent_scale(vae: AutoencoderKL, images: Tensor) -> float:
    """Scaling factor that gives latents of ``images`` unit variance, as in Stable Diffusion."""
    with torch.no_grad():
        latents = torch.cat(
            [
                vae.encode(pixels(part).to(vae.device)).latent_dist.sample()
                for part in images.split(64)
            ]
        )
    return 1 / latents.std().item()


def train(pictures: Pictures, out: Path, options: argparse.Namespace) -> None:
    """Train the autoencoder, measure the scale of its latents and save it to ``out / "vae"``."""
    device = set_machine(options)
    vae = AutoencoderKL.from_pretrained(options.start) if options.start else build_vae()
    vae.float().train().to(device, memory_format=torch.channels_last)
    perceptual = Perceptual(device) if options.perceptual else None

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([SEED, 1, step])
        rows = pictures.balanced(rng, options.batch)
        images = pixels(pictures.images[rows]).to(device, memory_format=torch.channels_last)
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(
            posterior.mean.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62)))
        )
        rebuilt = vae.decode(posterior.mean + posterior.std * noise.to(device)).sample
        error = reconstruction_loss(images, rebuilt, options.colour)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        terms = {"pixels": error, "kl": divergence}
        total = error + DIVERGENCE * divergence
        if perceptual is not None:
            terms["perceptual"] = perceptual(images, rebuilt)
            total = total + options.perceptual * terms["perceptual"]
        return {"total": total, **terms}

    run(
        loss,
        dict(vae.named_parameters()),
        out / "checkpoints-vae",
        steps=options.steps,
        rate=options.rate,
        hold=options.hold,
    )
    vae.eval()
    rows = pictures.balanced(np.random.default_rng([SEED, 2]), 512)
    vae.register_to_config(scaling_factor=latent_scale(vae, pictures.images[rows]))
    vae.cpu().save_pretrained(out / "vae")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`train`."""
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--hold", type=float, default=0.0, help="share of steps at that rate")
    parser.add_argument("--start", type=Path, help="folder of another autoencoder")
    parser.add_argument("--colour", type=float, default=0.0, help="weight of that term")
    parser.add_argument("--perceptual", type=float, default=0.0, help="weight of that term")
    add_machine(parser)


def main() -> None:
    """Train it on phantoms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    add_options(parser)
    options = parser.parse_args()
    train(read_pictures(options.scratch), options.out, options)


if __name__ == "__main__":
    main()
