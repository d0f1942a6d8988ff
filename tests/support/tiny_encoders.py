"""Tiny random checkpoints of the encoder families beyond :mod:`tests.support.tiny_models`.

Each ``build_*`` writes one directory as its publishers lay it out; nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    BertTokenizerFast,
    CLIPImageProcessorPil,
    PreTrainedTokenizerFast,
    ViTImageProcessorPil,
)

from tests.support.tiny_models import CORPUS, _clip_tokenizer, _random, _save, build_clip

SIZE: Final = 32
PATCH: Final = 8
WIDTH: Final = 32

_LAYERS: Final = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
_PICTURE: Final = {"image_size": SIZE, "patch_size": PATCH}
_BOTH: Final = {**_LAYERS, **_PICTURE, "intermediate_size": 2 * WIDTH}


def build_long_clip(directory: Path) -> Path:
    """A CLIP of 248 positions whose tokenizer still says 77."""
    return build_clip(directory, token_limit=248, tokenizer=_clip_tokenizer(77))


def build_dinov2_with_registers(directory: Path) -> Path:
    """DINOv2 with four registers."""
    config = transformers.Dinov2WithRegistersConfig(**_LAYERS, **_PICTURE, mlp_ratio=2)
    processor = transformers.BitImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": SIZE, "width": SIZE}
    )
    model = _random(transformers.Dinov2WithRegistersModel, config, 0)
    return _save(directory, model, None, processor)


def build_dinov3(directory: Path) -> Path:
    """DINOv3, whose processor resizes floats through torchvision."""
    config = transformers.DINOv3ViTConfig(**_BOTH, num_register_tokens=4)
    processor = transformers.DINOv3ViTImageProcessor(size={"height": SIZE, "width": SIZE})
    return _save(directory, _random(transformers.DINOv3ViTModel, config, 0), None, processor)


def build_vit(directory: Path) -> Path:
    """A classifier, as Google's are published."""
    config = transformers.ViTConfig(**_BOTH, num_labels=5)
    model = _random(transformers.ViTForImageClassification, config, 0)
    return _save(directory, model, None, _squash())


def build_mae(directory: Path) -> Path:
    """A masked autoencoder with its decoder, as published."""
    config = transformers.ViTMAEConfig(
        **_BOTH, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2
    )
    model = _random(transformers.ViTMAEForPreTraining, config, 0)
    return _save(directory, model, None, _squash())


def build_radio(directory: Path) -> Path:
    """C-RADIO, which normalises pixels itself."""
    config = transformers.RadioConfig(**_LAYERS, **_PICTURE, mlp_ratio=2.0, max_img_size=64)
    processor = CLIPImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, do_center_crop=False, do_normalize=False
    )
    return _save(directory, _random(transformers.RadioModel, config, 0), None, processor)


def build_aimv2_vision(directory: Path) -> Path:
    """AIMv2 without a head, as the pretrained ones are."""
    config = transformers.Aimv2VisionConfig(**_BOTH, use_head=False)
    model = _random(transformers.Aimv2VisionModel, config, 0)
    return _save(directory, model, None, _cropping())


def build_aimv2(directory: Path) -> Path:
    """AIMv2 with a text tower."""
    tokenizer = _clip_tokenizer(77)
    config = transformers.Aimv2Config(
        vision_config={**_BOTH, "use_head": True},
        text_config={
            **_LAYERS,
            "intermediate_size": 2 * WIDTH,
            "vocab_size": len(tokenizer),
            "eos_token_id": tokenizer.eos_token_id,
            "max_position_embeddings": 77,
        },
        projection_dim=WIDTH,
    )
    model = _random(transformers.Aimv2Model, config, 0)
    return _save(directory, model, tokenizer, _cropping())


def build_naflex(directory: Path) -> Path:
    """SigLIP 2 NaFlex with at most 16 patches."""
    tokenizer = _word_tokenizer("$A </s>", limit=64)
    config = transformers.Siglip2Config(
        text_config={
            **_LAYERS,
            "intermediate_size": 2 * WIDTH,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            **_LAYERS,
            "intermediate_size": 2 * WIDTH,
            "patch_size": PATCH,
            "num_patches": 16,
        },
    )
    processor = transformers.Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=16)
    return _save(directory, _random(transformers.Siglip2Model, config, 0), tokenizer, processor)


