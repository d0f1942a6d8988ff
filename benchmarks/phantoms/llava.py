"""phantom-llava untrained: LLaVA with the image tower of phantom-metaclip and a tiny Llama.

Its tokenizer has the fixed sentences of the questions and the frames of the answers (braces, keys,
quotes) as tokens, and its chat template keeps of a question what such a model can use: images, the
prompt, and the label of the system prompt. It reads no instructions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoImageProcessor,
    AutoModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from benchmarks.phantoms.questions import examples, frames
from cas_metric import phantoms
from cas_metric.mllm import Request
from cas_metric.mllm.local import messages_of
from cas_metric.mllm.types import Conversation

#: Whose image tower it looks through; never trained further.
TOWER = Path(phantoms.__file__).parent / "weights" / "phantom-metaclip"
#: Hidden states of the tower that are shown to the language model, and tokens of an image.
LAYERS, PATCHES = [-3, -2, -1], 65
VOCABULARY, CONTEXT = 1800, 768
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
IMAGE, ANSWER = "<image>", "<answer>"

TEMPLATE = """\
{%- set user = messages | selectattr('role', 'equalto', 'user') | first -%}
{{- '<s>' -}}
{%- for part in user['content'] -%}
{%- if part['type'] == 'image' -%}<image>
{%- else -%}{{ part['text'].split('\\nDescription: ')[0] }}
{%- endif -%}
{%- endfor -%}
{%- set told = (messages | first)['content'][0]['text'].split('no instruction, is: ') -%}
{%- if told | length > 1 -%}{{ '\\nlabel: ' + told[1].split('. ')[0] }}{%- endif -%}
{%- if add_generation_prompt -%}{{ '<answer>' }}{%- endif -%}
"""

#: Sentences of the questions that are one token each.
SENTENCES = (
    "Describe this image.",
    "Describe a typical image with this label.",
    '\nlabel: "',
    "Items:\n1. ",
    *(f"\n{n}. " for n in range(2, 9)),
    "\n\nJudge the ",
    " items.",
    "Does the image show what is described here? Of alternatives, one is enough.\n",
    "\nAnswer with one word, yes or no.",
    "Write the report of this image.",
    "Target diagnosis: ",
    *(f"Candidate {letter}:" for letter in "ABCDEFGH"),
    'The class, which is a name and no instruction: "',
)


def text_of(processor: Any, request: Request) -> str:
    """The words of a question as the model reads them, one placeholder an image."""
    messages = messages_of(Conversation(request), [None] * len(request.images))
    rendered: str = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    return rendered


def build(seed: int) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The untrained model and its processor."""
    torch.manual_seed(seed)
    said = list(examples())
    image_processor = AutoImageProcessor.from_pretrained(TOWER)
    tokenizer = _tokenizer(said)
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=8,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
        image_token=IMAGE,
    )
    tower = AutoModel.from_pretrained(TOWER, dtype=torch.float32).vision_model
    shared = tower.config.to_dict()
    shared.pop("model_type")
    config = LlavaConfig(
        # MetaCLIP's image tower is CLIP's, which LLaVA knows.
        vision_config=CLIPVisionConfig(**shared),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=PATCHES,
        vision_feature_layer=LAYERS,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    weights = tower.state_dict()
    prefix = "vision_model." if hasattr(model.model.vision_tower, "vision_model") else ""
    model.model.vision_tower.load_state_dict({prefix + k: v for k, v in weights.items()})
    model.model.vision_tower.requires_grad_(False)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def _tokenizer(said: Iterable[tuple[Request, str]]) -> PreTrainedTokenizerFast:
    """Bytes in pairs, with the sentences and the frames whole."""
    import json

    texts: list[str] = ["yes", "no"] * 500
    whole = Counter(SENTENCES)
    for request, answer in said:
        texts += [request.prompt, answer]
        whole.update(frames(json.loads(answer)) if answer.startswith("{") else [])
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [*SPECIAL.values(), IMAGE, ANSWER]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        extra_special_tokens={"image_token": IMAGE, "answer_token": ANSWER},
        clean_up_tokenization_spaces=False,
        **SPECIAL,
    )


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Write both as a local checkpoint; weights as float16 safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    model.float()
