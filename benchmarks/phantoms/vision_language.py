"""Train phantom-siglip, phantom-medsiglip or phantom-metaclip on drawn phantoms.

``python -m benchmarks.phantoms.vision_language phantom-siglip SCRATCH OUT``; for the evaluator
then twice more, with ``--focused --steps 900 --rate 7e-4`` and ``--focused --steps 450 --rate
5e-4``. What was done is in the ``training.json`` beside the weights.

Two losses: images against their own prompts (pairwise sigmoid for SigLIP, InfoNCE for CLIP), and
images against the checklists and names of all classes of all domains (cross-entropy). Identical
prompts count as positives of each other. While the text tower still says the same of everything,
a linear classifier on the image embedding, dropped afterwards, gives the image tower its gradient.
Checkpoints go to OUT/checkpoints-N, one folder a phase: an interrupted phase continues with the
command that began it. To train an embedded encoder further, copy its folder to OUT first.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.phantoms.architectures import TOKEN_LIMIT, build, load, save
from benchmarks.phantoms.corpus import COUNTS, read_corpus
from benchmarks.phantoms.loop import add_machine, run, set_machine
from cas_metric.domains import load_domain

#: Model -> seed of its weights and of its corpus: the critic never sees the evaluator's data.
SEEDS = {"phantom-siglip": 0, "phantom-medsiglip": 1, "phantom-metaclip": 2}
#: Share of every batch that each domain gets; twenty classes need more than two.
SHARES = {
    "phantom-chexpert": 0.25,
    "phantom-fitzpatrick17k": 0.35,
    "phantom-breakhis": 0.2,
    "phantom-origa": 0.2,
}


#: The same for a second phase, when the classes that differ in whole shapes are learned and those
#: that differ in a faint opacity are not.
FOCUSED = {
    "phantom-chexpert": 0.55,
    "phantom-fitzpatrick17k": 0.2,
    "phantom-breakhis": 0.15,
    "phantom-origa": 0.1,
}
#: Only every so many images of a batch meet their prompt: texts cost as much as images do.
CAPTIONED_EVERY = 2


@dataclass(frozen=True)
class ClassTexts:
    """Token ids of every class of every domain: ``(C, L)`` for checklists and for names."""

    checklists: Tensor
    names: Tensor
    offset: dict[str, int]


def class_name_text(domain: str, label: str) -> str:
    """The shortest description of a class: modality and name."""
    return f"{load_domain(domain).modality} of {label}"


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str], limit: int) -> Tensor:
    """Token ids ``(N, limit)``, cut and padded to ``limit``."""
    batch = tokenizer(
        texts, padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
    )
    return batch["input_ids"]


def class_texts(tokenizer: PreTrainedTokenizerFast, limit: int) -> ClassTexts:
    """Tokenize checklist and name of the classes of all domains."""
    checklists: list[str] = []
    names: list[str] = []
    offset = {}
    for name in COUNTS:
        domain = load_domain(name)
        offset[name] = len(names)
        checklists += [domain.checklist_text(label) for label in domain.class_names]
        names += [class_name_text(name, label) for label in domain.class_names]
    return ClassTexts(
        tokenize(tokenizer, checklists, limit), tokenize(tokenizer, names, limit), offset
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, brightness, contrast and noise; no mirroring, since sides carry meaning.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        generator: Source of the randomness.
    """
    batch, _, height, width = images.shape
    dy, dx = torch.randint(-3, 4, (2,), generator=generator).tolist()
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate")
    images = padded[:, :, 3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width]
    gain = 1 + 0.15 * torch.randn(batch, 1, 1, 1, generator=generator)
    shift = 0.04 * torch.randn(batch, 1, 1, 1, generator=generator)
    noise = 0.02 * torch.randn(images.shape, generator=generator)
    return ((images - 0.5) * gain + 0.5 + shift + noise).clamp(0, 1)


