"""Scoring in parts: the bytes of a run in one piece, whoever scored which part, and when."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.support.clinical_crops import Folders, cas, write_folders

import cas_metric
from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder
from cas_metric.engine.partitions import statistics
from cas_metric.engine.parts import Count, Part, Worker, here, part_out, shard_of
from cas_metric.errors import CasError, InputError, PartsDone, RankStopped, TooManyFailures
from cas_metric.images import Window
from cas_metric.manifest import read_manifest
from cas_metric.runs.summary import build_summary
from cas_metric.scoring.inputs import Inputs, prepare
from cas_metric.scoring.pipeline import Options
from cas_metric.scoring.probe import Probe

FILES = ("per_image.parquet", "per_image.csv", "real_per_image.csv", "floor_per_image.csv")


@pytest.fixture
def own(tmp_path: Path) -> Folders:
    """A set that a test may spoil; one image of it cannot be read."""
    folders = write_folders(tmp_path / "data")
    sorted(folders.generated.rglob("*.png"))[5].write_bytes(b"no image")
    return folders


@pytest.fixture
def inputs(own: Folders) -> Inputs:
    return prepare(
        read_manifest(own.generated),
        read_manifest(own.test),
        domain=load_domain(own.domain),
        train=read_manifest(own.train),
    )


def test_parts_by_three_jobs_make_the_run_of_one(
    own: Folders, siglip_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cas_metric.engine.parts.FEWEST", 5)
    words = ["score", own.generated, own.test, "--encoder", siglip_directory]
    assert cas(*words, "--out", tmp_path / "whole", "--cache", tmp_path / "one").code == 3
    mine = [*words, "--out", tmp_path / "parts"]
    for k, code in ((2, 3), (3, 0), (1, 0)):  # the sixth image cannot be read
        done = cas(*mine, "--shard", f"{k}/3", "--cache", tmp_path / f"job-{k}", "--json")
        assert done.code == code, done.err
        told = json.loads(done.out)
        assert (told["share"], told["parts"], len(told["failures"])) == (f"{k}/3", 1, code // 3)
        assert not (tmp_path / "parts" / "summary.json").exists()
    parts = sorted((tmp_path / "parts" / "rows").iterdir())
    assert [pq.read_metadata(path).num_rows for path in parts] == [5, 5, 2]
    times = [path.stat().st_mtime_ns for path in parts]
    assert cas(*mine, "--engine", "parts", "--cache", tmp_path / "job-1").code == 3
    assert [path.stat().st_mtime_ns for path in parts] == times
    for name in FILES:
        ours, theirs = (tmp_path / run / name for run in ("parts", "whole"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    ours, theirs = (
        json.loads((tmp_path / run / "summary.json").read_text()) for run in ("parts", "whole")
    )
    for summary in (ours, theirs):
        del summary["timing"], summary["provenance"]["command"]
    assert ours == theirs


def test_a_lost_torn_or_outdated_part_is_scored_again_and_no_other(
    inputs: Inputs, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    def parted():
        return part_out(inputs, lambda: siglip, cache, tmp_path, cache=str(cache.directory), size=3)

    first = parted()
    first.run(here)
    expected = first.scores().rows
    assert first.scores().material.embedded > 0
    files = [first.work.folder / part.name for part in first.parts]
    assert not parted().missing()
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    changed = Path(first.parts[2].table["path"][0])
    os.utime(changed, ns=(1, 1))
    scored: list[int] = []

    def watched(work, parts: list[Part]):
        scored.extend(part.number for part in parts)
        yield from here(work, parts)

    again = parted()
    again.run(watched)
    assert scored == [0, 1, 2]
    pd.testing.assert_frame_equal(again.scores().rows, expected)
    assert again.scores().material.embedded == 0  # a lost part, not lost embeddings


def test_whatever_decides_the_rows_makes_other_parts(
    inputs: Inputs,
    siglip: Encoder,
    cache: EmbeddingCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def digest(changed: Inputs, probe: Probe | None = None) -> str:
        parted = part_out(changed, lambda: siglip, cache, tmp_path, probe=probe, options=options)
        return parted.work.digest

    options = Options(max_failures=None)
    real = inputs.real
    renamed = real.assign(image=[f"scan-{name}" for name in real["image"]])
    weight = np.ones((2, siglip.dim), np.float32)
    probes = [
        Probe(inputs.classes, siglip.fingerprint, weight * size, np.zeros(2, np.float32))
        for size in (1, 2)  # of unknown making
    ]
    found = [
        digest(inputs),
        digest(replace(inputs, windows={**inputs.windows, "real": Window(0, 1)})),
        digest(replace(inputs, windows={**inputs.windows, "real": Window(0, 2)})),
        digest(replace(inputs, real=renamed)),
        *(digest(inputs, probe) for probe in probes),
    ]
    assert digest(inputs) == found[0]
    monkeypatch.setattr("cas_metric.engine.keys.pixel_versions", lambda: "another pillow")
    assert len({*found, digest(inputs)}) == len(found) + 1


def test_a_part_that_nobody_wrote_is_an_error_that_says_where(
    inputs: Inputs, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    parted = part_out(inputs, lambda: siglip, cache, tmp_path, size=6)
    with pytest.raises(CasError, match=r"2 of 2 parts are not in .*rows"):
        parted.run(lambda work, parts: iter([Count(len(part.table), 0, 0) for part in parts]))


def test_failures_of_a_share_or_of_parts_alone_are_told_by_the_exit_code(
    own: Folders, siglip: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cas_metric.engine.parts.FEWEST", 6)
    options = {"encoder": siglip, "out": tmp_path / "run", "cache": tmp_path / "cache"}

    def stopped(**more: object) -> PartsDone:
        with pytest.raises(PartsDone) as caught:
            cas_metric.score(own.generated, own.test, **options, **more)
        return caught.value

    first, second = (stopped(shard=f"{k}/2") for k in (1, 2))
    assert [one["set"] for one in first.summary["failures"]] == ["generated"]
    assert (first.exit_code, second.exit_code) == (3, 0)
    assert stopped(rows_only=True).exit_code == 3
    for more in ({"shard": "1/2"}, {"rows_only": True}):
        with pytest.raises(TooManyFailures, match="1 images failed, 0 are allowed"):
            cas_metric.score(own.generated, own.test, **options, **more, max_failures=0)
    assert stopped(shard="2/2", max_failures=0).exit_code == 0  # it failed in the other share


def test_statistics_of_the_parts_are_those_of_all_rows(
    inputs: Inputs, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    parted = part_out(inputs, lambda: siglip, cache, tmp_path, size=3)
    parted.run(here)
    (found,) = statistics(parted)["methods"]
    summary = build_summary(parted.scores(), siglip, [], seconds=0)
    (whole,) = summary["methods"]
    for name in ("method", "n", "n_failed", "clusters", "cluster_unit"):
        assert found[name] == whole[name]
    for name in ("mean", "interval"):
        for quantity, value in whole[name].items():
            np.testing.assert_allclose(found[name][quantity], value, rtol=1e-9)
    for label, means in whole["per_class"].items():
        for quantity, value in means.items():
            np.testing.assert_allclose(found["per_class"][label][quantity], value, rtol=1e-9)
    tail = found["tail"]
    assert {name: tail[name] for name in ("n", "n_low", "tau", "rate")} == {
        name: whole["tail"][name] for name in ("n", "n_low", "tau", "rate")
    }
    assert tail["p10"] == pytest.approx(whole["tail"]["p10"], abs=1e-9)


def test_the_rows_alone_and_their_statistics_make_no_run(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    words = [
        *("score", folders.generated, folders.test, "--encoder", siglip_directory, "--json"),
        *("--out", tmp_path / "run", "--rows-only", "--cache", tmp_path / "cache"),
    ]
    done = cas(*words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["methods"][0]["n"] == 12
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["partitions.json", "rows"]
    assert json.loads((tmp_path / "run" / "partitions.json").read_text())["methods"][0]["n"] == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "spark"}, "is no engine"),
        ({"shard": "0/3"}, "is no share"),
        ({"shard": "4/3"}, "is no share"),
        ({"engine": "parts", "protocol": "cas-v2"}, "not computed in parts"),
        ({"shard": "1/2", "rows_only": True}, "no statistics of the whole"),
        ({"shard": "1/2", "crate": True, "out": "run"}, "is no run to be tracked or described"),
        ({"rows_only": True, "track": ["tensorboard"], "out": "run"}, "is no run to be tracked"),
    ],
)
def test_what_an_engine_cannot_do_is_said_before_anything_is_read(options, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        cas_metric.score("no", "where", **options)
    assert caught.value.fix


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CasError, match=r"ray") as caught:
        cas_metric.score("no", "where", engine="ray")
    assert caught.value.fix == "pip install 'cas-metric[ray]'"


def test_a_share_is_numbered_from_one() -> None:
    assert shard_of("1/1") == (1, 1)
    with pytest.raises(InputError):
        shard_of("1")


def test_a_share_ends_without_an_error(folders: Folders, siglip: Encoder, tmp_path: Path) -> None:
    with pytest.raises(RankStopped) as caught:
        cas_metric.score(
            folders.generated, folders.test, encoder=siglip, shard="1/2", out=tmp_path / "run"
        )
    assert caught.value.exit_code == 0


def test_a_worker_needs_no_more_than_its_part(
    inputs: Inputs, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    parted = part_out(inputs, lambda: siglip, cache, tmp_path, size=4)
    assert not len(parted.work.inputs.generated)
    assert not len(parted.work.inputs.real)
    worker = Worker(parted.work)
    with worker.store:
        assert worker(parted.parts[1]).images == 4
    assert [part.number for part in parted.missing()] == [0, 2]
