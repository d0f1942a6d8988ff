"""Every image asked for ends as scored or as failed with its true reason, whatever leads there.

Random manifests, splits, damaged files, embeddings that overflow and layouts of ranks: either it is
refused before a model is asked for anything, or rows and failures add up to what was asked for.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.thread_ranks import on_ranks

from cas_metric.domains import parse_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders.base import TextEmbeddings
from cas_metric.errors import CasError
from cas_metric.manifest import read_manifest
from cas_metric.scoring.inputs import prepare, select
from cas_metric.scoring.pipeline import Options, Scores, score_inputs

DOMAIN = """
name: three
title: Three
modality: drawing
classes:
  - {name: a, checklist: {Colour: red}}
  - {name: b, checklist: {Colour: green}}
  - {name: c, checklist: {Colour: blue}}
"""
#: Red value of a picture whose embedding overflows.
OVERFLOWS = 13
READS, DAMAGED, OVERFLOWING = "reads", "damaged", "overflows"


class Row(NamedTuple):
    """One image of a manifest."""

    label: str
    prompt: str
    state: str


LABELS = st.sampled_from(["a", "b", "c", ""])
PROMPTS = st.sampled_from(["", "red", "green", "the same"])
STATES = st.sampled_from([READS, READS, READS, DAMAGED, OVERFLOWING])
ROWS = st.builds(Row, LABELS, PROMPTS, STATES)


@st.composite
def partners(draw, real: list[Row]) -> list[tuple[Row, int]]:
    """Generated images: nearly always of a real partner, and nearly always of its label."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(real) - 1 if draw(st.integers(0, 9)) else len(real) + 1))
        own = real[min(at, len(real) - 1)].label
        label = draw(st.sampled_from([own, own, own, own, own, own, own, "", "b"]))
        found.append((Row(label, draw(PROMPTS), draw(STATES)), at))
    return found


class Fake:
    """An encoder of colours: cheap, deterministic, and it counts what it is asked for."""

    name, revision, dtype, text_policy = "fake", "local", "float32", "truncate"
    dim, token_limit, image_size, device, fingerprint = 4, 16, 2, "cpu", "fake-1"

    def __init__(self) -> None:
        self.asked = 0

    def official_preprocess(self, images: list[np.ndarray]) -> torch.Tensor:
        means = torch.tensor(np.stack([image.reshape(-1, 3).mean(axis=0) for image in images]))
        return means[:, :, None, None].expand(-1, 3, 2, 2).float()

    def embed_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        colours = inputs.mean(dim=(2, 3))
        found = torch.nn.functional.normalize(torch.cat([colours, colours[:, :1] + 1], dim=1))
        found[colours[:, 0].round() == OVERFLOWS] = float("inf")
        return found

    def embed_texts(self, texts: list[str]) -> TextEmbeddings:
        self.asked += 1
        rows = [np.random.default_rng(sum(map(ord, text))).normal(size=4) for text in texts]
        vectors = torch.nn.functional.normalize(torch.tensor(np.array(rows)).float())
        return TextEmbeddings(
            vectors,
            torch.tensor([len(text.split()) for text in texts]),
            torch.zeros(len(texts), dtype=torch.bool),
        )


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    real=st.lists(ROWS, min_size=1, max_size=6),
    train=st.none() | st.lists(ROWS, min_size=3, max_size=8),
    partial=st.booleans(),
    unpaired=st.booleans(),
    with_domain=st.booleans(),
    ranks=st.integers(1, 3),
    separate=st.booleans(),
)
def test_rows_and_failures_are_what_was_asked_for(
    data: st.DataObject,
    real: list[Row],
    train: list[Row] | None,
    partial: bool,
    unpaired: bool,
    with_domain: bool,
    ranks: int,
    separate: bool,
) -> None:
    generated = data.draw(partners(real))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root / "real", real)
        _write(root / "gen", [row for row, _ in generated], [f"{at}" for _, at in generated])
        if train is not None:
            _write(root / "train", train)

        def run(name: str, count: int, apart: bool) -> tuple[list, list[Fake]]:
            encoders = [Fake() for _ in range(count)]

            def job(rank):
                place = root / name / (str(rank.index) if apart else "shared")
                inputs = prepare(
                    select(read_manifest(root / "gen"), None, None),
                    read_manifest(root / "real"),
                    domain=parse_domain(DOMAIN, "domain") if with_domain else None,
                    train=read_manifest(root / "train") if train is not None else None,
                    unpaired=unpaired,
                    partial_train=partial,
                )
                with EmbeddingCache(place) as cache:
                    options = Options(batch_size=2, num_workers=1)
                    return score_inputs(
                        inputs, encoders[rank.index], cache, options=options, ranks=rank
                    )

            return on_ranks(count, job), encoders

        outcomes, encoders = run("one", 1, False)
        alone = outcomes[0]
        if isinstance(alone, BaseException):
            assert isinstance(alone, CasError), alone
            assert alone.fix or "\n" in str(alone)
            assert all(encoder.asked == 0 for encoder in encoders), "refused after the model"
            return
        _assert_complete(alone, real, [row for row, _ in generated])
        outcomes, _ = run("many", ranks, separate)
        for other in outcomes[1:]:
            assert other is None, other
        assert isinstance(outcomes[0], Scores), outcomes[0]
        for ours, theirs in ((alone.rows, outcomes[0].rows), (alone.real, outcomes[0].real)):
            assert ours.to_csv() == theirs.to_csv()
        assert alone.material.failures == outcomes[0].material.failures


def _write(folder: Path, rows: list[Row], references: list[str] | None = None) -> None:
    folder.mkdir(parents=True)
    table = []
    for number, row in enumerate(rows):
        red = OVERFLOWS if row.state == OVERFLOWING else 40 + 17 * number
        colour = (red, 250 - 20 * number, 30 + 3 * len(row.label))
        name = f"{number}.png"
        Image.new("RGB", (16, 16), colour).save(folder / name)
        if row.state == DAMAGED:
            (folder / name).write_bytes((folder / name).read_bytes()[:40] + bytes([number]))
        cells = {"file_name": name, "id": str(number), "label": row.label, "prompt": row.prompt}
        table.append({**cells, **({"reference": references[number]} if references else {})})
    frame = pd.DataFrame(table, columns=list(table[0]) if table else ["file_name", "label"])
    frame.to_csv(folder / "metadata.csv", index=False)


def _assert_complete(scores: Scores, real: list[Row], generated: list[Row]) -> None:
    assert len(scores.rows) == len(generated)
    assert len(scores.real) == len(scores.floor) == len(real)
    for table, asked in ((scores.rows, generated), (scores.real, real)):
        by_id = table.set_index("id")
        for number, row in enumerate(asked):
            found = by_id.loc[str(number)]
            assert (found["status"] == "failed") == (row.state != READS)
            assert (found["error"] == "") == (found["status"] == "ok")
            if row.state == OVERFLOWING:
                assert "no finite embedding" in found["error"]
            if row.state == DAMAGED:
                assert f"{number}.png" in found["error"]
            for name in ("vdc", "ccs", "dd", "sfs", "cas"):
                if found["status"] == "ok":
                    assert np.isfinite(found[name])
                if found["status"] == "partial" and name != "cas":
                    assert np.isnan(found[name]) == (f"{name}: " in found["error"])
    told = [one["set"] for one in scores.material.failures]
    assert told.count("generated") == sum(row.state != READS for row in generated)
    assert told.count("real") == sum(row.state != READS for row in real)