def prompt_loss(image: Tensor, text: Tensor, same: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Pairwise sigmoid loss (SigLIP), with ``same`` ``(B, B)`` marking equal prompts."""
    logits = image @ text.T * scale.exp() + bias
    return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(image)


def info_nce(image: Tensor, text: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE (CLIP); equal prompts share the target mass."""
    logits = image @ text.T * scale.exp()
    target = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def unit(features: object) -> Tensor:
    """Pooled features of a transformers output, normalised."""
    return F.normalize(features.pooler_output, dim=-1)  # type: ignore[attr-defined]


class Trainer:
    """One model, its data and its optimizer; ``run`` is the recipe."""

    def __init__(
        self,
        name: str,
        scratch: Path,
        scale: float,
        batch: int,
        start: Path | None = None,
        bfloat16: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.seed = seed = SEEDS[name]
        self.phase = len(json.loads((start / "training.json").read_text())) if start else 0
        self.batch, self.bfloat16 = batch, bfloat16
        self.shares = FOCUSED if start else SHARES
        self.corpora = {
            domain: read_corpus(scratch, domain, int(count * scale), seed)
            for domain, count in COUNTS.items()
        }
        texts = [text for corpus in self.corpora.values() for text in corpus.prompts]
        for domain in COUNTS:
            pack = load_domain(domain)
            for label in pack.class_names:
                texts += [pack.checklist_text(label), class_name_text(domain, label)] * 50
        self.model, self.processors = load(start) if start else build(name, seed, texts)
        if not start:
            self._set_logits()
        self.limit = TOKEN_LIMIT[name]
        tokenizer = self.processors[0]
        self.tokens = {
            domain: tokenize(tokenizer, list(corpus.prompts), self.limit).to(torch.int16)
            for domain, corpus in self.corpora.items()
        }
        self.classes = class_texts(tokenizer, self.limit)
        width = self.model.config.vision_config.hidden_size
        self.classifier = nn.Linear(width, len(self.classes.names)).to(device)
        self.model.to(device)
        self.mean_std = (
            torch.tensor(self.processors[1].image_mean),
            torch.tensor(self.processors[1].image_std),
        )

    def _set_logits(self) -> None:
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(10.0))
            if hasattr(self.model, "logit_bias"):
                # As rare as a match is in a batch; SigLIP's -10 is for batches of 32,768.
                self.model.logit_bias.fill_(-math.log(self.batch / CAPTIONED_EVERY))

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A batch: augmented images ``(B, 3, H, W)``, tokens ``(B, L)``, class indices ``(B,)``."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        pixels, tokens, labels = [], [], []
        for domain, share in self.shares.items():
            corpus = self.corpora[domain]
            rows = np.sort(rng.choice(len(corpus.labels), int(share * self.batch), False))
            pixels.append(torch.from_numpy(corpus.images[rows]))
            tokens.append(self.tokens[domain][rows].long())
            labels.append(torch.from_numpy(corpus.labels[rows]) + self.classes.offset[domain])
        images = augment(torch.cat(pixels).permute(0, 3, 1, 2) / 255, generator)
        mean, std = (value.view(1, 3, 1, 1) for value in self.mean_std)
        return (images - mean) / std, torch.cat(tokens), torch.cat(labels)

    def loss(self, step: int) -> dict[str, Tensor]:
        """One step's loss, and its accuracy over the classes by text and by the classifier."""
        rng = np.random.default_rng([self.seed, self.phase, step])
        images, tokens, labels = (value.to(self.device) for value in self.draw(rng))
        tokens = tokens[::CAPTIONED_EVERY]
        model: PreTrainedModel = self.model
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            features = model.get_image_features(pixel_values=images)
            table = self.classes.checklists if rng.random() < 0.6 else self.classes.names
            ids = torch.cat([tokens, table.to(self.device)])
            text = unit(model.get_text_features(input_ids=ids))
        image, text = unit(features).float(), text.float()
        prompts, classes = text[: len(tokens)], text[len(tokens) :]
        same = (tokens[:, None] == tokens[None]).all(dim=-1)
        paired = image[::CAPTIONED_EVERY]
        if hasattr(model, "logit_bias"):
            loss = prompt_loss(paired, prompts, same, model.logit_scale, model.logit_bias)
        else:
            loss = info_nce(paired, prompts, same, model.logit_scale)
        logits = image @ classes.T * model.logit_scale.exp()
        direct = self.classifier(features.pooler_output.float())
        total = loss + F.cross_entropy(logits, labels) + F.cross_entropy(direct, labels)
        return {
            "total": total,
            "text": (logits.argmax(dim=1) == labels).float().mean(),
            "direct": (direct.argmax(dim=1) == labels).float().mean(),
        }

    def run(self, steps: int, rate: float, out: Path, muon: bool = False) -> None:
        """Train for ``steps`` steps and write the model to ``out``."""
        target = out / "training.json"
        phases = json.loads(target.read_text()) if self.phase else []
        named = dict(self.model.named_parameters())
        head = {f"classifier/{name}": value for name, value in self.classifier.named_parameters()}
        run(
            self.loss,
            {**named, **head},
            out / f"checkpoints-{self.phase}",
            steps=steps,
            rate=rate,
            weight_decay=0.05,
            muon=muon,
            plain=[*(name for name in named if "embedding" in name), *head],
        )
        save(self.model, self.processors, out)
        images = {domain: len(corpus.labels) for domain, corpus in self.corpora.items()}
        phases.append(
            {
                "steps": steps,
                "batch": self.batch,
                "learning_rate": rate,
                "optimizer": "Muon" if muon else "AdamW",
                "shares": self.shares,
                "images": images,
            }
        )
        target.write_text(json.dumps(phases, indent=2) + "\n")


def main() -> None:
    """Train one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(SEEDS))
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the corpora")
    parser.add_argument(
        "--focused", action="store_true", help="second phase: continue from what is in OUT"
    )
    add_machine(parser)
    parser.add_argument("--muon", action="store_true", help="Muon in place of AdamW")
    parser.add_argument(
        "--bfloat16", action="store_true", help="faster with AMX, 2.5 times slower without"
    )
    options = parser.parse_args()
    device = set_machine(options)
    start = options.out if options.focused else None
    trainer = Trainer(
        options.name, options.scratch, options.scale, options.batch, start, options.bfloat16, device
    )
    trainer.run(options.steps, options.rate, options.out, options.muon)


if __name__ == "__main__":
    main()
