"""Preference pairs: a table of two images a row, of which a judge preferred one.

The paper's DPO baseline learns from 1,024 of them a dataset: two samples of the LoRA model that
differ in their seed, and a judge's choice (§4.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.files import require_writable, write_bytes
from cas_metric.manifest import FolderConfig
from craft_trainer.artifact.folder import find_artifact, load_trained, origin_of
from craft_trainer.artifact.identity import CONFIG_FILE, stage_of
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.loading import default_device
from craft_trainer.config.schema import resolve
from craft_trainer.config.sections import Sampling
from craft_trainer.data.dataset import Examples, conditioning_texts, read_examples
from craft_trainer.data.pairs import COLUMNS, TABLE
from craft_trainer.generation import claim_folder, drawn_with, require_own_folder
from craft_trainer.inference import Drawing, draw_missing, noise_seed
from craft_trainer.runtime import Progress, silent
from craft_trainer.runtime.lock import alone_in
from craft_trainer.runtime.telling import tell_notes, tell_truncated


@dataclass(frozen=True)
class Pairs:
    """Pairs that were judged.

    Attributes:
        table: The file that a ``dpo`` stage reads.
        count: Pairs with a preference.
        without_preference: Pairs that the judge gave no answer on, or did not tell apart.
        judge: Its name.
        drawn: Images drawn now.
    """

    table: Path
    count: int
    without_preference: int
    judge: str
    drawn: int


class Candidates(NamedTuple):
    """Two samples of one prompt.

    Attributes:
        row: Of the prompt in its manifest.
        images: Their files, relative to the folder.
    """

    row: int
    images: tuple[str, str]


def make_pairs(
    artifact: str | Path,
    prompts: str | Path,
    out: str | Path,
    *,
    stage: str | int | None = None,
    count: int = 1024,
    judge: str = "cas",
    encoder: str | None = None,
    seed: int = 0,
    batch_size: int = 8,
    cache: str | Path | None = None,
    progress: Progress = silent,
) -> Pairs:
    """Draw two samples a prompt that differ in their seed, and let a judge choose the better one.

    Images that exist are kept: another judge, or more pairs, draw nothing anew.

    Args:
        artifact: Folder of a run, of one of its stages, or of an artefact.
        prompts: Manifest of real training images with labels and prompts.
        out: Folder for the images and the table.
        stage: Of a run: number or method; by default the last finished one.
        count: Pairs to make.
        judge: ``cas``, ``r_cam``, or ``mllm:SPEC`` for a multimodal language model.
        encoder: Of ``cas`` and ``r_cam``; by default the critic of the run.
        seed: Of order and noise.
        batch_size: Images in a pass.
        cache: Folder of the embedding store; ``"none"`` for a temporary one.
        progress: Told what is being done.

    Raises:
        InputError: There is no such artefact or judge, ``out`` holds images of another origin or is
            being written to.
        ModelUnavailable: A model cannot be had here.

    Examples:
        >>> import craft_trainer
        >>> made = craft_trainer.make_pairs(trained, prompts, tmp / "pairs", count=2, cache="none")
        >>> made.count + made.without_preference, made.judge
        (2, 'cas:phantom-medsiglip')
    """
    from craft_trainer.preference.judges import judge_of

    found = find_artifact(Path(artifact), None if stage is None else str(stage))
    config = resolve(found / CONFIG_FILE)
    folder, device = Path(out), default_device()
    require_writable(folder)
    examples = read_examples(Path(prompts), config.data.domain)
    candidates = plan(count, len(examples), seed)
    with EmbeddingCache(cache) as store:
        judging = judge_of(judge, encoder, config, examples, device, store)
        model = load_trained(found, config, device)
        template = stage_of(found, config).prompt
        texts = conditioning_texts(examples, template, model.tokens)
        tell_notes(examples.manifest.notes)
        tell_truncated(model, texts)
        origin = {**origin_of(found, config), "prompt": template, "seed": seed}
        made = drawn_with("craft-trainer pairs", config, examples, texts, origin)
        told = FolderConfig(provenance=made)
        require_own_folder(folder, told)
        with alone_in(folder, "--out"):
            claim_folder(folder, told)
            drawn = draw(
                model,
                candidates,
                texts,
                folder,
                seed=seed,
                sampling=config.sampling,
                resolution=config.data.resolution,
                batch_size=batch_size,
                progress=lambda done, total: progress("images", done, total),
            )
            preferences = judging.prefer(
                candidates, folder, lambda done, total: progress("pairs judged", done, total)
            )
            table = write_pairs(folder, candidates, preferences, examples, judging.name)
    return Pairs(folder / TABLE, len(table), count - len(table), judging.name, drawn)


def plan(count: int, rows: int, seed: int) -> list[Candidates]:
    """``count`` pairs over ``rows`` prompts: every prompt once in random order, then again.

    A prompt that comes again gets two new samples.
    """
    order = np.random.default_rng(seed).permutation(rows)
    return [
        Candidates(
            int(order[number % rows]), (f"images/{number:06d}-a.png", f"images/{number:06d}-b.png")
        )
        for number in range(count)
    ]


def draw(
    model: DiffusionModel,
    candidates: Sequence[Candidates],
    texts: Sequence[str],
    folder: Path,
    *,
    seed: int,
    sampling: Sampling,
    resolution: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Draw the images of ``candidates`` that are not there yet; returns how many.

    The two samples of a prompt have the same text and different noise.
    """
    drawings = [
        Drawing(folder / name, texts[pair.row], noise_seed(seed, 2 * number + side))
        for number, pair in enumerate(candidates)
        for side, name in enumerate(pair.images)
    ]
    return draw_missing(model, drawings, sampling, resolution, batch_size, progress)


def write_pairs(
    folder: Path,
    candidates: Sequence[Candidates],
    preferences: Sequence[float | None],
    examples: Examples,
    judge: str,
) -> pd.DataFrame:
    """Write the table.

    Args:
        folder: That the images are in.
        candidates: The pairs.
        preferences: By how much the first image of each is preferred: below 0 for the second, None
            where the judge gave no answer. Pairs without an answer or a preference are left out.
        examples: The prompts.
        judge: Its name.

    Returns:
        The rows that were written.
    """
    rows = []
    for number, (pair, preference) in enumerate(zip(candidates, preferences, strict=True)):
        if not preference:
            continue
        chosen, rejected = pair.images if preference > 0 else pair.images[::-1]
        rows.append(
            {
                "id": f"pair{number:06d}",
                "prompt": examples.prompts[pair.row],
                "label": examples.labels[pair.row],
                "chosen": chosen,
                "rejected": rejected,
                "margin": abs(preference),
                "judge": judge,
                "reference": examples.manifest.rows["id"].iloc[pair.row],
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_bytes(folder / TABLE, table.to_csv(index=False).encode())
    return table
