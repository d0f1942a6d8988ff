"""``cas score --protocol cas-v2``: what stands beside a run of ``cas-v1``, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from tests.support.clinical_crops import Folders, cas

import cas_metric
from cas_metric.calibrated.run import COLUMNS
from cas_metric.calibrated.tail import exact_interval, tail_table
from cas_metric.runs.folder import CALIBRATED_COLUMNS


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_rows_of_v1_stay_and_the_calibrated_ones_stand_beside(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    asked = ("score", folders.generated, folders.test, "--encoder", siglip_directory)
    for name, more in (("one", ()), ("two", ("--protocol", "cas-v2"))):
        done = cas(*asked, "--out", tmp_path / name, *more)
        assert done.code == 0, done.err
    for name in ("per_image", "real_per_image", "floor_per_image"):
        one, two = (tmp_path / run / f"{name}.parquet" for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert not (tmp_path / "one" / "calibrated.csv").exists()
    run = cas_metric.Run.load(tmp_path / "two")
    assert run.calibrated is not None
    assert tuple(run.calibrated.columns) == COLUMNS == CALIBRATED_COLUMNS
    assert run.calibrated["id"].tolist() == run.rows["id"].tolist()
    ranks = run.calibrated[[*(c for c in COLUMNS if c.startswith("rank_")), "alignment"]]
    assert ((ranks > 0) & (ranks <= 1)).all(axis=None)
    assert run.summary["cas_v2"]["version"] == "cas-v2"
    (line,) = (line for line in done.out.splitlines() if line.startswith("cas-v2: "))
    assert f"generated {run.calibrated['low'].mean():.3f}" in line
    assert "held-out real images" in line
    assert cas_metric.Run.load(tmp_path / "one").calibrated is None
    assert "cas_v2" not in cas_metric.Run.load(tmp_path / "one").summary


def test_an_unknown_protocol_is_refused(folders: Folders) -> None:
    done = cas("score", folders.generated, folders.test, "--protocol", "cas-v9")
    assert done.code == 2
    assert "cas-v9" in done.err


def test_exact_interval_is_that_of_scipy() -> None:
    for hits, size in ((0, 12), (3, 40), (40, 40)):
        theirs = binomtest(hits, size).proportion_ci(method="exact")
        np.testing.assert_allclose(exact_interval(hits, size), (theirs.low, theirs.high), atol=1e-9)


def test_tail_table_counts_by_method_class_and_level() -> None:
    rng = np.random.default_rng(0)

    def rows(count: int, method: str, power: float) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "id": [f"{method}{k}" for k in range(count)],
                "method": method,
                "label": rng.choice(["a", "b"], size=count),
                "image": [f"{method}{k}.png" for k in range(count)],
                "alignment": rng.uniform(size=count) ** power,
            }
        )

    own, real = pd.concat([rows(80, "good", 1), rows(80, "bad", 3)]), rows(200, "Real", 1)
    table = tail_table(own, real, real["alignment"].to_numpy(), levels=(0.1, 0.25))
    assert len(table) == 2 * 3 * 2
    bad = table[(table["method"] == "bad") & (table["label"] == "")].set_index("alpha")
    expected = (own.loc[own["method"] == "bad", "alignment"] <= 0.1).sum()
    assert bad.loc[0.1, "n_low"] == expected
    assert bad.loc[0.1, "low"] > 0.1 > bad.loc[0.1, "real_low"]
    parts = table[(table["method"] == "bad") & (table["label"] != "") & (table["alpha"] == 0.25)]
    assert parts["n_low"].sum() == bad.loc[0.25, "n_low"]
