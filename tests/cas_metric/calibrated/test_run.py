"""``cas score --protocol cas-v2``: what stands beside a run of ``cas-v1``, which stays as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from tests.support.clinical_crops import Folders, cas, read_metadata, write_metadata

import cas_metric
from cas_metric.calibrated.primitives import Expectation
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


@pytest.mark.parametrize(("hits", "size"), [(0, 12), (3, 40), (40, 40)])
def test_exact_interval_leaves_its_tails_to_the_binomial(hits: int, size: int) -> None:
    low, high = exact_interval(hits, size)
    assert binom.sf(hits - 1, size, low) == pytest.approx(0.025 if hits else 1)
    assert binom.cdf(hits, size, high) == pytest.approx(0.025 if hits < size else 1)


def test_several_images_of_a_patient_widen_the_interval_of_real_ones() -> None:
    rng = np.random.default_rng(1)
    value = np.repeat(rng.uniform(size=40), 5)
    real = pd.DataFrame({"image": [f"{k}.png" for k in range(200)], "label": "a", "method": "x"})
    real = real.assign(id=real["image"], alignment=value)
    widths = []
    for patients in (real, real.assign(patient=np.repeat([f"p{k}" for k in range(40)], 5))):
        table = tail_table(patients, patients, value, levels=(0.25,))
        widths.append((table["real_high"] - table["real_low"]).iloc[0])
    assert widths[1] > 1.5 * widths[0]


def test_unlabelled_images_are_refused_before_any_model(folders: Folders, tmp_path: Path) -> None:
    (bare := tmp_path / "bare").mkdir()
    for file in sorted(folders.test.rglob("*.png"))[:3]:
        (bare / file.name).write_bytes(file.read_bytes())
    done = cas("score", bare, bare, "--encoder", "no/model", "--protocol", "cas-v2")
    assert done.code == 2
    assert "none has a class" in done.err


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hardly_any_real_image_gives_no_share_and_no_error(
    count: int, folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    (small := tmp_path / "small").mkdir()
    rows = read_metadata(folders.test)[:count]
    for row in rows:
        target = small / row["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folders.test / row["file_name"]).read_bytes())
    write_metadata(small, rows)
    asked = ("score", small, small, "--encoder", siglip_directory, "--domain", folders.domain)
    done = cas(*asked, "--protocol", "cas-v2", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "cas-v2: " in done.out


def test_real_images_of_the_training_split_are_ranked_as_without_it(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    copy = Folders(shutil.copytree(folders.root, tmp_path / "copy"))
    config = (copy.test / "cas.yaml").read_text()
    (copy.test / "cas.yaml").write_text(config.replace("train: ../train\n", ""))
    asked = {"encoder": siglip_directory, "protocol": "cas-v2"}
    seen = cas_metric.score(folders.generated, folders.test, train=folders.test, **asked)
    without = cas_metric.score(copy.generated, copy.test, **asked)
    assert seen.calibrated is not None
    assert without.calibrated is not None
    pd.testing.assert_frame_equal(seen.calibrated, without.calibrated)
    made = [run.summary["cas_v2"]["calibration"] for run in (seen, without)]
    assert made[0] == made[1]
    assert "cross-fitted" in made[0]["fitted_on"]


@pytest.mark.parametrize("named", ["test", "train"])
def test_files_of_the_training_split_are_found_where_one_split_names_patients(
    named: str, folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    copy = Folders(shutil.copytree(folders.root, tmp_path / "copy"))
    splits = {"test": copy.test, "train": shutil.copytree(copy.test, tmp_path / "again")}
    rows = read_metadata(copy.test)
    patients = [{**row, "patient": f"p{number // 2}"} for number, row in enumerate(rows)]
    write_metadata(splits[named], patients)
    asked = {"encoder": siglip_directory, "protocol": "cas-v2", "train": splits["train"]}
    run = cas_metric.score(copy.generated, copy.test, **asked)
    assert "cross-fitted" in run.summary["cas_v2"]["calibration"]["fitted_on"]


def test_without_a_partner_an_image_is_judged_by_one_fold_as_real_ones_are(
    folders: Folders, siglip_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fitted on all real images would find it nearer than it finds any of them."""
    config = (folders.test / "cas.yaml").read_text()
    bare = Folders(shutil.copytree(folders.root, Path("bare")))
    (bare.test / "cas.yaml").write_text(config.replace("train: ../train\n", ""))
    fitted, seen = [], {}
    fit, closeness = Expectation.fit, Expectation.closeness
    monkeypatch.setattr(Expectation, "fit", lambda *args: fitted.append(len(args[0])) or fit(*args))
    monkeypatch.setattr(
        Expectation,
        "closeness",
        lambda self, *args: (
            seen.setdefault(id(self), []).append(len(args[0])) or closeness(self, *args)
        ),
    )
    rows = [{**row, "id": f"new-{k}"} for k, row in enumerate(read_metadata(bare.generated))]
    write_metadata(bare.generated, rows)
    asked = {"encoder": siglip_directory, "protocol": "cas-v2", "unpaired": True}
    run = cas_metric.score(bare.generated, bare.test, **asked)
    assert run.calibrated is not None
    assert run.calibrated["rank_sfs"].notna().all()
    real = len(read_metadata(bare.test))
    assert max(fitted) < real
    assert sum(map(sum, seen.values())) == len(rows) + real
    assert sum(parts[0] > 0 for parts in seen.values()) > 1


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
