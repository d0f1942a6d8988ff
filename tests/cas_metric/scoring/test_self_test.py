"""What the encoder is asked of the real images."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.support.clinical_crops import read_metadata, write_folders, write_metadata

import cas_metric
from cas_metric.encoders import Encoder
from cas_metric.scoring.self_test import verdict_of


def test_a_question_of_two_prompts_has_an_interval_of_shares(
    siglip: Encoder, tmp_path: Path
) -> None:
    """Two prompts are two cases, of which Student's limits reach far below nothing."""
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.test)
    for row in rows:
        row["prompt"] = f"a picture of {row['label'] == rows[0]['label']}"
    write_metadata(folders.test, rows)
    run = cas_metric.score(
        folders.generated, folders.test, encoder=siglip, cache=tmp_path / "cache"
    )
    found = run.summary["self_test"]["vdc"]
    assert 0 <= found["low"] <= found["score"] <= found["high"] <= 1


def test_a_rare_class_is_not_a_weighted_outlier() -> None:
    """90% right of 950 images and all of 50: the score has the error of two shares."""
    right = np.r_[np.zeros(95), np.ones(905)]
    found = verdict_of("dd", right, np.repeat([0, 1], [950, 50]), np.arange(1000).astype(str))
    assert found is not None
    assert found["score"] == pytest.approx(0.95)
    # Half the width of the frequent class, and of what 50 of 50 leave open.
    first, second = (stats.binomtest(k, n).proportion_ci() for k, n in ((855, 950), (50, 50)))
    widest = (first.high - first.low + second.high - second.low) / 2
    assert 0.25 * widest < found["high"] - found["low"] < widest
    assert not found["blind"]
    small = verdict_of("dd", right[90:150], np.repeat([0, 1], [57, 3]), np.arange(60).astype(str))
    assert small is not None
    assert not small["blind"]


def test_a_class_of_one_patient_is_left_out_and_where_all_are_classes_are_the_units() -> None:
    rng = np.random.default_rng(0)
    wins, classes = rng.uniform(0.4, 1, 23), np.repeat([0, 1, 2], [10, 10, 3])
    patients = np.r_[np.arange(20), 20, 20, 20].astype(str)
    found, without = (
        verdict_of("sfs", wins[:n], classes[:n], patients[:n], chance=0.5) for n in (23, 20)
    )
    assert found is not None
    assert found == pytest.approx(without)
    by_prompt = verdict_of("vdc", wins, classes, classes.astype(str), chance=0.5)
    assert by_prompt is not None
    means = [wins[classes == k].mean() for k in range(3)]
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert (by_prompt["low"], by_prompt["high"]) == pytest.approx((max(low, 0), min(high, 1)))


def test_chance_is_that_of_the_classes_that_the_probe_may_name(
    siglip: Encoder, tmp_path: Path
) -> None:
    """Images of two of the four classes of a domain: chance is a half, not a quarter."""
    folders = write_folders(tmp_path / "data")
    spare = "".join(
        f"  - {{name: {name}, checklist: {{Color: {name}}}}}\n" for name in ("red", "sky")
    )
    folders.domain.write_text(folders.domain.read_text() + spare)
    config = folders.test / "cas.yaml"
    for train in (True, False):  # fitted on the training split, then cross-fitted
        if not train:
            lines = [line for line in config.read_text().splitlines() if "train:" not in line]
            config.write_text("\n".join(lines))
        run = cas_metric.score(folders.test, folders.test, encoder=siglip, cache=tmp_path / "cache")
        fitted = run.summary["probe"]["fitted_classes"]
        assert run.summary["self_test"]["dd"]["chance"] == 0.5
    assert (len(fitted), len(run.summary["classes"])) == (2, 4)


def test_guesses_of_two_classes_are_called_blind() -> None:
    """At the chance of two classes few guesses of 80 images pass as sight."""
    rng = np.random.default_rng(0)
    classes, patients = np.repeat([0, 1], 40), np.arange(80).astype(str)
    blind = [
        verdict_of("dd", (rng.random(80) < 0.5).astype(float), classes, patients, ("a", "b"))
        for _ in range(200)
    ]
    seen = sum(not one["blind"] for one in blind if one is not None)
    assert seen <= stats.binom.ppf(0.999, 200, 0.025)
