"""P(yes) and P(no) of many questions from the logits of a local model, a batch at a time.

Questions about one image begin alike: with the system prompt, the image and the first words. That
beginning goes through the model once an image, several images together; the ends of all questions
then continue from its keys and values. Nothing is padded before an end, and what pads behind it
comes after the logits that are read, so the numbers are those of one question at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from cas_metric.errors import InputError
from cas_metric.mllm.types import Request
from cas_metric.mllm.yes_no import SPELLINGS, WORDS

#: Images whose beginnings go through the model together.
IMAGES: Final = 8
#: How far shared and single passes may differ: rounding, by precision.
_TOLERANCE: Final = {torch.float32: 1e-4}
_TOLERANCE_HALF: Final = 0.02
Shares = tuple[float, float]


@dataclass(frozen=True)
class Prepared:
    """Questions about one image.

    Attributes:
        positions: Of the questions.
        inputs: Tensors of the first question, with a batch of one.
        texts: ``(n,)`` tokens of each question's text; the image is one placeholder.
    """

    positions: list[int]
    inputs: dict[str, torch.Tensor]
    texts: list[list[int]]


class YesNoLogits:
    """Reads P(yes) and P(no) off a network.

    Args:
        network: A causal language model with images.
        tokenizer: Its tokenizer.
        prepare: Tensors of a question, and the tokens of its text.

    Raises:
        InputError: The tokenizer has no token for one of the words.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        prepare: Callable[[Request], tuple[dict[str, torch.Tensor], list[int]]],
        tokens: Callable[[Request], list[int]],
    ) -> None:
        self._network = network
        self._prepare = prepare
        self._tokens = tokens
        self._words = [word_tokens(tokenizer, spellings) for spellings in SPELLINGS]
        self._shared: bool | None = None

    def shares(self, requests: Sequence[Request]) -> list[Shares]:
        """``(N,)`` P(yes) and P(no) of questions, in their order."""
        found: list[Shares] = [(0.0, 0.0)] * len(requests)
        groups: defaultdict[Any, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            groups[request.images, request.system, request.window].append(position)
        waiting = list(groups.values())
        for start in range(0, len(waiting), IMAGES):
            for position, value in self._some(requests, waiting[start : start + IMAGES]):
                found[position] = value
        return found

    def single(self, request: Request) -> Shares:
        """The same of one question, by one plain pass."""
        inputs, _ = self._prepare(request)
        logits = self._network(**inputs, logits_to_keep=1).logits[:, -1]
        return self._read(logits)[0]

    def _some(
        self, requests: Sequence[Request], groups: Sequence[list[int]]
    ) -> list[tuple[int, Shares]]:
        """Those of a few images."""
        if self._shared is not False:
            prepared = []
            for positions in groups:
                inputs, first = self._prepare(requests[positions[0]])
                rest = [self._tokens(requests[k]) for k in positions[1:]]
                prepared.append(Prepared(positions, inputs, [first, *rest]))
            found = self._from_prefixes(prepared)
            if found and self._shared is None:
                self._shared = self._agrees(found[0][1], self.single(requests[found[0][0]]))
            if found and self._shared:
                return found
        return [(k, self.single(requests[k])) for positions in groups for k in positions]

    def _agrees(self, shared: Shares, single: Shares) -> bool:
        """Whether this architecture gives the same from a shared beginning as from a whole."""
        allowed = _TOLERANCE.get(self._network.dtype, _TOLERANCE_HALF)
        return max(abs(a - b) for a, b in zip(shared, single, strict=True)) <= allowed

    def _from_prefixes(self, prepared: Sequence[Prepared]) -> list[tuple[int, Shares]]:
        """Shares by position; empty where the beginnings cannot be told from the ends."""
        texts = [text for one in prepared for text in one.texts]
        common = min(_common(texts), min(map(len, texts)) - 1)
        by_length: defaultdict[int, list[Prepared]] = defaultdict(list)
        for one in prepared:
            tokens = one.inputs["input_ids"][0].tolist()
            end = one.texts[0][common:]
            if tokens[-len(end) :] != end:
                return []
            by_length[len(tokens) - len(end)].append(one)
        found: list[tuple[int, Shares]] = []
        for length, alike in by_length.items():
            found += self._alike(alike, length, common)
        return found

    def _alike(
        self, prepared: Sequence[Prepared], length: int, common: int
    ) -> list[tuple[int, Shares]]:
        """Those of images whose beginnings have ``length`` tokens each."""
        ids = prepared[0].inputs["input_ids"]
        begun = self._network(**_beginnings(prepared, length), use_cache=True, logits_to_keep=1)
        most = max(len(one.texts) for one in prepared)
        cache = begun.past_key_values
        cache.batch_repeat_interleave(most)
        ends = [
            one.texts[min(k, len(one.texts) - 1)][common:] for one in prepared for k in range(most)
        ]
        last = torch.tensor([len(end) - 1 for end in ends], device=ids.device)
        padded = torch.zeros((len(ends), int(last.max()) + 1), dtype=ids.dtype, device=ids.device)
        for row, end in enumerate(ends):
            padded[row, : len(end)] = torch.tensor(end, device=ids.device)
        read, place = torch.unique(last, return_inverse=True)
        logits = self._network(
            input_ids=padded, past_key_values=cache, use_cache=True, logits_to_keep=read
        ).logits
        shares = self._read(logits[torch.arange(len(ends), device=ids.device), place])
        return [
            (position, shares[number * most + k])
            for number, one in enumerate(prepared)
            for k, position in enumerate(one.positions)
        ]

    def _read(self, logits: torch.Tensor) -> list[Shares]:
        """``(B, V)`` logits as P(yes) and P(no): a softmax over the whole vocabulary."""
        shares = logits.double().softmax(dim=-1)
        yes, no = (shares[:, tokens].sum(dim=-1).tolist() for tokens in self._words)
        return list(zip(yes, no, strict=True))


def word_tokens(tokenizer: Any, spellings: Sequence[str]) -> list[int]:
    """The tokens that are one of the spellings, whole.

    Raises:
        InputError: There is none.
    """
    split = [tokenizer(text, add_special_tokens=False).input_ids for text in spellings]
    found = sorted({tokens[0] for tokens in split if len(tokens) == 1})
    if not found:
        raise InputError(
            f"the tokenizer has no token of its own for {spellings[0]!r}, so no probability of "
            f"{' or '.join(WORDS)} can be read",
            fix="take another model, or audit without --graded",
        )
    return found


def _common(texts: Sequence[list[int]]) -> int:
    """How many tokens all texts begin with."""
    columns = enumerate(zip(*texts, strict=False))
    return next((n for n, column in columns if len(set(column)) > 1), min(map(len, texts)))


def _beginnings(prepared: Sequence[Prepared], length: int) -> dict[str, torch.Tensor]:
    """Tensors of several questions, cut to their first ``length`` tokens; images stay whole."""
    whole = [one.inputs for one in prepared]
    batch = {}
    for name, first in whole[0].items():
        by_token = first.ndim == 2 and first.shape[1] == whole[0]["input_ids"].shape[1]
        parts = [one[name][:, :length] if by_token else one[name] for one in whole]
        batch[name] = torch.cat(parts)
    return batch
