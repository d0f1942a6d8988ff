"""The lines of Python that draw with an artefact in diffusers alone, for its model card."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from craft_trainer.bases.base import DiffusionModel, TextTower
from craft_trainer.bases.weights import EMBEDDED
from craft_trainer.config.schema import Config
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.multistep import ALGORITHMS, solver_settings

#: Classes of diffusers whose trajectories training takes step by step, by the sampler.
_SCHEDULERS: Final = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler"}
_SOLVER: Final = "DPMSolverMultistepScheduler"
_CLIP: Final = 'clip_sample=pipe.scheduler.config.get("clip_sample", False)'
#: Said where training steps in a way of its own.
_ANCESTRAL: Final = [
    "# Training took ancestral steps, which diffusers does not have: these are its own, and the",
    "# images are others. `craft-trainer generate` draws as in training.",
]


def usage_of(
    config: Config,
    family: type[DiffusionModel],
    towers: Sequence[TextTower],
    *,
    adapter: bool,
    prompt: str,
) -> str:
    """A script to be run beside the artefact's files.

    Args:
        config: Of the run: base model, resolution and sampling.
        family: Of the base model.
        towers: Text encoders that have learned tokens.
        adapter: Whether there is a LoRA.
        prompt: What it draws.
    """
    base, imports = repr(config.base), []
    if config.base in EMBEDDED:
        base, imports = f"EMBEDDED[{base}]", ["from craft_trainer.bases.weights import EMBEDDED"]
    if len(towers) > 1:
        imports.append("from safetensors.torch import load_file")
    revision = f", revision={config.revision!r}" if config.revision else ""
    side, sampling = config.data.resolution, config.sampling
    scheduler, steps = _scheduler(sampling) if family.noise_schedule else ("", [])
    return "\n".join(
        [
            "from pathlib import Path",
            "",
            "import torch",
            f"from diffusers import {scheduler}DiffusionPipeline",
            *imports,
            "",
            'artifact = Path(".")  # the folder of this file',
            # In one precision: transformers would load a text encoder in that of its file.
            f"pipe = DiffusionPipeline.from_pretrained({base}{revision}, dtype=torch.float32)",
            *_tokens(towers),
            *(["pipe.load_lora_weights(artifact)"] if adapter else []),
            *steps,
            *family.pipeline_steps,
            *(_ANCESTRAL if sampling.flow_sampler == "ancestral" else []),
            "image = pipe(",
            f"    {prompt!r}, height={side}, width={side},",
            f"    guidance_scale={sampling.guidance:g}, num_inference_steps={sampling.steps},",
            *family.pipeline_options,
            ").images[0]",
            'image.save("image.png")',
        ]
    )


def _scheduler(sampling: Sampling) -> tuple[str, list[str]]:
    """What is imported for the steps of training, which are not the pipeline's own, and its use."""
    kind = sampling.sampler or "ddpm"
    name, told = _SCHEDULERS.get(kind, _SOLVER), [f"    {_CLIP},"]
    if kind in ALGORITHMS:
        values = ", ".join(f"{key}={value!r}" for key, value in solver_settings(kind).items())
        told = textwrap.wrap(f"{values},", 88, initial_indent="    ", subsequent_indent="    ")
    return f"{name}, ", [
        f"pipe.scheduler = {name}.from_config(",
        f'    pipe.scheduler.config, timestep_spacing="{sampling.timestep_spacing}",',
        *told,
        ")",
    ]


def _tokens(towers: Sequence[TextTower]) -> list[str]:
    """Loads learned tokens; a family with several encoders is told which vectors are whose."""
    if not towers:
        return []
    loop = 'for file in sorted(artifact.glob("learned_embeds/*.safetensors")):'
    if len(towers) == 1:
        return [loop, "    pipe.load_textual_inversion(file)"]
    lines = [loop, '    vectors, token = load_file(file), f"<{file.stem}>"']
    for tower in towers:
        lines += [
            "    pipe.load_textual_inversion(",
            f'        vectors["{tower.name}"], token=token,',
            f"        text_encoder=pipe.{tower.encoder}, tokenizer=pipe.{tower.tokenizer},",
            "    )",
        ]
    # Or the highest id, that of a learned token, would be taken for the end of the prompt.
    lines += [
        f"pipe.{tower.encoder}.text_model.eos_token_id = pipe.{tower.tokenizer}.eos_token_id"
        for tower in towers
        if tower.pooled
    ]
    return lines
