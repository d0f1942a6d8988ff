"""One word, yes or no, and how sure a model is of it: VQAScore of a single question.

P(yes) is the share that the model's next-token distribution gives to the word, in any of its
spellings (Lin et al., *Evaluating Text-to-Visual Generation with Image-to-Text Generation*, ECCV
2024, https://arxiv.org/abs/2404.01291). A model that gives no distribution answers with the word
alone, which counts as 1 or 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel

from cas_metric.mllm.extraction import spoken
from cas_metric.mllm.types import Reply

WORDS: Final = ("yes", "no")
#: Spellings of which tokenizers have a token each.
SPELLINGS: Final = tuple(
    tuple(space + form(word) for space in ("", " ") for form in (str.lower, str.title, str.upper))
    for word in WORDS
)
#: What is said to a model that answered with neither word.
ONE_WORD: Final = "answer with one word: yes or no"
#: Most likely tokens that are asked for, as many as OpenAI gives.
TOP: Final = 20
_WORD = re.compile(r"\W*(yes|no)\b[\s.!\"'*`}]*", re.IGNORECASE)


class YesNo(BaseModel):
    """How sure a model is.

    Attributes:
        p_yes: Probability of the word yes, in [0, 1].
        p_no: Of the word no; what is missing to 1 went to other words.
        source: ``logits`` of a local model, ``logprobs`` of a server, or the ``answer`` itself,
            which is 1 or 0.
    """

    p_yes: float
    p_no: float
    source: Literal["logits", "logprobs", "answer"]

    @property
    def score(self) -> float:
        """P(yes) among the two words, in [0, 1]."""
        return self.p_yes / (self.p_yes + self.p_no)


def read_yes_no(reply: Reply) -> YesNo | None:
    """What a reply says; None where it says neither word."""
    if reply.shares is not None and sum(reply.shares) > 0:
        p_yes, p_no = reply.shares
        return YesNo(p_yes=p_yes, p_no=p_no, source=reply.shares_from or "logits")
    found = _WORD.fullmatch(spoken(reply.text))
    if found is None:
        return None
    yes = found.group(1).lower() == "yes"
    return YesNo(p_yes=float(yes), p_no=float(not yes), source="answer")


def logprob_shares(choice: Mapping[str, Any]) -> tuple[float, float] | None:
    """P(yes) and P(no) of a chat completion's choice.

    They are those of the first token that is no white space. None for servers that give no
    probabilities, and where a model thinks before it answers: the first token is then of a thought.

    Args:
        choice: With ``logprobs.content[].top_logprobs[]`` where the server gives them.
    """
    try:
        tokens = choice["logprobs"]["content"]
        first = next(one for one in tokens if str(one["token"]).strip())
        listed = [*first["top_logprobs"], first]
        known = {str(one["token"]): float(one["logprob"]) for one in listed}
    except (KeyError, TypeError, ValueError, StopIteration):
        return None
    shares = [0.0, 0.0]
    for token, logprob in known.items():
        word = token.strip().lower()
        if word in WORDS and not math.isnan(logprob):
            shares[WORDS.index(word)] += math.exp(min(logprob, 0.0))
    return (min(shares[0], 1.0), min(shares[1], 1.0)) if sum(shares) > 0 else None
