"""Train phantom-llava, the small language model that sees phantoms: half an hour on one core.

``python -m benchmarks.phantoms.multimodal SCRATCH OUT`` draws phantoms into SCRATCH, keeps what the
frozen image tower makes of them, and teaches the language model every question that the packages
put (see :mod:`benchmarks.phantoms.questions`). An interrupted training continues with the same
command. The questions about one image follow it in one sequence and do not see each other, so that
an image is read once; the numbers are those of one question at a time.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    LlavaForConditionalGeneration,
)

from benchmarks.phantoms import questions as ask
from benchmarks.phantoms.llava import IMAGE, LAYERS, PATCHES, TOWER, build, save, text_of
from benchmarks.phantoms.loop import add_machine, run, set_machine
from cas_metric.phantoms import DOMAINS, renderer

#: Pictures of each domain.
COUNTS = {
    "phantom-fitzpatrick17k": 2400,
    "phantom-chexpert": 2000,
    "phantom-breakhis": 1280,
    "phantom-origa": 960,
}
#: Of ten pictures of a class: one lacks its sign, two are damaged.
KINDS = ("missing", "damaged", "damaged", *("faithful",) * 7)
SEED = 5
#: Sequences of a step: images, of which every third is audited whole; rankings; text alone.
IMAGES, RANKINGS, DESCRIBED, DRAFTED = 14, 4, 2, 1
ITEMS = 3
#: In the second phase (--focused): items of an image, every how many images it is described and
#: reported on, and how much rankings weigh. What is seen is learned long before items are held
#: against it.
FOCUSED_ITEMS, FOCUSED_WORDS, RANKING_WEIGHTS = 8, 3, (0.3, 0.8)
#: One word weighs as much as so many of an object.
WORD = 4.0


@dataclass
class Block:
    """A question and its answer, as tokens."""

    asked: list[int]
    answer: list[int]
    weight: float = 1.0


@dataclass
class Packed:
    """What all blocks see (tokens; an image is -1 and its row), and the blocks."""

    images: list[int]
    prefix: list[int]
    blocks: list[Block] = field(default_factory=list)


class Store:
    """Pictures: their truth in memory, what the tower makes of them in a memory map."""

    def __init__(self, scratch: Path, scale: float) -> None:
        self.pictures: list[ask.Picture] = []
        self.domains: list[str] = []
        parts = []
        for domain in DOMAINS:
            count = int(COUNTS[domain] * scale)
            path = scratch / f"{domain}-{count}.npy"
            if not path.exists():
                _write_features(path, [_picture(domain, number) for number in range(count)])
            parts.append(np.load(path, mmap_mode="r+"))
            # Pixels are no longer wanted, only what is true of them.
            self.pictures += [_picture(domain, number, drawn=False) for number in range(count)]
            self.domains += [domain] * count
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.pools: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        for row, (domain, one) in enumerate(zip(self.domains, self.pictures, strict=True)):
            for label in renderer(domain).classes:
                self.pools[domain, label, ask.quality(one, label)].append(row)

    def features(self, rows: Sequence[int]) -> Tensor:
        """``(n, PATCHES, width)`` of the tower."""
        found = []
        for row in rows:
            part = int(np.searchsorted(self._starts, row, side="right")) - 1
            found.append(torch.from_numpy(self._parts[part][row - self._starts[part]]))
        return torch.stack(found).float()


def _picture(domain: str, number: int, *, drawn: bool = True) -> ask.Picture:
    classes = renderer(domain).classes
    kind = KINDS[number // len(classes) % len(KINDS)]
    return ask.picture(domain, classes[number % len(classes)], kind, SEED, number, drawn=drawn)


@torch.inference_mode()
def _write_features(path: Path, found: Sequence[ask.Picture]) -> None:
    """What the tower makes of pictures, ``(N, PATCHES, width)`` float16."""
    tower = AutoModel.from_pretrained(TOWER, dtype=torch.float32).vision_model.eval()
    process = AutoImageProcessor.from_pretrained(TOWER)
    kept = np.empty((len(found), PATCHES, len(LAYERS) * tower.config.hidden_size), np.float16)
    for start in range(0, len(found), 64):
        some = [one.pixels for one in found[start : start + 64]]
        pixels = process(some, return_tensors="pt")["pixel_values"]
        states = tower(pixels, output_hidden_states=True).hidden_states
        kept[start : start + 64] = torch.cat([states[layer] for layer in LAYERS], dim=-1).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".partial.npy"), kept)
    path.with_suffix(".partial.npy").rename(path)


class Trainer:
    """The model, its pictures, and the loss of a step."""

    def __init__(self, scratch: Path, out: Path, scale: float, focused: bool = False) -> None:
        self.focused = focused
        self.model, self.processor = begun(out / "untrained")
        self.store = Store(scratch, scale)
        self.tokenizer = self.processor.tokenizer
        self.image = self.tokenizer.convert_tokens_to_ids(IMAGE)
        self._read: dict[Any, list[int]] = {}

    # -- sequences ------------------------------------------------------------------------------

    def asked(self, request: Any) -> list[int]:
        """The tokens of a question; an image is one placeholder."""
        key = id(request)  # requests are cached, see questions.py
        if key not in self._read:
            text = text_of(self.processor, request)
            self._read[key] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self._read[key]

    def block(self, request: Any, answer: Any, skip: int, weight: float = 1.0) -> Block:
        """A block whose question begins behind ``skip`` tokens that all share."""
        said = answer if isinstance(answer, str) else ask.dumped(answer)
        ids = self.tokenizer(said, add_special_tokens=False).input_ids
        ends = [*ids, self.tokenizer.eos_token_id]
        return Block(self.asked(request)[skip:], ends, weight)

    def about_images(self, rng: np.random.Generator) -> Iterator[Packed]:
        """Images of every domain, each with several questions."""
        rows = rng.integers(len(self.store.pictures), size=IMAGES)
        for place, row in enumerate(rows.tolist()):
            one, domain = self.store.pictures[row], self.store.domains[row]
            made = Packed([row], self.asked(ask.report(domain))[:2])
            worded = not self.focused or place % FOCUSED_WORDS == 1
            if worded:
                made.blocks.append(self.block(ask.report(domain), ask.reported(one), 2))
            if worded and one.drawn == one.spec.label and not one.damaged:
                request = ask.describe(domain, one.spec.label)
                made.blocks.append(self.block(request, ask.described(one), 2))
            classes = renderer(domain).classes
            for number in range(FOCUSED_ITEMS if self.focused else ITEMS):
                label = one.drawn if number % 2 == 0 and one.drawn else str(rng.choice(classes))
                requests = ask.graded(domain, label)
                item = int(rng.integers(len(requests)))
                there = ask.items_present(ask.load_domain(domain), one.drawn, label)[item]
                word = "yes" if there else "no"
                made.blocks.append(self.block(requests[item], word, 2, WORD))
            if place % 3 == 0:
                label = one.drawn if rng.random() < 0.5 and one.drawn else str(rng.choice(classes))
                request = ask.audit(domain, label)
                made.blocks.append(self.block(request, ask.audited(one, domain, label), 2))
            yield made

    def rankings(self, rng: np.random.Generator) -> Iterator[Packed]:
        """Candidates of different quality in random order."""
        count = int(rng.integers(2, 4))
        for _ in range(RANKINGS):
            domain, label = ask.pairs()[int(rng.integers(len(ask.pairs())))]
            qualities = rng.permutation(3)[:count].tolist()
            rows = [int(rng.choice(self.store.pools[domain, label, q])) for q in qualities]
            request = ask.judge(domain, label, count)
            made = Packed(rows, self.asked(request)[:1])
            made.blocks.append(self.block(request, ask.ranked(qualities), 1, WORD))
            yield made

    def texts(self, rng: np.random.Generator) -> Iterator[Packed]:
        """Questions without an image: typical descriptions, and checklists."""
        start = [self.tokenizer.bos_token_id]
        faithful = [one for one in ask.pairs() if self.store.pools[one[0], one[1], 2]]
        for number in range(DESCRIBED + DRAFTED):
            domain, label = faithful[int(rng.integers(len(faithful)))]
            made = Packed([], start)
            if number < DESCRIBED:
                row = int(rng.choice(self.store.pools[domain, label, 2]))
                request = ask.describe(domain, label, shown=False)
                answer: Any = ask.described(self.store.pictures[row])
            else:
                request, answer = ask.draft(domain)[label], ask.drafted(domain, label)
            made.blocks.append(self.block(request, answer, 1))
            yield made

    # -- loss -----------------------------------------------------------------------------------

    def loss(self, step: int) -> dict[str, Tensor]:
        """One step's loss, by kind of sequence."""
        rng = np.random.default_rng([SEED, step])
        parts = {
            "image": self._loss(list(self.about_images(rng))),
            "rank": self._loss(list(self.rankings(rng))),
            "text": self._loss(list(self.texts(rng))),
        }
        total = (
            parts["image"] + RANKING_WEIGHTS[self.focused] * parts["rank"] + 0.15 * parts["text"]
        )
        return {"total": total, **parts}

    def _loss(self, sequences: Sequence[Packed]) -> Tensor:
        ids, position, owner, target, weight = self._collate(sequences)
        network = self.model.model
        embedded = network.language_model.embed_tokens(ids.clamp(min=0))
        rows = [row for one in sequences for row in one.images]
        if rows:
            seen = network.multi_modal_projector(self.store.features(rows))
            embedded = embedded.masked_scatter((ids == self.image)[..., None], seen)
        length = ids.shape[1]
        before = torch.ones(length, length, dtype=torch.bool).tril()
        same = (owner[:, :, None] == owner[:, None]) | (owner[:, None] == 0)
        mask = (before & same & (owner >= 0)[:, None]) | torch.eye(length, dtype=torch.bool)
        states = network.language_model(
            inputs_embeds=embedded, attention_mask=mask[:, None], position_ids=position
        ).last_hidden_state
        told = target >= 0
        logits = self.model.lm_head(states[told])
        each = F.cross_entropy(logits, target[told], reduction="none")
        return (each * weight[told]).sum() / weight[told].sum()

    def _collate(self, sequences: Sequence[Packed]) -> tuple[Tensor, ...]:
        """``(B, L)`` tokens, positions, owners (0 what all see, -1 padding), targets, weights."""
        made = []
        for one in sequences:
            ids = self._spread(one.prefix)
            rows = [[token, place, 0, -1, 0.0] for place, token in enumerate(ids)]
            for number, block in enumerate(one.blocks, start=1):
                asked = self._spread(block.asked)
                whole = asked + block.answer
                for place, token in enumerate(whole[:-1]):
                    told = place >= len(asked) - 1
                    goal = whole[place + 1] if told else -1
                    rows.append([token, len(ids) + place, number, goal, block.weight])
            made.append(rows)
        length = max(map(len, made))
        padded = [rows + [[0, 0, -1, -1, 0.0]] * (length - len(rows)) for rows in made]
        values = torch.tensor(padded)
        whole_numbers = values[..., :4].long()
        return (*whole_numbers.unbind(-1), values[..., 4])

    def _spread(self, tokens: Sequence[int]) -> list[int]:
        """Tokens with an image's placeholder repeated for each of its patches."""
        return [t for token in tokens for t in [token] * (PATCHES if token == self.image else 1)]

    def run(self, steps: int, rate: float, out: Path) -> None:
        """Train, and write the model to ``out``."""
        named = dict(self.model.named_parameters())
        trained = {name: value for name, value in named.items() if value.requires_grad}
        plain = [name for name in trained if "embed" in name]
        run(
            self.loss,
            trained,
            out / "checkpoints",
            steps=steps,
            rate=rate,
            hold=0.5,
            plain=plain,
        )
        self.model.tie_weights()
        save(self.model, self.processor, out)
        told = {"steps": steps, "learning_rate": rate, "optimizer": "Muon", "pictures": COUNTS}
        (out / "training.json").write_text(json.dumps(told, indent=2) + "\n")


def begun(folder: Path) -> tuple[Any, Any]:
    """The untrained model, kept in ``folder``: its tokenizer takes half a minute."""
    if not folder.exists():
        save(*build(SEED), folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    model.model.vision_tower.requires_grad_(False)
    return model.train(), AutoProcessor.from_pretrained(folder)


def main() -> None:
    """Train phantom-llava."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the pictures")
    parser.add_argument("--focused", action="store_true", help="second phase: items, rankings")
    add_machine(parser)
    options = parser.parse_args()
    set_machine(options)
    Trainer(options.scratch, options.out, options.scale, options.focused).run(
        options.steps, options.rate, options.out
    )


if __name__ == "__main__":
    main()
