"""``cas score`` and ``cas doctor`` as their users meet them: exit codes, streams, files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.support.clinical_crops import (
    Finished,
    Folders,
    cas,
    read_metadata,
    write_folders,
    write_metadata,
)

from cas_metric.runs.folder import _name_of

RUN_FILES = {
    *("per_image.csv", "per_image.parquet", "real_per_image.csv", "real_per_image.parquet"),
    *("floor_per_image.csv", "floor_per_image.parquet", "summary.json", "report.html"),
    "probe.safetensors",
}


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def _score(folders: Folders, model: Path, *options: object) -> Finished:
    return cas("score", folders.generated, folders.test, "--encoder", model, *options)


def _without_timing(path: Path) -> dict:
    summary = json.loads((path / "summary.json").read_text())
    assert summary.pop("timing")
    return summary


def test_the_bare_command_is_complete_and_the_second_run_embeds_nothing(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    first = _score(folders, siglip_directory)
    assert first.code == 0, first.err
    run = tmp_path / "runs" / "generated"
    assert {path.name for path in run.iterdir()} == RUN_FILES
    assert "embedded 36 images, 0 from cache" in first.out
    for word in ("generated", "Real", "Floor", "VDC", "CAS", "tau = ", "report: "):
        assert word in first.out
    kept = tmp_path / "first"
    shutil.copytree(run, kept)
    second = _score(folders, siglip_directory)
    assert second.code == 0
    assert "embedded 0 images, 36 from cache" in second.out
    for name in RUN_FILES - {"summary.json"}:
        assert (run / name).read_bytes() == (kept / name).read_bytes(), name
    assert _without_timing(run) == _without_timing(kept)


def test_json_alone_goes_to_stdout(folders: Folders, siglip_directory: Path) -> None:
    done = _score(folders, siglip_directory, "--json", "--out", "here")
    summary = json.loads(done.out)
    assert summary["run"] == "here"
    assert summary["domain"] == "retina-or-breast"
    assert summary["methods"][0]["method"] == "generated"
    assert summary["encoder"]["name"] == "tiny-siglip"
    assert summary["provenance"]["command"][:2] == ["cas", "score"]
    assert summary["provenance"]["inputs"]["generated"]["root"] == str(folders.generated)
    assert len(summary["provenance"]["inputs"]["train"]["sha256"]) == 64


def test_without_cas_yaml_the_result_is_custom_and_says_what_to_add(
    siglip_directory: Path, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    (folders.test / "cas.yaml").unlink()
    done = _score(folders, siglip_directory)
    assert done.code == 0
    assert "no CCS for 24 of 24 images" in done.out
    assert "--domain" in done.out
    assert "protocol: custom" in done.out
    assert "probe: cross-fitted (cas-v1: train)" in done.out


def test_labels_from_sub_folders(siglip_directory: Path, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    for folder in (folders.generated, folders.test):
        for row in read_metadata(folder):
            target = folder / row["label"] / row["file_name"].replace(".png", "x.png")
            target.parent.mkdir(exist_ok=True)
            (folder / row["file_name"]).rename(target)
        (folder / "metadata.csv").unlink()
        (folder / "cas.yaml").unlink(missing_ok=True)
    done = _score(folders, siglip_directory, "--out", "run", "--domain", folders.domain)
    assert done.code == 0, done.err
    rows = pd.read_parquet("run/per_image.parquet")
    assert rows["label"].value_counts().to_dict() == {"fundus": 6, "histology": 6}
    assert rows["vdc"].isna().all()
    assert rows[["ccs", "dd", "sfs"]].notna().all(axis=None)
    assert rows["cas"].isna().all()
    assert "no VDC for 24 of 24 images (no prompt)" in done.out


def test_failed_images_exit_3_and_too_many_exit_2(siglip_directory: Path, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    (folders.generated / "test-fundus-0.png").write_bytes(b"")
    (folders.generated / "test-fundus-1.png").write_text("no image")
    done = _score(folders, siglip_directory, "--out", "run")
    assert done.code == 3
    assert "2 images could not be read" in done.out
    rows = pd.read_csv("run/per_image.csv").set_index("id")
    assert rows["status"].value_counts().to_dict() == {"ok": 10, "failed": 2}
    assert rows.loc["test-fundus-0", ["vdc", "ccs", "dd", "sfs", "cas"]].isna().all()
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["methods"][0]["n_failed"] == 2
    assert len(summary["failures"]) == 2
    refused = _score(folders, siglip_directory, "--out", "other", "--max-failures", 1)
    assert refused.code == 2
    assert "test-fundus-0" in refused.err
    assert not Path("other").exists()


def test_preflight_lists_everything_before_a_model_is_touched(tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.generated)
    rows[0]["id"], rows[1]["label"] = "nobody", "glaucoma"
    rows[2]["id"] = rows[3]["id"]
    write_metadata(folders.generated, rows)
    done = cas("score", folders.generated, folders.test, "--encoder", "/no/such/model")
    assert done.code == 2
    for problem in ("nobody", "glaucoma", rows[3]["id"]):
        assert problem in done.err
    assert done.out == ""
    assert "Traceback" not in done.err


def test_a_model_that_is_not_there_exits_4_and_leaves_nothing(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(siglip_directory, tmp_path / "damaged"))
    (damaged / "tokenizer.json").unlink()
    cases = {
        "/no/such/model": "no such directory: /no/such/model",
        str(damaged): "no tokenizer.json or spiece.model",
        "someone/model": "the network is not to be used (--offline)",
    }
    for encoder, message in cases.items():
        done = _score(folders, Path(encoder), "--offline", "--out", tmp_path / "run")
        assert done.code == 4, done.err
        assert message in done.err
        assert "\n  fix: " in done.err
        assert done.out == ""
        assert "Traceback" not in done.err
    assert not list((tmp_path / "cache").glob("*.lmdb"))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiling_the_encoder_changes_no_score(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    rows = {}
    for name, options in {"plain": [], "compiled": ["--compile"]}.items():
        own = ["--device", "cpu", "--cache", tmp_path / f"{name}-cache", "--out", tmp_path / name]
        done = _score(folders, siglip_directory, *options, *own)
        assert done.code == 0, done.err
        rows[name] = pd.read_parquet(tmp_path / name / "per_image.parquet")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    scores = ["vdc", "ccs", "dd", "dd_prob", "sfs", "cas"]
    np.testing.assert_allclose(rows["compiled"][scores], rows["plain"][scores], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train", "a", "--probe", "b"], "--train and --probe"),
        (["--domain", "chexpart"], "chexpart"),
        (["--probe", "nowhere"], "nowhere: no such file"),
        (["--device", "cuda:99"], "cuda:99 cannot be used here"),
        (["--text-policy", "cut"], "text policy"),
        (["--dtype", "float8"], "dtype"),
        (["--seed", "-1"], "seed"),
        (["--method"], "method"),
    ],
)
def test_wrong_usage_exits_2(
    folders: Folders, siglip_directory: Path, options: list, message: str
) -> None:
    done = _score(folders, siglip_directory, *options)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_strict_text_refuses(siglip_directory: Path, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.generated)
    rows[0]["prompt"] = "optic disc " * 60
    write_metadata(folders.generated, rows)
    assert "1 of 12 prompts cut at 64 tokens" in _score(folders, siglip_directory).out
    assert _score(folders, siglip_directory, "--strict-text").code == 2


def test_a_saved_probe_gives_the_same_rows_and_belongs_to_its_encoder(
    folders: Folders, siglip_directory: Path
) -> None:
    _score(folders, siglip_directory, "--out", "fitted")
    probe = Path("fitted/probe.safetensors")
    done = _score(folders, siglip_directory, "--out", "loaded", "--probe", probe)
    assert done.code == 0
    one, two = (Path(name, "per_image.csv").read_bytes() for name in ("fitted", "loaded"))
    assert one == two
    other = _score(folders, siglip_directory, "--probe", probe, "--text-policy", "chunk-mean")
    assert other.code == 2
    assert "another encoder" in other.err


def test_no_run_is_named_after_the_parent_folder(tmp_path: Path) -> None:
    assert _name_of(tmp_path / "gen" / "x" / "..") == "gen"  # runs/.. would be where the user is


def test_method_and_seed_name_the_set(folders: Folders, siglip_directory: Path) -> None:
    done = _score(folders, siglip_directory, "--method", "craft", "--seed", 3, "--out", "run")
    assert done.code == 0
    rows = pd.read_csv("run/per_image.csv")
    assert set(rows["method"]) == {"craft"}
    assert set(rows["seed"]) == {3}


def test_markup_and_hostile_names_are_only_text(siglip_directory: Path, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.generated)
    for row in rows:
        row["method"] = "[bold]<script>alert(1)</script>[/bold]"
    write_metadata(folders.generated, rows)
    done = _score(folders, siglip_directory, "--out", "run")
    assert done.code == 0
    assert "[bold]" in "".join(done.out.split())
    assert "<script>alert(1)" not in Path("run/report.html").read_text()


def test_help_explains_scores_inputs_and_exit_codes() -> None:
    done = cas("score", "--help")
    assert done.code == 0
    for word in ("Clinical Alignment", "metadata.csv", "cas.yaml", "--strict-text", "Exit codes"):
        assert word in done.out


def test_doctor_reports_and_changes_nothing(tmp_path: Path) -> None:
    done = cas("doctor", "--json")
    assert done.code == 0
    findings = json.loads(done.out)
    assert findings["versions"]["torch"]
    assert findings["devices"][0].startswith("cpu")
    assert findings["cache"]["directory"] == str(tmp_path / "cache")
    assert findings["cache"]["entries"] == 0
    assert "metrics" in findings["extras"]
    assert findings["encoders"]["siglip"] in ("downloaded", "not here")
    assert not (tmp_path / "cache").exists()
    assert "cas-metric[" in cas("doctor").out or all(
        all(packages.values()) for packages in findings["extras"].values()
    )


def test_doctor_sees_a_damaged_cache(tmp_path: Path) -> None:
    store = tmp_path / "cache" / "embeddings-v2.lmdb"
    store.mkdir(parents=True)
    (store / "data.mdb").write_bytes(b"no lmdb" * 2000)
    done = cas("doctor")
    assert done.code == 0
    assert "damaged" in done.out


def test_doctor_names_a_directory_with_brackets_as_it_is(tmp_path: Path) -> None:
    assert "runs[v2]" in "".join(cas("doctor", "--cache", tmp_path / "runs[v2]").out.split())


def test_a_lower_precision_is_measured_against_float32(
    folders: Folders, siglip_directory: Path
) -> None:
    exact = _score(folders, siglip_directory, "--out", "exact", "--json")
    assert json.loads(exact.out)["precision"] is None
    done = _score(folders, siglip_directory, "--dtype", "bfloat16", "--out", "low")
    assert done.code == 0, done.err
    assert "bfloat16 against float32 on 12 images: VDC 0.0" in done.out
    assert "dtype: bfloat16 (cas-v1: float32)" in done.out
    told = json.loads(Path("low/summary.json").read_text())["precision"]
    low, high = (pd.read_csv(f"{name}/per_image.csv") for name in ("low", "exact"))
    assert told["images"] == len(low) == 12
    for name in ("vdc", "ccs", "sfs"):
        moved = (low[name] - high[name]).abs()
        assert told[name]["mean"] == pytest.approx(moved.mean(), abs=2e-6)
        assert told[name]["max"] == pytest.approx(moved.max(), abs=2e-6)
        assert 0 < told[name]["max"] < 0.05


def test_images_without_a_partner_have_no_tail_to_speak_of(
    siglip_directory: Path, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    rows = [{**row, "id": f"new-{row['id']}"} for row in read_metadata(folders.generated)]
    write_metadata(folders.generated, rows)
    done = _score(folders, siglip_directory, "--unpaired")
    assert done.code == 0, done.err
    assert "no SFS for" in done.out
    assert "its tail" not in done.out
    write_metadata(folders.generated, read_metadata(folders.test)[:6])
    assert (
        "scored for 6 of 12 real cases; its tail"
        in _score(folders, siglip_directory, "--out", "some").out
    )
