"""Tiny random encoders in the hub's directory format, with tokenizers and processors that work.

Each ``build_*`` writes one directory that ``cas_metric.encoders.load_encoder`` loads like any other
checkpoint: ``config.json``, ``model.safetensors``, ``tokenizer.json``, ``tokenizer_config.json``
and ``preprocessor_config.json``. The weights are drawn from ``seed``; nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

#: Text that the byte-pair encoding is trained on; other words fall back to shorter pieces.
CORPUS = (
    "Frontal chest radiograph with an enlarged cardiac silhouette and no pleural effusion.",
    "Chest radiograph with blunted costophrenic angle, right lower lobe opacity, pneumonia.",
    "Dermatology photograph of a red scaly plaque on the forearm with a well defined border.",
    "Histology of ductal carcinoma, pleomorphic nuclei, purple stain, glands in pink stroma.",
    "Retinal fundus photograph with a large optic cup, pale disc, glaucoma, thin neural rim.",
    "Location: left lung; Lesion Type: nodule; Shape/Size: round; Color: white; Texture: smooth",
    "Cardiomegaly. No Finding. Pleural Effusion. Pneumonia. Psoriasis. Melanoma. Eczema.",
)
_PUNCTUATION = Regex(r"[!-/:-@\[-`{-~]")


def build_siglip(
    directory: str | Path,
    *,
    seed: int = 0,
    image_size: int = 32,
    patch_size: int = 8,
    dim: int = 32,
    token_limit: int = 64,
) -> Path:
    """A ``SiglipModel``: squash resize, 64 tokens padded with ``</s>``, last position pooled."""
    tokenizer = _byte_pair_tokenizer(
        specials=("<pad>", "</s>", "<unk>"),
        normalizer=[
            normalizers.Lowercase(),
            normalizers.Replace(_PUNCTUATION, ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ],
        template="$A </s>",
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=token_limit,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )
    config = SiglipConfig(
        text_config={
            **_tower(dim),
            "vocab_size": len(fast),
            "max_position_embeddings": token_limit,
            "pad_token_id": fast.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": fast.eos_token_id,
        },
        vision_config={**_tower(dim), "image_size": image_size, "patch_size": patch_size},
    )
    processor = SiglipImageProcessorPil(
        size={"height": image_size, "width": image_size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return _save(directory, _random(SiglipModel, config, seed), fast, processor)


def build_clip(
    directory: str | Path,
    *,
    seed: int = 0,
    image_size: int = 32,
    patch_size: int = 8,
    dim: int = 32,
    token_limit: int = 77,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Path:
    """A ``CLIPModel``: shortest-side resize and centre crop, the EOS position pooled."""
    fast = tokenizer or _clip_tokenizer(token_limit)
    config = CLIPConfig(
        text_config=_clip_text(dim, fast, token_limit),
        vision_config={**_tower(dim), "image_size": image_size, "patch_size": patch_size},
        projection_dim=dim,
    )
    return _save(directory, _random(CLIPModel, config, seed), fast, _clip_processor(image_size))


def build_metaclip2(
    directory: str | Path,
    *,
    seed: int = 0,
    image_size: int = 32,
    patch_size: int = 8,
    dim: int = 32,
    token_limit: int = 77,
) -> Path:
    """A ``MetaClip2Model``: as CLIP, with a cased tokenizer whose EOS has id 2, as released."""
    tokenizer = _byte_pair_tokenizer(
        specials=("<s>", "<pad>", "</s>", "<unk>"),
        normalizer=[normalizers.NFKC()],
        template="<s> $A </s>",
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=token_limit,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    config = MetaClip2Config(
        text_config=_clip_text(dim, fast, token_limit),
        vision_config={**_tower(dim), "image_size": image_size, "patch_size": patch_size},
        projection_dim=dim,
    )
    model = _random(MetaClip2Model, config, seed)
    return _save(directory, model, fast, _clip_processor(image_size))


def build_dinov2(
    directory: str | Path,
    *,
    seed: int = 0,
    image_size: int = 32,
    patch_size: int = 8,
    dim: int = 32,
) -> Path:
    """A ``Dinov2Model`` whose processor centre-crops, as the released one does. No text."""
    config = Dinov2Config(
        hidden_size=dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=image_size,
        patch_size=patch_size,
    )
    processor = BitImageProcessorPil(
        size={"shortest_edge": image_size * 8 // 7},
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return _save(directory, _random(Dinov2Model, config, seed), None, processor)


def _clip_tokenizer(token_limit: int) -> PreTrainedTokenizerFast:
    tokenizer = _byte_pair_tokenizer(
        specials=("<|pad|>", "<|startoftext|>", "<|endoftext|>"),
        normalizer=[normalizers.NFC(), normalizers.Lowercase()],
        template="<|startoftext|> $A <|endoftext|>",
        # CLIP's own order: the end of a text is the highest id of the vocabulary.
        specials_last=True,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=token_limit,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )


def _tower(dim: int) -> dict[str, int]:
    return {
        "hidden_size": dim,
        "intermediate_size": 2 * dim,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }


def _clip_text(dim: int, tokenizer: PreTrainedTokenizerFast, token_limit: int) -> dict[str, int]:
    return {
        **_tower(dim),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": token_limit,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _clip_processor(image_size: int) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
    )


def _byte_pair_tokenizer(
    *,
    specials: tuple[str, ...],
    normalizer: list[normalizers.Normalizer],
    template: str,
    specials_last: bool = False,
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[] if specials_last else list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if specials_last:
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, tokenizer.token_to_id(name)) for name in specials]
    )
    return tokenizer


def _random(cls: type[PreTrainedModel], config: object, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cls(config)  # type: ignore[arg-type]  # each class takes its own config
        # The default initialisation is so small that embeddings of different inputs coincide.
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "logit" not in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _save(
    directory: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast | None,
    processor: object,
) -> Path:
    path = Path(directory)
    model.save_pretrained(path)
    if tokenizer is not None:
        tokenizer.save_pretrained(path)
    processor.save_pretrained(path)  # type: ignore[attr-defined]  # every processor saves itself
    return path
