"""The four tiny models of the embedded world, as untrained directories in the hub's format.

Each is an ordinary transformers architecture with a tokenizer and an image processor, so that the
code which loads ``google/siglip-…`` loads these too. Sizes are chosen for 64×64 images on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BitImageProcessor,
    CLIPImageProcessor,
    Dinov2Config,
    Dinov2Model,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

IMAGE_SIZE = 64
VOCABULARY = 2048
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
TOKEN_LIMIT = {"phantom-siglip": 64, "phantom-medsiglip": 64, "phantom-metaclip": 77}
#: ImageNet statistics, as DINOv2's processor has them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def train_tokenizer(texts: Iterable[str], limit: int, begin: bool) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of the phantom vocabulary.

    Like SigLIP's it lowercases and strips punctuation, inside the tokenizer itself.

    Args:
        texts: What the vocabulary is learned from.
        limit: Longest sequence of the model, special tokens included.
        begin: Whether sequences start with ``<s>`` (CLIP) besides ending with ``</s>``.
    """
    pad, eos, unk, bos = (SPECIAL[name] for name in SPECIAL)
    tokenizer = Tokenizer(models.BPE(unk_token=unk))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[^a-z0-9 ]+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[pad, eos, unk, bos], end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(texts, trainer)
    template = f"{bos} $A {eos}" if begin else f"$A {eos}"
    ids = [(token, tokenizer.token_to_id(token)) for token in (eos, bos)]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=limit,
        model_input_names=["input_ids"],
        padding_side="right",
        **SPECIAL,
    )


def _text(tokenizer: PreTrainedTokenizerFast, limit: int, **sizes: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": limit,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **sizes,
    }


def build_siglip(
    tokenizer: PreTrainedTokenizerFast,
    width: int,
    depth: int,
    heads: int,
    *,
    side: int = IMAGE_SIZE,
    patch: int = 8,
) -> SiglipModel:
    """An untrained SigLIP; its text tower has two layers and takes 64 tokens."""
    shape = {"hidden_size": width, "num_attention_heads": heads}
    text = _text(tokenizer, 64, num_hidden_layers=2, intermediate_size=2 * width, **shape)
    vision = {
        "num_hidden_layers": depth,
        "intermediate_size": 3 * width,
        "image_size": side,
        "patch_size": patch,
        **shape,
    }
    config = SiglipConfig(text_config={**text, "projection_size": width}, vision_config=vision)
    return SiglipModel(config)


def _metaclip(tokenizer: PreTrainedTokenizerFast) -> MetaClip2Model:
    shape = {"hidden_size": 112, "num_attention_heads": 4}
    text = _text(tokenizer, 77, num_hidden_layers=2, intermediate_size=224, **shape)
    vision = {
        "num_hidden_layers": 4,
        "intermediate_size": 336,
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        **shape,
    }
    config = MetaClip2Config(text_config=text, vision_config=vision, projection_dim=112)
    return MetaClip2Model(config)


def build(name: str, seed: int, texts: Iterable[str] = ()) -> tuple[PreTrainedModel, list[Any]]:
    """The untrained model ``name`` and its processors (tokenizer, image processor)."""
    torch.manual_seed(seed)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    if name == "phantom-dino":
        config = Dinov2Config(
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            mlp_ratio=3,
            image_size=IMAGE_SIZE,
            patch_size=8,
        )
        frame = {
            "size": {"shortest_edge": IMAGE_SIZE},
            "crop_size": side,
            "image_mean": IMAGENET_MEAN,
            "image_std": IMAGENET_STD,
        }
        return Dinov2Model(config), [BitImageProcessor(**frame)]
    limit = TOKEN_LIMIT[name]
    tokenizer = train_tokenizer(texts, limit, begin=name == "phantom-metaclip")
    if name == "phantom-metaclip":
        square = CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=side)
        return _metaclip(tokenizer), [tokenizer, square]
    half = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "resample": 3}
    model = build_siglip(tokenizer, *((128, 4, 4) if name == "phantom-siglip" else (120, 5, 6)))
    return model, [tokenizer, SiglipImageProcessor(size=side, **half)]


def save(model: PreTrainedModel, processors_: list[Any], folder: Path) -> None:
    """Write model and processors as a local checkpoint; weights as float16 safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder, safe_serialization=True)
    config = folder / "config.json"  # transformers would compute in what the file is stored in
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"dtype": "float16"', '"dtype": "float32"'), encoding="utf-8")
    for processor in processors_:
        processor.save_pretrained(folder)
    model.float()


def load(folder: Path) -> tuple[PreTrainedModel, list[Any]]:
    """What :func:`save` wrote of a vision-language model, in float32, to train it further."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    return model, [
        AutoTokenizer.from_pretrained(folder),
        AutoImageProcessor.from_pretrained(folder),
    ]
