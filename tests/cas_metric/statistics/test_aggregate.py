import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cas_metric.statistics.aggregate import (
    case_clusters,
    graded_cas,
    scored,
    summarise,
    without_patient,
)
from cas_metric.statistics.comparison import case_keys


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"i{k}" for k in range(60)],
            "label": ["a"] * 45 + ["b"] * 15,
            "reference": "",
            "patient": "",
            "status": "ok",
            **{name: rng.random(60) for name in ("vdc", "ccs", "dd_prob", "sfs")},
            "dd": (rng.random(60) < 0.5).astype(float),
        }
    )
    frame["cas"] = frame[["vdc", "ccs", "dd", "sfs"]].mean(axis=1)
    return frame


def test_means_are_the_plain_means(rows):
    found = summarise(rows)
    assert found["n"] == 60
    assert found["n_failed"] == 0
    for name in ("vdc", "ccs", "dd", "dd_prob", "sfs", "cas"):
        assert found["mean"][name] == pytest.approx(rows[name].mean())
        low, high = found["interval"][name]
        assert low < found["mean"][name] < high


def test_cas_is_the_mean_of_the_mean_primitives(rows):
    mean = summarise(rows)["mean"]
    assert mean["cas"] == pytest.approx(np.mean([mean[k] for k in ("vdc", "ccs", "dd", "sfs")]))


def test_class_balanced_weighs_classes_alike(rows):
    found = summarise(rows)
    by_class = rows.groupby("label")["cas"].mean()
    assert found["class_balanced"]["cas"] == pytest.approx(by_class.mean())
    assert found["per_class"]["b"]["n"] == 15
    assert found["per_class"]["b"]["cas"] == pytest.approx(by_class["b"])
    low, high = found["class_balanced_interval"]["cas"]
    assert low < found["class_balanced"]["cas"] < high


def test_no_interval_leaves_what_a_mean_can_be():
    """Of two images Student's limits reach far beyond a cosine or a share."""
    scores = {"vdc": [-0.9, 0.9], "ccs": 0.1, "sfs": [0.9, 1.0], "dd": 1.0, "dd_prob": [0.7, 1.0]}
    rows = pd.DataFrame({"label": "a", "id": ["x", "y"], "cas": [0.2, 0.7]} | scores)
    found = summarise(rows)["interval"]
    assert found["vdc"] == [-1, 1]
    assert found["sfs"][1] == found["dd_prob"][1] == found["cas"][1] == 1
    assert found["dd_prob"][0] == 0


def test_failed_rows_are_counted_and_left_out(rows):
    rows.loc[3, ["status", "cas", "vdc"]] = ["failed", np.nan, np.nan]
    rows.loc[4, ["status", "cas", "sfs"]] = ["partial", np.nan, np.nan]
    found = summarise(rows)
    assert (found["n"], found["n_failed"]) == (59, 1)
    assert found["mean"]["vdc"] == pytest.approx(rows["vdc"].drop(3).mean())
    assert found["mean"]["cas"] == pytest.approx(rows["cas"].drop([3, 4]).mean())
    assert len(scored(rows)) == 59


def test_a_quantity_that_was_never_measured_is_nan(rows):
    rows["sfs"] = rows["cas"] = np.nan
    found = summarise(rows)
    assert np.isnan(found["mean"]["sfs"])
    assert np.isnan(found["interval"]["cas"]).all()
    assert np.isfinite(found["mean"]["vdc"])


def test_no_row_scored(rows):
    found = summarise(rows.assign(status="failed"))
    assert (found["n"], found["n_failed"], found["per_class"]) == (0, 60, {})
    assert np.isnan(found["mean"]["cas"])


def test_clusters_are_patients_then_references_then_rows(rows):
    assert list(case_clusters(rows))[:2] == ["id i0", "id i1"]
    assert list(case_clusters(rows.drop(columns="id")))[:2] == ["row 0", "row 1"]
    rows["reference"] = "r"
    assert set(case_clusters(rows)) == {"reference r"}
    rows["patient"] = "p"
    assert set(case_clusters(rows)) == {"patient p"}


