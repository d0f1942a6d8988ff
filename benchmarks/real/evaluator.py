"""Train the evaluator of a small real world: a frozen EfficientNet-lite0 and a text tower.

``python -m benchmarks.real.evaluator skin OUT``; an interrupted run continues.

The pooled features of some changed views of the evaluator's part are computed once. On them a
projection is trained together with a small text transformer: images against their captions
(InfoNCE), and against the checklists and names of all classes (cross-entropy), the classes drawn
equally often. OUT/encoder is an open_clip directory, which cas-metric loads like any other. It has
to pass the self-test; where it does not, the script says so and exits with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from benchmarks.phantoms.architectures import train_tokenizer
from benchmarks.phantoms.loop import run
from benchmarks.phantoms.vision_language import info_nce, tokenize
from benchmarks.real import backbone
from benchmarks.real.captions import caption, class_texts, phrases
from benchmarks.real.pictures import SIDE, WORLDS, Pictures, World, read_pictures
from benchmarks.real.selftest import judge
from benchmarks.real.views import changed
from cas_metric.encoders import load_encoder

SEED: Final = 0
#: Changed views of each picture, tokens of a text, and dimensions of the embedding.
VIEWS, TOKENS, DIMENSIONS = 4, 77, 128
PART: Final = "evaluator"


def model_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The architecture, as open_clip writes it down."""
    return {
        "embed_dim": DIMENSIONS,
        "custom_text": True,
        "vision_cfg": {
            "image_size": backbone.SIDE,
            "timm_model_name": backbone.MODEL,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "mlp",
            "timm_drop": 0.3,
        },
        "text_cfg": {
            "context_length": TOKENS,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "local",
            "width": DIMENSIONS,
            "heads": 4,
            "layers": 2,
            "pool_type": "eos",
            "eos_id": tokenizer.eos_token_id,
        },
    }


def build(config: dict[str, Any]) -> CustomTextCLIP:
    """The model with ImageNet's trunk, frozen, and everything else untrained."""
    torch.manual_seed(SEED)
    config = {name: value for name, value in config.items() if name != "custom_text"}
    model = CustomTextCLIP(**config)
    backbone.load_into(model.visual.trunk)
    model.visual.trunk.requires_grad_(False).eval()
    return model


def save(
    model: CustomTextCLIP, config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write an open_clip directory."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": backbone.MEAN,
        "std": backbone.STD,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    settings = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)


@torch.inference_mode()
def features(model: CustomTextCLIP, world: World, images: np.ndarray, out: Path) -> Tensor:
    """``(VIEWS, N, 1280)`` pooled features of changed views, each view computed once."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.MEAN, backbone.STD))
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(VIEWS):
        path = out / f"view-{number}.npy"
        if not path.exists():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
            view = changed(pixels, world, backbone.SIDE, number)
            rows = [model.visual.trunk((x / 255 - mean) / std) for x in view.split(32)]
            np.save(path, torch.cat(rows).numpy())
        parts.append(torch.from_numpy(np.load(path)))
    return torch.stack(parts)


def learn(
    world: World, pictures: Pictures, out: Path, *, steps: int, batch: int, rate: float
) -> Path:
    """Train and write the encoder; return its directory."""
    rows = pictures.rows(PART)
    labels, images = pictures.labels[rows], pictures.images[rows]
    said = phrases(world, pictures)
    said = [said[row] for row in rows]
    fixed = class_texts(world)
    told = [caption(world, label, one) for label, one in zip(labels, said, strict=True)]
    tokenizer = train_tokenizer(told + fixed * 20, TOKENS, begin=True)
    config = model_config(tokenizer)
    model = build(config)
    known = features(model, world, images, out)
    table, count = tokenize(tokenizer, fixed, TOKENS), len(world.domain.class_names)
    by_class = [np.flatnonzero(labels == label) for label in range(count)]

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([SEED, step])
        torch.manual_seed(int(rng.integers(2**62)))  # of dropout
        chosen = np.array([rng.choice(by_class[index % count]) for index in range(batch)])
        texts = [caption(world, labels[row], said[row], rng) for row in chosen]
        tokens = tokenize(tokenizer, texts, TOKENS)
        view = torch.from_numpy(rng.integers(len(known), size=batch))
        image = F.normalize(model.visual.head(known[view, torch.from_numpy(chosen)]), dim=-1)
        text = model.encode_text(torch.cat([tokens, table]), normalize=True)
        same = (tokens[:, None] == tokens[None]).all(dim=-1)
        scale, target = model.logit_scale, torch.from_numpy(labels[chosen])
        paired = info_nce(image, text[:batch], same, scale)
        classes = image @ text[batch:].T * scale.exp()
        lists, names = classes.split(count, dim=1)
        named = F.cross_entropy(lists, target) + F.cross_entropy(names, target)
        hits = (lists.argmax(dim=1) == target).float().mean()
        return {"total": paired + named, "pairs": paired, "named": hits}

    model.visual.head.train()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    run(loss, trained, out / "checkpoints", steps=steps, rate=rate, weight_decay=0.1, muon=False)
    model.eval()
    save(model, config, tokenizer, out / "encoder")
    return out / "encoder"


def main() -> None:
    """Train the evaluator of one world and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pixels", type=int, default=SIDE, help="of the pictures that it judges")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = WORLDS[options.world]
    pictures = read_pictures(world, pixels=options.pixels)
    folder = learn(
        world, pictures, options.out, steps=options.steps, batch=options.batch, rate=options.rate
    )
    verdict = judge(world, pictures, load_encoder(folder, device="cpu"), "critic")
    print(f"{options.world}: {verdict}")
    if not verdict.passed:
        sys.exit("the evaluator does not see the classes: nothing that it judges would mean much")


if __name__ == "__main__":
    main()
