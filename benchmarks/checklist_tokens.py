"""Which checklists are longer than an encoder reads?

``python -m benchmarks.checklist_tokens``

Counts the tokens of the checklists of the four data sets with CLIP's own byte-pair encoding, which
open_clip ships, and with the tokenizers of the embedded encoders. For released encoders, whose
tokenizers come with their weights, ``cas encoders checklists siglip`` prints the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from open_clip.tokenizer import SimpleTokenizer

from cas_metric.domains import load_domain
from cas_metric.encoders import load_encoder
from cas_metric.encoders.families.openclip import OpenClipTokenizer

DOMAINS = ("fitzpatrick17k", "chexpert", "breakhis", "origa")
CLIP_LIMIT = 77
Count = Callable[[Sequence[str]], list[int]]


def main() -> None:
    """Print a line a data set and tokenizer, as a Markdown table."""
    clip = OpenClipTokenizer(SimpleTokenizer(), CLIP_LIMIT)
    counters: list[tuple[str, int, Count]] = [("CLIP", CLIP_LIMIT, clip.count)]
    for alias in ("phantom-siglip", "phantom-metaclip"):
        encoder = load_encoder(alias, device="cpu")
        counters.append((alias, encoder.token_limit, encoder.count_tokens))
    print("| data set | tokenizer | limit | tokens | longer than 64 | longer than 77 |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in DOMAINS:
        domain = load_domain(name)
        texts = [domain.checklist_text(label) for label in domain.class_names]
        for tokenizer, limit, count in counters:
            tokens = count(texts)
            longer = " | ".join(
                f"{sum(n > cut for n in tokens)} of {len(texts)}" for cut in (64, 77)
            )
            print(f"| {name} | {tokenizer} | {limit} | {min(tokens)}–{max(tokens)} | {longer} |")


if __name__ == "__main__":
    main()