def test_rows_without_a_patient_are_cases_and_the_others_keep_theirs(rows):
    rows["reference"] = [f"r{k // 2}" for k in range(60)]
    rows["patient"] = ["", "p0", "", "", *(f"p{k // 6}" for k in range(4, 60))]
    expected = (
        ["patient p0"] * 2 + ["reference r1"] * 2 + [f"patient p{k // 6}" for k in range(4, 60)]
    )
    assert case_clusters(rows).tolist() == expected
    assert without_patient(rows, "images") == [
        "2 of 60 images name no patient: each counts as a case of its own"
    ]
    assert without_patient(rows.assign(patient=""), "images") == []


def test_one_blank_cell_does_not_end_the_clustering():
    """8 patients of 12 images: 95% intervals cover with one of 96 patients blank as with none."""
    rng, missed = np.random.default_rng(7), np.zeros(2)
    for _ in range(200):
        patients = np.repeat([f"p{k}" for k in range(8)], 12)
        values = np.repeat(rng.normal(0, 0.1, 8), 12) + rng.normal(0, 0.1, 96)
        table = pd.DataFrame(
            {"id": range(96), "label": "a", "status": "ok", "vdc": values, "patient": patients}
        )
        for k, one in enumerate((table, table.assign(patient=["", *patients[1:]]))):
            low, high = summarise(one)["interval"]["vdc"]
            missed[k] += not low <= 0 <= high
    assert (missed <= stats.binom.ppf(0.999, 200, 0.05)).all()


def test_a_column_of_nullable_numbers_is_a_unit(rows):
    rows["patient"] = pd.array([1, 1, 2, *[3] * 57], dtype="Int64")
    assert (summarise(rows)["clusters"], summarise(rows)["cluster_unit"]) == (3, "patient")
    rows.loc[0, "patient"] = pd.NA
    rows["reference"] = pd.array([pd.NA, *range(59)], dtype="Int64")
    assert (summarise(rows)["clusters"], summarise(rows)["cluster_unit"]) == (4, "patient")
    assert case_keys(rows).tolist() == rows["id"].tolist()


def test_graded_cas_takes_the_probability(rows):
    expected = rows[["vdc", "ccs", "dd_prob", "sfs"]].mean(axis=1)
    np.testing.assert_allclose(graded_cas(rows), expected)


def test_a_class_without_a_score_leaves_no_class_balanced_mean(rows):
    rows.loc[rows["label"] == "b", ["ccs", "cas"]] = np.nan
    found = summarise(rows)
    assert np.isnan(found["class_balanced"]["cas"])
    assert found["class_balanced_lacks"] == {"ccs": ["b"], "cas": ["b"]}
    assert found["class_balanced"]["vdc"] == pytest.approx(
        rows.groupby("label")["vdc"].mean().mean()
    )
    # A class that every method but this one has is missing, too.
    assert summarise(rows, classes=["a", "b", "c"])["class_balanced_lacks"]["vdc"] == ["c"]
    failed = rows.assign(status=np.where(rows["label"] == "b", "failed", "ok"))
    assert np.isnan(summarise(failed)["class_balanced"]["vdc"])


def test_cas_holds_the_error_of_a_diagnosis_that_never_failed(rows):
    rows["dd"] = 1.0
    rows["cas"] = 0.55 + np.random.default_rng(1).normal(0, 1e-4, len(rows))
    low, high = summarise(rows)["interval"]["cas"]
    # Up to 3 / 60 of the images may yet be diagnosed wrongly: a quarter of that in CAS.
    assert 0.01 < 0.55 - low < 0.02
    assert high == pytest.approx(0.55, abs=1e-3)


def test_classes_of_one_image_have_no_class_balanced_interval_of_cas(rows):
    found = summarise(rows.assign(label=rows["id"]))
    for name in ("vdc", "cas"):
        assert np.isnan(found["class_balanced_interval"][name]).all()
        assert np.isfinite(found["interval"][name]).all()


def test_one_patient_has_means_and_no_intervals(rows):
    rows["patient"] = "p"
    found = summarise(rows)
    assert (found["clusters"], found["cluster_unit"]) == (1, "patient")
    assert found["mean"]["vdc"] == pytest.approx(rows["vdc"].mean())
    assert np.isnan([end for ends in found["interval"].values() for end in ends]).all()
