"""What a CRAFT step of Stable Diffusion 2.1 costs at full size; nothing is computed.

``python -m benchmarks.performance.full_size_cost``

The modules of Stable Diffusion 2.1 at 512 pixels and of MedSigLIP-448 are built from their
configurations with tensors that have a shape and no content; torch's own counter tells the
floating-point operations of one forward and of one backward pass of each, attention included. How
often each runs in a step is the trainer's own account, as tests hold it against real steps. Batch
4, M = 2, T = 20, K = 1, guidance in both branches, no gradient checkpointing. The gigabytes are
those of ``craft-trainer estimate``, with gradient checkpointing and bfloat16.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from cas_metric.statistics.tables import markdown_table
from craft_trainer.bases.base import family_of
from craft_trainer.bases.weights import empty_part
from craft_trainer.config.schema import Config, parse_config
from craft_trainer.cost import memory

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "the paper's": {},
    "repeats share a prefix": {"repeat_mode": "renoise"},
    "the same, each used four times": {
        "repeat_mode": "renoise",
        "prefix": {"replay": 3, "replay_age": 4},
    },
    "trajectories of 10 steps": {"trajectory": {"steps": 10}},
    "the same, repeats share a prefix": {"repeat_mode": "renoise", "trajectory": {"steps": 10}},
    "prefix of 6 steps": {"prefix": {"solver": "dpmpp_2m", "steps": 6}},
    "the same, half of it unguided": {
        "prefix": {"solver": "dpmpp_2m", "steps": 6, "unguided": 0.5}
    },
    "6 steps, each prefix used twice": {"prefix": {"solver": "dpmpp_2m", "steps": 6, "replay": 1}},
    "6 steps, half unguided, used twice": {
        "prefix": {"solver": "dpmpp_2m", "steps": 6, "unguided": 0.5, "replay": 1}
    },
}
_TOWER: Final = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
#: The sizes of the released models' configuration files.
FILES: Final[dict[str, dict[str, Any]]] = {
    "sd/model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    },
    "sd/unet/config.json": {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 96,
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "sd/vae/config.json": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 768,
    },
    "sd/text_encoder/config.json": {
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
    },
    "critic/config.json": {
        "model_type": "siglip",
        "text_config": {**_TOWER, "model_type": "siglip_text_model"},
        "vision_config": {
            **_TOWER, "model_type": "siglip_vision_model", "image_size": 448, "patch_size": 14
        },
    },
}  # fmt: skip


class Work(NamedTuple):
    """TFLOP of one image: a forward, and a backward pass."""

    forward: float
    backward: float


def counted(forward: Callable[[bool], Tensor]) -> Work:
    """Run ``forward`` without a graph and with one, and the latter backward."""
    totals = []
    for graph in (False, True):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(graph):
            output = forward(graph)
            if graph:
                output.sum().backward()
        totals.append(counter.get_total_flops() / 1e12)
    return Work(totals[0], totals[1] - totals[0])


def parts(root: Path, config: Config) -> dict[str, Work]:
    """Work of each module on one image."""
    directory = root / "sd"
    vae = empty_part(directory, "vae")
    unet = empty_part(directory, "unet")
    family = family_of("StableDiffusionPipeline")
    model = family(SimpleNamespace(vae=vae, unet=unet, vae_scale_factor=8))
    memory._attach_lora(model, config.lora)
    with torch.device("meta"):
        settings = AutoConfig.from_pretrained(root / "critic")
        critic: Any = AutoModel.from_config(settings).requires_grad_(False).eval()
    shape, told = model.latent_shape(512), memory._conditions_of(model)

    def image(graph: bool) -> Tensor:
        pixels = torch.randn(1, 3, 448, 448, requires_grad=graph)
        pooled: Tensor = critic.get_image_features(pixel_values=pixels).pooler_output
        return pooled

    def decoded(graph: bool) -> Tensor:
        found: Tensor = vae.decode(torch.randn(1, *shape, requires_grad=graph)).sample
        return found

    with memory._fake(unet, vae, critic), sdpa_kernel(SDPBackend.MATH):
        return {
            "denoiser": counted(
                lambda _: model.denoise(torch.randn(1, *shape), torch.tensor(1.0), told(1))
            ),
            "decoder": counted(decoded),
            "critic": counted(image),
        }


def configuration(root: Path, stage: dict[str, Any]) -> Config:
    """The example's stage at full size."""
    return parse_config(
        {
            "output": "unused",
            "base": str(root / "sd"),
            "dtype": "bfloat16",
            "gradient_checkpointing": True,
            "data": {"train": "unused"},
            "critic": {"encoder": str(root / "critic")},
            "stages": [{"method": "craft", "steps": 1, "batch_size": 4, **stage}],
        }
    )


def step(config: Config, work: dict[str, Work]) -> tuple[float, dict[str, float]]:
    """Forwards of the denoiser in a step, backward passes left out, and TFLOP by part."""
    stage: Any = config.stages[0]
    images, prompts, k = stage.batch_size * stage.repeats, stage.batch_size, stage.gradient_steps
    before = stage.sampling(config).steps - k
    shared = stage.repeat_mode == "renoise"
    prefix = prompts * stage.cheaper.forwards(before, 2, stage.repeats, shared=shared)
    denoiser, decoder, critic = (work[name] for name in ("denoiser", "decoder", "critic"))
    spent = {
        "prefix": prefix * denoiser.forward,
        "tail": 2 * k * images * sum(denoiser),
        "decoder": images * sum(decoder),
        "critic": images * sum(critic),
        "diffusion loss": prompts * sum(denoiser),
    }
    return prefix + 2 * k * images + prompts, spent


def main() -> None:
    """A line for each setting."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, values in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(json.dumps(values))
        work = parts(root, configuration(root, {}))
        rows = [[name, f"{w.forward:.3f}", f"{w.backward:.3f}"] for name, w in work.items()]
        print(markdown_table(["TFLOP an image", "forward", "backward"], rows), end="\n\n")
        lines, first = [], None
        for name, stage in SETTINGS.items():
            forwards, spent = step(configuration(root, stage), work)
            total = sum(spent.values())
            first = first or (forwards, total)
            lines.append([name, f"{forwards:g}", f"{first[0] / forwards:.2f}"])
            lines[-1] += [*(f"{one:.0f}" for one in spent.values()), f"{total:.0f}"]
            lines[-1].append(f"{first[1] / total:.2f}")
        heads = ["setting", "forwards", "x fewer", *spent, "TFLOP", "x fewer"]
        print(markdown_table(heads, lines), end="\n\n")
        rows = []
        for judged in ({}, {"micro_batch": 1}):
            config = configuration(root, judged)
            found = memory.memory_of(config, config.stages[0], 4, memory.parts_of(config))  # type: ignore[arg-type]  # a trained stage
            kept = [found.activations, found.checkpointed, found.total]
            rows.append([str(judged or "all at once"), *(f"{one:.1f}" for one in kept)])
        print(markdown_table(["judged", "kept, GB", "checkpointed", "total"], rows))


if __name__ == "__main__":
    main()
