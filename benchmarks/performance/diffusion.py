"""A base model, a critic and drawn training images for the measurements of the trainer.

``--base`` takes ``phantom-sd``, a hub id, a directory, ``phantom-shaped`` (the architecture of
phantom-sd with random weights) or ``sd21-random`` (Stable Diffusion 2.1 at full size with random
weights); ``--critic`` an encoder or ``medsiglip-random`` (MedSigLIP-448 with random weights). A
step costs the same whatever the weights are. The two full-size ones are for a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.phantoms.dataset import write_phantom_dataset
from craft_trainer.config.schema import parse_config
from craft_trainer.data.dataset import read_examples
from craft_trainer.training.trainer import StageRun, silent


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of both benchmarks."""
    parser.add_argument("--base", default="phantom-shaped")
    parser.add_argument("--critic", default="phantom-medsiglip")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20, help="T")
    parser.add_argument("--spacing", choices=("leading", "trailing"), default="trailing")


def prepared_run(root: Path, options: argparse.Namespace, **stage: Any) -> StageRun:
    """A CRAFT stage that is set up and not yet trained.

    Args:
        root: Scratch folder; models and images that are there already are used again.
        options: Of :func:`add_options`.
        stage: Settings of the stage.
    """
    folders = {name: root / "data" / name for name in ("train", "test")}
    if not folders["train"].is_dir():
        write_phantom_dataset("chexpert", root / "data", train=16, test=4)
    config = parse_config(
        {
            "output": str(root / "run"),
            "base": str(_made(options.base, root, _BASES)),
            "dtype": options.dtype,
            "tracker": "none",
            "data": {"train": str(folders["train"]), "resolution": options.resolution},
            "lora": {"rank": 32, "alpha": 32},
            "sampling": {
                "steps": options.steps,
                "guidance": 5.0,
                "timestep_spacing": options.spacing,
            },
            "critic": {"encoder": str(_made(options.critic, root, _CRITICS))},
            "stages": [
                {
                    "method": "craft",
                    "steps": 1,
                    "batch_size": options.batch_size,
                    "learning_rate": 1e-4,
                    "reward_gradients_every": 0,
                    **stage,
                }
            ],
        }
    )
    accelerator = Accelerator(cpu=options.device == "cpu")
    examples = read_examples(config.data.train, None)
    run = StageRun(config, config.stages[0], config.output, None, examples, accelerator, {})
    run.last_good = "the start"
    with EmbeddingCache(root / "cache") as cache:
        run.setup(cache, silent)
    _away_from_zero(run)
    return run


def _away_from_zero(run: StageRun) -> None:
    """B of LoRA starts at zero, where A has no gradient: give every matrix a value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in run.parameters:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.02 * noise.to(parameter.device))


def _made(spec: str, root: Path, makers: dict[str, Callable[[Path], None]]) -> str | Path:
    """The spec itself, or the folder of a model that is made here."""
    if spec not in makers:
        return spec
    folder = root / spec
    if not folder.is_dir():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            makers[spec](folder)
    return folder


def _phantom_shaped(folder: Path) -> None:
    from benchmarks.phantoms.diffusion_unet import build_unet
    from benchmarks.phantoms.diffusion_vae import build_vae

    unet = build_unet(128, side=16, channels=(64, 96))
    _save_pipeline(folder, unet, build_vae(), width=128, layers=3)


def _sd21(folder: Path) -> None:
    """The sizes of stable-diffusion-2-1's configuration files."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=96,
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=768,
    )
    _save_pipeline(folder, unet, vae, width=1024, layers=23)


def _save_pipeline(folder: Path, unet: Any, vae: Any, *, width: int, layers: int) -> None:
    from diffusers import StableDiffusionPipeline
    from tests.support.tiny_models import build_clip
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

    from benchmarks.phantoms.diffusion_unet import build_scheduler

    build_clip(folder / "tokenizer_source")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer_source")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def _medsiglip(folder: Path) -> None:
    """The sizes of medsiglip-448's configuration."""
    from tests.support.tiny_models import build_siglip
    from transformers import SiglipConfig, SiglipModel

    build_siglip(folder, image_size=448, patch_size=14)
    tower = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    vision = {**tower, "image_size": 448, "patch_size": 14}
    SiglipModel(SiglipConfig(text_config=tower, vision_config=vision)).save_pretrained(folder)


_BASES = {"phantom-shaped": _phantom_shaped, "sd21-random": _sd21}
_CRITICS = {"medsiglip-random": _medsiglip}