def build_tipsv2(directory: Path) -> Path:
    """TIPS v2: no normalisation, no end of a text, a mean over its own tokens."""
    tokenizer = _word_tokenizer("$A", limit=64)
    config = transformers.Tipsv2Config(
        vision_config={**_LAYERS, **_PICTURE, "mlp_ratio": 2},
        text_config={
            **_LAYERS,
            "intermediate_size": 2 * WIDTH,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    processor = transformers.Tipsv2ImageProcessor(size={"height": SIZE, "width": SIZE})
    return _save(directory, _random(transformers.Tipsv2Model, config, 0), tokenizer, processor)


#: What model cards give in code, by the model that publishes it so: tiny.
TIMM_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "uni": {"init_values": 1e-5},
    "uni2-h": {
        "mlp_layer": "SwiGLUPacked",
        "act_layer": torch.nn.SiLU,
        "mlp_ratio": 2.66667 * 2,
        "init_values": 1e-5,
        "reg_tokens": 8,
        "no_embed_class": True,
    },
    "virchow2": {
        "mlp_layer": "SwiGLUPacked",
        "act_layer": torch.nn.SiLU,
        "mlp_ratio": 5.3375,
        "init_values": 1e-5,
        "reg_tokens": 4,
        "global_pool": "",
    },
    "h-optimus": {"init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True},
}


def timm_model(name: str) -> torch.nn.Module:
    """A tiny model with the arguments of a published one."""
    import timm

    arguments = dict(TIMM_ARGUMENTS[name])
    if "mlp_layer" in arguments:
        arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(
            "vit_tiny_patch16_224",
            img_size=SIZE,
            patch_size=PATCH,
            embed_dim=36,
            depth=2,
            num_heads=3,
            num_classes=0,
            **arguments,
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def timm_config(name: str) -> dict[str, Any]:
    """``config.json`` as such a model is published with: without most of its arguments."""
    pooled = TIMM_ARGUMENTS[name].get("global_pool", "token")
    return {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "global_pool": pooled,
        "model_args": {"img_size": SIZE, "num_heads": 3},
        "pretrained_cfg": {
            "input_size": [3, SIZE, SIZE],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.707223, 0.578729, 0.703617],
            "std": [0.211883, 0.230117, 0.177517],
        },
    }


def build_timm(directory: Path, name: str, weights: str = "model.safetensors") -> Path:
    """A directory of timm's, with safetensors or, by the name of the file, a pickle."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(timm_config(name)))
    state = timm_model(name).state_dict()
    if weights.endswith(".safetensors"):
        save_file(state, directory / weights)
    else:
        torch.save(state, directory / weights)
    return directory


BIOMED_TEXT: Final = {
    "model_type": "bert",
    **_LAYERS,
    "intermediate_size": 2 * WIDTH,
    "vocab_size": 200,
    "max_position_embeddings": 256,
}


def biomedclip_config() -> dict[str, Any]:
    """``open_clip_config.json`` of a tiny BiomedCLIP: a timm vision tower, a BERT, 256 tokens."""
    name = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    return {
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": {
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 224,
            },
            "text_cfg": {
                "hf_model_name": name,
                "hf_tokenizer_name": name,
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": 256,
            },
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }


def biomedclip_model(text_config: Path) -> Any:
    """The same model made by open_clip, its text tower from a local configuration."""
    from open_clip.model import CustomTextCLIP

    configuration = biomedclip_config()["model_cfg"]
    configuration["text_cfg"] |= {"hf_model_name": str(text_config), "hf_model_pretrained": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CustomTextCLIP(**configuration).eval()


def build_biomedclip(directory: Path, weights: str = "open_clip_pytorch_model.bin") -> Path:
    """As published: configuration, vocabulary and a pickle."""
    directory.mkdir(parents=True)
    text = directory.parent / f"{directory.name}-text"
    text.mkdir()
    (text / "config.json").write_text(json.dumps(BIOMED_TEXT))
    (directory / "open_clip_config.json").write_text(json.dumps(biomedclip_config()))
    bert_tokenizer().save_pretrained(directory)
    torch.save(biomedclip_model(text).state_dict(), directory / weights)
    return directory


def bert_tokenizer() -> BertTokenizerFast:
    """Whole words and letters of the corpus, as BERT's word pieces."""
    words = sorted({word.strip(".,:;/").lower() for line in CORPUS for word in line.split()})
    letters = [chr(c) for c in range(97, 123)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    names += [f"##{letter}" for letter in letters] + words
    return BertTokenizerFast(vocab={name: i for i, name in enumerate(dict.fromkeys(names[:200]))})


def _squash() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})


def _cropping() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )


def _word_tokenizer(template: str, limit: int) -> PreTrainedTokenizerFast:
    from tokenizers import normalizers

    from tests.support.tiny_models import _byte_pair_tokenizer

    tokenizer = _byte_pair_tokenizer(
        specials=("<pad>", "</s>", "<unk>"),
        normalizer=[normalizers.Lowercase()],
        template=template,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=limit,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


BUILDERS: Final[dict[str, Callable[[Path], Path]]] = {
    "clip, 248 tokens": build_long_clip,
    "dinov2_with_registers": build_dinov2_with_registers,
    "dinov3_vit": build_dinov3,
    "siglip2 (naflex)": build_naflex,
    "aimv2": build_aimv2,
    "aimv2_vision_model": build_aimv2_vision,
    "vit": build_vit,
    "vit_mae": build_mae,
    "radio": build_radio,
    "tipsv2": build_tipsv2,
}
