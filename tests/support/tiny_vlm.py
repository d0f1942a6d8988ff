"""Tiny vision-language chat models in the hub's directory format, of the families of MedGemma
(Gemma 3) and Lingshu (Qwen2.5-VL).

The weights are drawn from a seed, so what the models say is noise; :func:`teach` trains one until
it gives certain answers to certain images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

#: Text that the byte-pair encoding learns its pieces from.
CORPUS = (
    '{"verdict": "yes", "why": "the image is bright"}',
    '{"verdict": "no", "why": "the image is dark"}',
    '{"devices": ["none"], "key_findings": ["clear lungs"], "visual_summary": "dark lung fields"}',
    "You are an expert radiologist. Answer with one JSON object, and nothing else.",
)

_GEMMA_TEMPLATE = """{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}
{% for c in m['content'] %}{% if c['type'] == 'image' %}<boi>{% else %}{{ c['text'] }}{% endif %}\
{% endfor %}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

#: As some published templates do, it knows no system prompt.
_QWEN_TEMPLATE = """{% for m in messages %}{% if m['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}<|im_start|>{{ m['role'] }}
{% for c in m['content'] %}{% if c['type'] == 'image' %}\
<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}\
<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def build_gemma3(directory: Path, *, seed: int = 0) -> Path:
    """A ``Gemma3ForConditionalGeneration`` of 40k parameters that sees 16 × 16 pixels."""
    specials = ("<pad>", "<eos>", "<bos>", "<unk>", "<boi>", "<eoi>", "<image_soft_token>")
    turns = ("<start_of_turn>", "<end_of_turn>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer((*specials, *turns)),
        pad_token="<pad>",
        eos_token="<end_of_turn>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={
            "boi_token": "<boi>",
            "eoi_token": "<eoi>",
            "image_token": "<image_soft_token>",
        },
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 16, "width": 16}),
        tokenizer,
        chat_template=_GEMMA_TEMPLATE,
        image_seq_length=4,
    )
    ids = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        text_config={
            **_text_tower(len(tokenizer)),
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "pad_token_id": ids("<pad>"),
            "eos_token_id": ids("<end_of_turn>"),
            "bos_token_id": ids("<bos>"),
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        mm_tokens_per_image=4,
        boi_token_index=ids("<boi>"),
        eoi_token_index=ids("<eoi>"),
        image_token_index=ids("<image_soft_token>"),
        eos_token_id=ids("<end_of_turn>"),
    )
    return _save(directory, Gemma3ForConditionalGeneration, config, processor, seed)


def build_qwen2_5_vl(directory: Path, *, seed: int = 0) -> Path:
    """A ``Qwen2_5_VLForConditionalGeneration`` that sees images at their own size."""
    specials = (
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
        *("<|image_pad|>", "<|video_pad|>"),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(specials), pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    pixels = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=pixels),
        tokenizer,
        Qwen2VLVideoProcessor(size=pixels),
        chat_template=_QWEN_TEMPLATE,
    )
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            **_text_tower(len(tokenizer)),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
            "eos_token_id": ids("<|im_end|>"),
            "bos_token_id": None,
            "pad_token_id": ids("<|endoftext|>"),
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    return _save(directory, Qwen2_5_VLForConditionalGeneration, config, processor, seed)


def teach(
    directory: Path, lessons: Sequence[tuple[list[dict[str, Any]], str]], *, steps: int = 300
) -> None:
    """Train the Gemma 3 in ``directory`` until it gives each conversation its answer.

    Args:
        directory: Read and written.
        lessons: Conversation in the form of the processor's template, and the answer.
        steps: Most steps; training ends where every token is certain.
    """
    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).train()
    end = torch.tensor([[model.generation_config.eos_token_id]])
    batches = []
    for messages, answer in lessons:
        asked = processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        said = processor.tokenizer(answer, return_tensors="pt", add_special_tokens=False).input_ids
        answered = torch.cat([said, end], dim=1)
        batch = {
            "attention_mask": torch.ones_like(answered),
            "token_type_ids": torch.zeros_like(answered),  # Gemma's: not an image
        }
        batch = {name: torch.cat([asked[name], rest], dim=1) for name, rest in batch.items()}
        silent = torch.full_like(asked["input_ids"], -100)
        batch["labels"] = torch.cat([silent, answered], dim=1)
        batch["input_ids"] = torch.cat([asked["input_ids"], answered], dim=1)
        batches.append({**asked, **batch})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = torch.stack([model(**batch).loss for batch in batches]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.03:
            break
    model.save_pretrained(directory)


def _text_tower(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
    }


def _tokenizer(specials: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _save(directory: Path, cls: Any, config: Any, processor: Any, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cls(config).eval()
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory
