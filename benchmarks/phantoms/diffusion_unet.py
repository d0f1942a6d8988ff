"""Train the UNet of phantom-sd and put the pipeline together.

``python -m benchmarks.phantoms.diffusion_unet SCRATCH OUT``, after ``diffusion_vae`` and
``diffusion_text`` with the same OUT; an interrupted run continues.

Every class of every domain is in the pictures, but a caption names the modality alone, so that
the model knows what the modalities look like and no diagnosis. The prediction is the velocity, as
in Stable Diffusion 2.1: its error counts all noise levels alike, where that of the noise leaves
the nearly pure noise, at which a twenty-step trajectory starts, almost without weight. What is
saved is the exponential moving average.

The embedded weights continue a first version of 1,800 steps, whose samples were mush: the
autoencoder by ``diffusion_vae SCRATCH OUT --start FIRST/vae --batch 8 --steps 1200 --rate 2e-3
--hold 0.5 --colour 2``; then, with the first one's tokenizer and text encoder in OUT, ``--start
FIRST/unet --batch 16 --rate 1e-3 --decay 0.999`` with ``--steps 5000 --hold 0.6``, and from there
``--steps 14000 --hold 0.7``. While the rate is held, ``--steps`` may be raised. ``--channels 96
128`` takes 10.8 MB instead of 5.7 and 1.8 times as long a step. In three minutes of processor time
from scratch wider ones came to a higher loss.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedTokenizerFast

from benchmarks.phantoms.corpus import COUNTS
from benchmarks.phantoms.diffusion_captions import caption
from benchmarks.phantoms.diffusion_pictures import SEED, Pictures, pixels, read_pictures
from benchmarks.phantoms.loop import add_machine, run, set_machine

#: Share of the corpus whose latents are cached: more than a training of this length sees anew.
KNOWN = 0.5


def build_unet(width: int, side: int, channels: Sequence[int]) -> UNet2DConditionModel:
    """The untrained UNet of ``side`` latents: cross-attention at every level."""
    torch.manual_seed(SEED)
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=8,
        out_channels=8,
        block_out_channels=tuple(channels),
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=4,
        cross_attention_dim=width,
        use_linear_projection=True,
    )


def build_scheduler() -> DDPMScheduler:
    """Stable Diffusion's noise schedule; ``clip_sample`` would clip latents at 1."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


@torch.no_grad()
def cached_moments(vae: AutoencoderKL, pictures: Pictures, folder: Path) -> Tensor:
    """``(N, 16, S, S)`` float16 mean and log-variance of all pictures, computed once."""
    path = folder / "moments.npy"
    if not path.exists():
        parts = [
            vae.encode(pixels(part).to(vae.device)).latent_dist.parameters.half().cpu()
            for part in pictures.images.split(64)
        ]
        np.save(path, torch.cat(parts).numpy())
    return torch.from_numpy(np.load(path))


class CaptionEncoder:
    """Hidden states of captions; those that come again are kept."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.encoder, self.tokenizer = encoder.eval(), tokenizer
        self.known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:
        """``(B, 77, D)``."""
        new = sorted(set(captions) - set(self.known))
        if len(self.known) > 2000:
            self.known = {text: self.known[text] for text in set(captions) - set(new)}
        if new:
            ids = self.tokenizer(
                new, padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids
            self.known |= zip(new, self.encoder(ids.to(self.encoder.device))[0], strict=True)
        return torch.stack([self.known[text] for text in captions])


def train(
    pictures: Pictures,
    caption: Callable[[int, np.random.Generator], str],
    out: Path,
    options: argparse.Namespace,
) -> None:
    """Train the UNet, then save the whole pipeline in float16 to ``out / "pipeline"``.

    Args:
        pictures: What it learns to draw.
        caption: Of any picture of a domain, from the domain's number.
        out: Holds autoencoder, tokenizer and text encoder.
        options: Of :func:`add_options`.
    """
    device = set_machine(options)
    vae = AutoencoderKL.from_pretrained(out / "vae").to(device)
    encoder = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32).to(device)
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    moments = cached_moments(vae, pictures, out)
    encode, scheduler = CaptionEncoder(encoder, tokenizer), build_scheduler()
    if options.start:
        unet = UNet2DConditionModel.from_pretrained(options.start, torch_dtype=torch.float32)
    else:
        unet = build_unet(encoder.config.hidden_size, moments.shape[-1], options.channels)
    unet.train().to(device, memory_format=torch.channels_last)
    count = scheduler.config.num_train_timesteps
    average = copy.deepcopy(unet).requires_grad_(False)

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([SEED, 4, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rows = pictures.balanced(rng, options.batch)
        mean, log_variance = moments[rows].float().chunk(2, dim=1)
        drawn = torch.randn(mean.shape, generator=generator)
        latents = mean + (0.5 * log_variance.clamp(-30, 20)).exp() * drawn
        latents = latents * vae.config.scaling_factor
        latents = latents.to(device, memory_format=torch.channels_last)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        times = torch.randint(count, (len(rows),), generator=generator).to(device)
        captions = [caption(int(pictures.domains[row]), rng) for row in rows]
        noisy = scheduler.add_noise(latents, noise, times)
        predicted = unet(noisy, times, encode(captions), return_dict=False)[0]
        return {"total": F.mse_loss(predicted, scheduler.get_velocity(latents, noise, times))}

    run(
        loss,
        dict(unet.named_parameters()),
        out / "checkpoints-unet",
        steps=options.steps,
        rate=options.rate,
        hold=options.hold,
        averaged=dict(average.named_parameters()),
        decay=options.decay,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=average,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to("cpu", dtype=torch.float16).save_pretrained(out / "pipeline")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`train`."""
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--hold", type=float, default=0.0, help="share of steps at that rate")
    parser.add_argument("--decay", type=float, default=0.995, help="of the moving average")
    parser.add_argument("--start", type=Path, help="folder of another UNet")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 96], help="of the levels")
    add_machine(parser)


def main() -> None:
    """Train it on phantoms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    add_options(parser)
    options = parser.parse_args()
    names = tuple(COUNTS)
    pictures = read_pictures(options.scratch, first=KNOWN)
    train(pictures, lambda domain, rng: caption(names[domain], rng), options.out, options)


if __name__ == "__main__":
    main()
