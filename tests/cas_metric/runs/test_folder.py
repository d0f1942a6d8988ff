"""Runs on disk: whole, the same bytes for the same content, and checked when read."""

import json
import multiprocessing
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.clinical_crops import write_folders

import cas_metric
from cas_metric.encoders import Encoder
from cas_metric.errors import CasError, InputError
from cas_metric.files import require_writable, write_bytes
from cas_metric.runs import Run
from cas_metric.runs.folder import Origin, claim, read_run, write_run
from cas_metric.scoring.per_image import COLUMNS
from cas_metric.verbs.result import require_free

SUMMARY = {"protocol": "custom", "encoder": {}, "methods": [], "tau": float("nan")}


def _rows(count: int = 3) -> pd.DataFrame:
    rows = pd.DataFrame({name: [0.1234567] * count for name in COLUMNS})
    for name in ("id", "method", "label", "image", "reference", "status", "error"):
        rows[name] = [f'{name} {i}, "é"' for i in range(count)]
    rows["seed"] = pd.array([1, None, 3][:count], dtype="Int64")
    rows["prompt_truncated"] = pd.array([True, None, False][:count], dtype="boolean")
    rows.loc[0, "cas"] = np.nan
    return rows


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_run(tmp_path / "run", _rows(), SUMMARY, real=_rows(2))
    run = read_run(tmp_path / "run")
    pd.testing.assert_frame_equal(run.rows, _rows())
    pd.testing.assert_frame_equal(run.real, _rows(2))
    assert run.floor is None
    assert run.summary == {**SUMMARY, "tau": None}
    table = pd.read_csv(tmp_path / "run" / "per_image.csv")
    np.testing.assert_array_equal(table["cas"], _rows()["cas"])


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name, _rows(), SUMMARY, real=_rows(), floor=_rows())
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_new_run_leaves_nothing_of_the_old_one_and_other_files_alone(tmp_path: Path) -> None:
    write_run(tmp_path, _rows(), SUMMARY, real=_rows(), floor=_rows())
    (tmp_path / "notes.txt").write_text("mine")
    write_run(tmp_path, _rows(1), SUMMARY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("notes.txt", "per_image.csv", "per_image.parquet", "summary.json")
    ]


def test_a_run_without_summary_is_unfinished(tmp_path: Path) -> None:
    write_run(tmp_path, _rows(), SUMMARY)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(InputError, match="no finished run"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", b"{", "not readable as JSON"),
        ("summary.json", b"[]", "lacks protocol"),
        ("summary.json", b'{"protocol": "x"}', "lacks encoder, methods"),
        ("per_image.parquet", b"PAR1", "not readable as Parquet"),
        ("per_image.parquet", None, "is missing"),
    ],
)
def test_broken_runs_are_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    write_run(tmp_path, _rows(), SUMMARY)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)


def test_missing_columns_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path, _rows().drop(columns=["cas", "sfs"]), SUMMARY)
    with pytest.raises(InputError, match="sfs, cas"):
        read_run(tmp_path)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        read_run(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "file.json"
    write_bytes(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CasError, match="No space left"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(CasError):
        write_run(tmp_path / "out", _rows(), SUMMARY)


def test_json_is_sorted(tmp_path: Path) -> None:
    write_run(tmp_path, _rows(), {**SUMMARY, "a": {"z": 1, "b": np.float32(0.5)}})
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text)["a"] == {"b": 0.5, "z": 1}
    assert text.index('"b"') < text.index('"z"')


def test_a_run_does_not_replace_the_result_of_another_verb(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    write_bytes(audit / "summary.json", b'{"kind": "audit"}')
    with pytest.raises(InputError, match=r"holds another result \(verb audit there, score here\)"):
        claim(audit, Origin.of(tmp_path / "gen", tmp_path / "real"))


def test_a_summary_of_a_person_is_kept(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"holds summary\.json"):
        claim(tmp_path, Origin({"generated": "g", "real": "r"}))


def test_a_name_that_no_report_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no UTF-8"):
        require_writable(tmp_path / "v\udcfc")
    require_writable(tmp_path / "vü")


def test_a_folder_in_place_of_a_file_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "per_image.csv").mkdir()
    with pytest.raises(InputError, match=r"per_image\.csv is a folder"):
        claim(tmp_path, Origin({"generated": "g", "real": "r"}))
    (tmp_path / "comparison.csv").mkdir()
    with pytest.raises(InputError, match=r"comparison\.csv is a folder"):
        require_free(tmp_path, "comparison", None, tables=("comparison",))


def _claim_on_a_full_disk(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        require_writable(folder)
    except InputError as error:
        os._exit(7 if f"{folder} cannot be written to" in error.problem else 8)
    os._exit(9)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_a_full_disk_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    """Its folders still take new names, and the result of hours found no room."""
    writer = multiprocessing.get_context("fork").Process(
        target=_claim_on_a_full_disk, args=(tmp_path / "out",)
    )
    writer.start()
    writer.join()
    assert writer.exitcode == 7


def test_two_runs_of_one_name_at_once_are_both_kept(siglip: Encoder, tmp_path: Path) -> None:
    one, other = (write_folders(tmp_path / name, a_class=3, seed=k) for k, name in enumerate("ab"))
    shared = {"below": tmp_path / "runs", "cache": tmp_path / "cache"}
    runs: list[Run] = []

    def meanwhile(done: int, total: int) -> None:
        if not runs:
            runs.append(cas_metric.score(other.generated, other.test, encoder=siglip, **shared))

    late = cas_metric.score(one.generated, one.test, encoder=siglip, **shared, progress=meanwhile)
    assert [run.path.name for run in (*runs, late)] == ["generated", "generated-2"]
    for run in (*runs, late):
        pd.testing.assert_frame_equal(Run.load(run.path).rows, run.rows)
