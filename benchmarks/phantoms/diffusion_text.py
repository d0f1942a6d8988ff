"""Train the tokenizer and the CLIP text encoder of phantom-sd, on texts alone.

``python -m benchmarks.phantoms.diffusion_text SCRATCH OUT``; an interrupted run continues.

The encoder must tell prompts apart before any picture is shown: from the pooled ``</s>`` it
predicts which words a text holds, and two readings of one text with words left out have to find
each other among those of the batch. It is frozen afterwards. The towers of the embedded encoders
play no part in it, so that no reward and no score is fed what it judges by.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from benchmarks.phantoms.architectures import SPECIAL, VOCABULARY
from benchmarks.phantoms.corpus import COUNTS
from benchmarks.phantoms.diffusion_captions import GENERIC, MODALITIES
from benchmarks.phantoms.diffusion_pictures import SEED, read_pictures
from benchmarks.phantoms.loop import add_machine, run, set_machine
from cas_metric.domains import load_domain

TOKEN_LIMIT = 77
#: Share of the words that a reading leaves out.
DROPPED = 0.15
TEMPERATURE = 0.1


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of ``<s> … </s>``, lower case, without punctuation.

    Punctuation is dropped by the splitter, not by the normaliser: a learned token such as
    ``<pleural-effusion>`` is looked for in normalised text and must keep its brackets.
    """
    pad, eos, unk, bos = SPECIAL.values()
    tokenizer = Tokenizer(models.BPE(unk_token=unk))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^a-z0-9]+"), behavior="removed")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[pad, eos, unk, bos], end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (bos, eos)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=TOKEN_LIMIT, padding_side="right", **SPECIAL
    )


def build_text_encoder(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """The untrained text encoder."""
    torch.manual_seed(SEED)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKEN_LIMIT,
        projection_dim=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return CLIPTextModel(config)


def readings(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Each text with some of its words left out."""
    kept = []
    for text in texts:
        words = text.split()
        mask = rng.random(len(words)) >= DROPPED
        kept.append(" ".join(word for word, keep in zip(words, mask, strict=True) if keep))
    return kept


def all_texts(prompts: tuple[str, ...]) -> list[str]:
    """Prompts of every domain, the checklists, class names, modalities and generic words."""
    texts = list(prompts)
    for name in COUNTS:
        domain = load_domain(name)
        texts += [domain.checklist_text(label) for label in domain.class_names] * 20
        texts += list(domain.class_names) * 20
    texts += [caption for captions in MODALITIES.values() for caption in captions] * 20
    return texts + list(GENERIC) * 20


def train(texts: list[str], out: Path, options: argparse.Namespace) -> None:
    """Train both on ``texts`` and save them to ``out``."""
    device = set_machine(options)
    tokenizer = train_tokenizer(texts)
    tokenizer.save_pretrained(out / "tokenizer")
    encoder = build_text_encoder(tokenizer).to(device)
    words = nn.Linear(encoder.config.hidden_size, len(tokenizer)).to(device)

    def pooled(part: list[str]) -> tuple[Tensor, Tensor]:
        batch = tokenizer(
            part, padding="longest", max_length=TOKEN_LIMIT, truncation=True, return_tensors="pt"
        )
        ids = batch.input_ids.to(device)
        return encoder(ids).pooler_output, ids

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([SEED, 3, step])
        # Set, because equal texts would have to be told apart.
        chosen = sorted({texts[row] for row in rng.choice(len(texts), options.batch)})
        left, ids = pooled(readings(chosen, rng))
        right, _ = pooled(readings(chosen, rng))
        held = torch.zeros(len(chosen), len(tokenizer), device=device).scatter_(1, ids, 1.0)
        named = F.binary_cross_entropy_with_logits(words(left), held, reduction="sum") / len(chosen)
        logits = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T / TEMPERATURE
        paired = F.cross_entropy(logits, torch.arange(len(chosen), device=device))
        return {"total": 0.1 * named + paired, "words": named, "pairs": paired}

    parameters = {**dict(encoder.named_parameters()), **dict(words.named_parameters("words"))}
    folder = out / "checkpoints-text"
    run(loss, parameters, folder, steps=options.steps, rate=options.rate, muon=False)
    encoder.half().cpu().save_pretrained(out / "text_encoder")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`train`."""
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1e-3)
    add_machine(parser)


def main() -> None:
    """Train on the texts of the phantoms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    add_options(parser)
    options = parser.parse_args()
    train(all_texts(read_pictures(options.scratch).prompts), options.out, options)


if __name__ == "__main__":
    main()
