"""A run in trackers: what leaves, and what stays.

TensorBoard's files are read back with its own reader. MLflow, Weights & Biases and Trackio are not
part of this environment: their public functions stand in, with the signatures of the versions that
the extras ask for.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pandas as pd
import pytest
from tests.support.clinical_crops import Folders

import cas_metric
from cas_metric import tracking
from cas_metric.encoders import Encoder
from cas_metric.errors import CasError, InputError, MissingDependency
from cas_metric.runs.run import Run


@pytest.fixture(scope="module")
def run(folders: Folders, siglip: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("tracked")
    found = cas_metric.score(
        folders.generated, folders.test, encoder=siglip, out=place / "run", cache=place / "cache"
    )
    rows = found.rows.assign(patient=[f"patient-{i}" for i in range(len(found.rows))])
    return Run(rows, found.summary, found.real, found.floor, path=found.path)


def test_patients_and_real_images_stay_at_home(run: Run, folders: Folders) -> None:
    entry = tracking.Entry.of(run)
    assert "patient" not in entry.rows
    assert "patient" in run.rows
    assert len(entry.pictures) == len(run.rows)
    assert all(pixels.shape == (32, 32, 3) for _, pixels in entry.pictures)
    assert entry.metrics["generated/cas"] == run.summary["methods"][0]["mean"]["cas"]
    assert entry.metrics["tau"] == run.summary["tau"]
    assert all(text.startswith("generated ") for text, _ in entry.pictures)
    assert str(folders.root) not in str((entry.pictures, entry.settings))


def test_no_folder_of_this_machine_leaves(run: Run, tmp_path: Path) -> None:
    root = Path(run.summary["provenance"]["inputs"]["generated"]["root"])
    odd = "/home/me/ward 3: x/a.png"
    rows = run.rows.assign(sex="f").astype({"id": object})
    rows.loc[0, ["id", "image", "error"]] = [odd[:-4], odd, f"{odd}: no readable image"]
    image = rows.loc[1, "image"]
    rows.loc[1, "error"] = f"{root / image}: cut off; sfs: {tmp_path}/real/b.png: no image"
    changed = replace(run, rows=rows)
    entry = tracking.Entry.of(changed)
    assert not {"sex", "reference", "patient"} & set(entry.rows)
    assert entry.rows["image"][:2].tolist() == ["a.png", Path(image).name]
    assert entry.rows["error"][1] == f"{Path(image).name}: cut off; sfs: b.png: no image"
    told = entry.rows.to_csv() + str(entry.pictures) + str(entry.settings)
    for secret in ("home", "ward", str(root), str(tmp_path)):
        assert secret not in told
    assert changed.rows["image"][0] == odd


def test_tensorboard_holds_the_numbers_and_the_pictures(run: Run) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracking.track(run, ["tensorboard"])
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    found.Reload()
    tags = found.Tags()
    (event,) = found.Scalars("generated/cas")
    assert event.value == pytest.approx(run.summary["methods"][0]["mean"]["cas"], abs=1e-6)
    assert len(tags["images"]) == len(run.rows)
    assert set(tags["tensors"]) == {
        "settings/text_summary",
        "rows with the lowest CAS/text_summary",
    }


class _Mlflow(SimpleNamespace):
    """The functions of ``mlflow.tracking.fluent`` that are used."""

    def __init__(self) -> None:
        super().__init__(calls={})
        self.start_run = MagicMock()

    def log_params(self, params: dict[str, Any]) -> None:
        self.calls["params"] = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls["metrics"] = metrics

    def log_table(self, data: pd.DataFrame, artifact_file: str) -> None:
        self.calls["table"] = data

    def log_image(self, image: Any, artifact_file: str | None = None) -> None:
        self.calls.setdefault("images", []).append(artifact_file)

    def log_dict(self, dictionary: dict[str, Any], artifact_file: str) -> None:
        self.calls["captions"] = dictionary

    def log_artifact(self, local_path: str, artifact_path: str | None = None) -> None:
        self.calls["artifact"] = Path(local_path).name


def _stand_in(monkeypatch: pytest.MonkeyPatch, name: str, module: Any) -> Any:
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(tracking, "find_spec", lambda _: True)
    return module


def test_mlflow_gets_parameters_metrics_rows_and_pictures(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = _stand_in(monkeypatch, "mlflow", _Mlflow())
    tracking.track(run, ["mlflow"])
    calls = mlflow.calls
    assert calls["params"]["protocol"] == run.summary["protocol"]
    assert calls["metrics"]["tau"] == run.summary["tau"]
    assert len(calls["table"]) == len(calls["images"]) == len(calls["captions"]) == len(run.rows)
    assert "artifact" not in calls  # the report shows real images


def test_wandb_gets_the_same_in_a_run_that_is_closed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = _stand_in(monkeypatch, "wandb", MagicMock())
    tracking.track(run, ["wandb"])
    opened = wandb.init.return_value
    assert wandb.init.call_args.kwargs["config"]["protocol"] == run.summary["protocol"]
    opened.__exit__.assert_called_once()
    logged = opened.__enter__.return_value.log.call_args_list
    assert logged[0].args[0]["tau"] == run.summary["tau"]
    assert wandb.Image.call_count == len(run.rows)
    assert "patient" not in wandb.Table.call_args.kwargs["dataframe"]


def test_trackio_is_finished_also_where_it_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = _stand_in(monkeypatch, "trackio", MagicMock())
    trackio.Table.side_effect = ValueError("no disk")
    with pytest.raises(CasError, match=r"is saved in .*but trackio did not take it: no disk"):
        tracking.track(run, ["trackio"])
    trackio.finish.assert_called_once()


def test_an_unknown_or_absent_tracker_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="'excel' is no tracker") as caught:
        cas_metric.score("no", "where", track=["excel"], out="run")
    assert "tensorboard" in caught.value.fix
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency) as absent:
        cas_metric.score("no", "where", track=["wandb"], out="run")
    assert absent.value.fix == "pip install 'cas-metric[wandb]'"


@pytest.mark.parametrize("options", [{"track": ["tensorboard"]}, {"crate": True}])
def test_a_run_in_memory_alone_is_not_published_in_silence(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="from its folder"):
        cas_metric.score("no", "where", **options)


def test_of_paths_in_the_command_the_last_names_are_told() -> None:
    words = [
        "cas",
        "score",
        "/home/me/ward 3/gen",
        "s3://bucket/real/",
        "--out=/tmp/x/run",
        "--seed",
        "1",
    ]
    run = SimpleNamespace(summary={"provenance": {"command": words}})
    told = tracking.command_of(run)
    assert told == "cas score gen real/ --out=run --seed 1"
