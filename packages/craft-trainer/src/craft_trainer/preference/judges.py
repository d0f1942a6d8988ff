"""Who prefers one of two images: the four primitives in some encoder's space, or an MLLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from cas_metric import primitives
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.errors import InputError
from cas_metric.images import load_image
from cas_metric.mllm import AnswerCache, Model, Options, Request, answer_all, open_model
from cas_metric.scoring.probe import Probe
from craft_trainer.config.schema import Config
from craft_trainer.data.dataset import Examples
from craft_trainer.guards.samples import embed_arrays
from craft_trainer.preference.pairs import Candidates
from craft_trainer.rewards.clinical_alignment import EQUAL_WEIGHTS, Targets
from craft_trainer.rewards.targets import load_critic, prepare_targets

#: Told how many pairs are judged, and how many there are.
Progress = Callable[[int, int], None]
#: Pairs that are embedded together.
_JUDGED_TOGETHER = 16

_SYSTEM = """You compare two synthetic {modality} images of one finding. Decide which of the two \
shows the finding more faithfully to the description, with more plausible anatomy and fewer \
artefacts.{criteria} You must choose one."""


class Judge(Protocol):
    """By how much it prefers the first of two images; below 0 for the second."""

    name: str

    def prefer(
        self, candidates: Sequence[Candidates], folder: Path, progress: Progress
    ) -> list[float | None]:
        """One preference a pair, in the judge's unit; None where it gave no answer."""
        ...


class AlignmentJudge:
    """Prefers the image with the higher Clinical Alignment Score, or clinical reward.

    Args:
        examples: The prompts, with labels and reference images.
        encoder: In whose space is judged.
        cache: Embeddings of texts and references that are already known.
        score: ``cas`` is the mean of VDC, CCS, DD (0 or 1) and SFS; ``r_cam`` that of the rewards,
            with the log-likelihood in place of DD (Eq. 6).
        probe: A saved probe in the encoder's space; by default one is fitted on the references.
    """

    def __init__(
        self,
        examples: Examples,
        encoder: Encoder,
        cache: EmbeddingCache,
        score: Literal["cas", "r_cam"] = "cas",
        probe: Path | None = None,
    ) -> None:
        self.name = f"{score}:{encoder.name}"
        self.encoder = encoder
        self.score = score
        self.targets, fitted = prepare_targets(examples, encoder, cache, EQUAL_WEIGHTS, probe)
        assert fitted is not None  # DD has a weight
        self.probe: Probe = fitted

    def prefer(
        self, candidates: Sequence[Candidates], folder: Path, progress: Progress
    ) -> list[float | None]:
        """Difference of the two scores."""
        preferences: list[float | None] = []
        for start in range(0, len(candidates), _JUDGED_TOGETHER):
            some = candidates[start : start + _JUDGED_TOGETHER]
            targets = self.targets.at([pair.row for pair in some]).to(self.encoder.device)
            first, second = (
                self._scores([folder / pair.images[side] for pair in some], targets)
                for side in (0, 1)
            )
            preferences += (first - second).tolist()
            progress(len(preferences), len(candidates))
        return preferences

    @torch.no_grad()
    def _scores(self, paths: Sequence[Path], targets: Targets) -> Tensor:
        """``(N,)`` scores of image files."""
        pixels = np.stack([load_image(path).pixels for path in paths])
        embeddings = embed_arrays(pixels, self.encoder)
        logits = self.probe.logits(embeddings)
        judged = primitives.dd if self.score == "cas" else primitives.dd_log_likelihood
        return primitives.clinical_alignment(
            vdc=primitives.vdc(embeddings, targets.prompt),
            ccs=primitives.ccs(embeddings, targets.checklist),
            dd=judged(logits, targets.label),
            sfs=primitives.sfs(embeddings, targets.reference),
        )


class Choice(BaseModel):
    """What a language model answers."""

    choice: Literal["A", "B"]


class LanguageModelJudge:
    """Prefers what a multimodal language model chooses; MedGemma in the paper (§4.1.2).

    Which of the two images is A alternates from pair to pair, against a preference for a position.

    Args:
        examples: The prompts, with labels, and criteria where their domain has some.
        model: Whom to ask.
        cache: Answers that are already known; a killed run continues from it.
        options: How questions are put.
    """

    def __init__(
        self,
        examples: Examples,
        model: Model,
        cache: AnswerCache | None = None,
        options: Options | None = None,
    ) -> None:
        self.name = f"mllm:{model.name}"
        self.examples = examples
        self.model = model
        self.cache = cache
        self.options = options

    def prefer(
        self, candidates: Sequence[Candidates], folder: Path, progress: Progress
    ) -> list[float | None]:
        """1 or -1, as it chooses."""
        requests = [self._request(number, pair, folder) for number, pair in enumerate(candidates)]
        answers = answer_all(
            requests, self.model, cache=self.cache, options=self.options, progress=progress
        )
        return [
            None if not answer.accepted else 1.0 if (answer.value.choice == "A") == first else -1.0
            for answer, first in zip(answers, map(_first_is_a, range(len(answers))), strict=True)
        ]

    def _request(self, number: int, pair: Candidates, folder: Path) -> Request:
        domain = self.examples.domain
        ranking = domain.ranking if domain else None
        criteria = ""
        if ranking is not None:
            lines = [f"{name}: {meaning}" for name, meaning in ranking.criteria.items()]
            criteria = " Criteria, most important first: " + "; ".join(lines) + "."
        images = [folder / name for name in pair.images]
        return Request(
            key=f"pair{number:06d}",
            system=_SYSTEM.format(
                modality=domain.modality if domain else "medical", criteria=criteria
            ),
            prompt=f"Finding: {self.examples.labels[pair.row]}\n"
            f"Description: {self.examples.prompts[pair.row]}\n"
            'Answer with {"choice": "A"} or {"choice": "B"}.',
            schema=Choice,
            images=tuple(images if _first_is_a(number) else images[::-1]),
            captions=("Image A:", "Image B:"),
        )


def judge_of(
    spec: str,
    encoder: str | None,
    config: Config,
    examples: Examples,
    device: torch.device,
    cache: EmbeddingCache,
) -> Judge:
    """The judge that a user names.

    Raises:
        InputError: There is none of this name.
    """
    kind, _, model = spec.partition(":")
    if kind == "mllm" and model:
        opened = open_model(model, device=str(device), offline=config.offline)
        return LanguageModelJudge(examples, opened, AnswerCache(cache.directory))
    if spec not in ("cas", "r_cam"):
        raise InputError(f"no judge {spec!r}", fix="cas, r_cam, or mllm:SPEC")
    if encoder is None:  # in the precision that a saved probe is of
        loaded = load_critic(config.critic.encoder, config, device)
    else:
        policy = config.critic.text_policy
        loaded = load_encoder(
            encoder, device=str(device), offline=config.offline, text_policy=policy
        )
    probe = config.critic.probe if encoder is None else None
    score: Literal["cas", "r_cam"] = "cas" if spec == "cas" else "r_cam"
    return AlignmentJudge(examples, loaded, cache, score, probe)


def _first_is_a(number: int) -> bool:
    return number % 2 == 0
