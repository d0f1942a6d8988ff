"""P(yes) of a local model: one question at a time against batches with a shared beginning.

    python benchmarks/performance/yes_no.py [MODEL_DIRECTORY] [--images 32] [--items 5] [--rounds 3]

Without a directory a Gemma 3 of the tests' size is drawn from a seed, with a system prompt and
items as long as the audit's. Both sides run in turn, in one process, on the same questions; the
median of the rounds is printed, and the largest difference of their numbers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from cas_metric.domains import load_domain
from cas_metric.mllm import Answer, Conversation, Reply, Request, answer_all, open_model
from cas_metric.mllm.graded import graded_requests


def questions(folder: Path, images: int, items: int) -> list[Request]:
    """Questions of the graded audit about random images."""
    import pandas as pd

    pack = load_domain("phantom-chexpert")
    paths = []
    for number in range(images):
        paths.append(folder / f"{number}.png")
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    table = pd.DataFrame({"path": paths, "window": [None] * images})
    labels = [pack.class_names[number % 4] for number in range(images)]
    asked = graded_requests(table, pack, labels)
    return [request for request in asked if int(request.key.split(".")[1]) <= items]


class OneAtATime:
    """The same model without its way to answer many at once."""

    concurrent = False
    notes = ()

    def __init__(self, model: object) -> None:
        self.model = model
        self.name, self.identity = model.name, model.identity

    def reply(self, conversation: Conversation) -> Reply:
        """A plain pass over the whole question."""
        import torch

        with torch.inference_mode():
            shares = self.model._yes_no.single(conversation.request)
        return Reply("", shares=shares, shares_from="logits")


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--items", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        directory = given.directory
        if directory is None:
            from tests.support.tiny_vlm import build_gemma3

            directory = build_gemma3(folder / "model")
        model = open_model(f"local:{directory}")
        asked = questions(folder, given.images, given.items)
        answer_all(asked[: given.items], model)  # loads what is loaded once
        seconds: dict[str, list[float]] = {"one at a time": [], "batched": []}
        answers: dict[str, list[Answer]] = {}
        for _ in range(given.rounds):
            for name, side in (("one at a time", OneAtATime(model)), ("batched", model)):
                began = time.perf_counter()
                answers[name] = answer_all(asked, side)
                seconds[name].append(time.perf_counter() - began)
        for name, taken in seconds.items():
            rate = len(asked) / median(taken)
            print(f"{name:14} {median(taken):8.3f} s, {rate:8.1f} questions a second")
        ratio = median(seconds["one at a time"]) / median(seconds["batched"])
        pairs = zip(*answers.values(), strict=True)
        apart = max(abs(a.value.p_yes - b.value.p_yes) for a, b in pairs)
        print(f"{len(asked)} questions about {given.images} images: {ratio:.1f} times as fast")
        print(f"largest difference of P(yes): {apart:.1e}")


if __name__ == "__main__":
    main()
