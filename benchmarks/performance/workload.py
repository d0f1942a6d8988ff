"""Folders to score and an encoder of a realistic size, for the measurements beside this file."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("disc", "square")
DOMAIN = """\
name: shapes
title: Shapes in noise
modality: drawing
classes:
  - name: disc
    checklist: {Shape: round, Color: bright}
  - name: square
    checklist: {Shape: four corners, Color: bright}
"""


@dataclass(frozen=True)
class Measured:
    """One command: wall and processor time in seconds, peak resident memory in bytes."""

    seconds: float
    processor: float
    peak: int


def write_folders(root: Path, images: int, side: int = 64, stream: int = 0) -> tuple[Path, Path]:
    """``images`` generated PNG files and as many real partners, no two alike; returns both.

    Sets of different ``stream`` share no image.
    """
    rng = np.random.default_rng(stream)
    for name in ("generated", "real"):
        folder = root / name
        folder.mkdir(parents=True)
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "file_name", "label", "prompt"])
            for number in range(images):
                label = CLASSES[number % len(CLASSES)]
                _draw(label, side, rng).save(folder / f"{number}.png")
                writer.writerow([number, f"{number}.png", label, f"a {label}, case {number % 50}"])
    (root / "domain.yaml").write_text(DOMAIN)
    (root / "real" / "cas.yaml").write_text("domain: ../domain.yaml\n")
    return root / "generated", root / "real"


def _draw(label: str, side: int, rng: np.random.Generator) -> Image.Image:
    pixels = rng.integers(0, 120, (side, side, 3), dtype=np.uint8)
    y, x = np.mgrid[:side, :side] - rng.integers(side // 4, 3 * side // 4, size=(2, 1, 1))
    inside = np.hypot(y, x) < side / 6 if label == "disc" else np.maximum(abs(y), abs(x)) < side / 6
    pixels[inside] += 100
    return Image.fromarray(pixels)


def build_siglip_base(directory: Path) -> Path:
    """SigLIP base/16 at 224 pixels with random weights: the cost of a real encoder, no download."""
    import torch
    from tests.support.tiny_models import build_siglip
    from transformers import SiglipConfig, SiglipModel

    build_siglip(directory, image_size=224)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SiglipModel(SiglipConfig()).save_pretrained(directory)
    return directory


def build_clip_base(directory: Path) -> Path:
    """CLIP base/32 at 224 pixels with random weights, and a small tokenizer."""
    import torch
    from tests.support.tiny_models import build_clip
    from transformers import AutoConfig, CLIPConfig, CLIPModel

    build_clip(directory, image_size=224)
    text = AutoConfig.from_pretrained(directory).text_config
    special = {name: getattr(text, name) for name in ("bos_token_id", "eos_token_id")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(CLIPConfig(text_config=special)).save_pretrained(directory)
    return directory


def build_dinov2_small(directory: Path) -> Path:
    """DINOv2 small at 224 pixels, patches of 16, with random weights; whole images, no crop."""
    import torch
    from tests.support.tiny_models import build_dinov2
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    build_dinov2(directory, image_size=224)
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=224, patch_size=16, num_hidden_layers=12
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(config).save_pretrained(directory)
    BitImageProcessorPil(
        size={"shortest_edge": 224},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(directory)
    return directory


def bytecode(directory: Path) -> dict[str, str]:
    """Environment in which Python keeps compiled modules, below ``directory``.

    An installed package has its bytecode; where writing it is switched off, compiling torch at
    every start would be most of what a short command does.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}


def run_cas(*arguments: object, environment: dict[str, str] | None = None) -> Measured:
    """Run ``cas`` in a process of its own; it must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cas_metric.cli.main", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"cas ended with exit code {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024
    processor = usage.ru_utime + usage.ru_stime
    return Measured(time.perf_counter() - started, processor, usage.ru_maxrss * scale)
