"""The REDCap table and its codebook say the same as the details."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.support.studies import METHODS, opened_study
from typer.testing import CliRunner

from cas_metric.cli.study import app
from cas_metric.study import Design
from cas_metric.study.redcap import DICTIONARY_COLUMNS
from cas_metric.study.store import CANNOT_JUDGE, RANKED, Answer

RUN = CliRunner()


def test_records_are_what_was_answered_and_the_codebook_names_every_field(tmp_path: Path) -> None:
    design = Design(ties=True, points=5, items=("Realism", "Quality"))
    with opened_study(tmp_path, cases=3, design=design) as study:
        rater = study.store.rater(study.links[0].token)
        rated = {(p, f"item{k}"): p + k for p in (1, 2, 3) for k in (1, 2)}
        first = Answer("submission-1", RANKED, {1: 1, 2: 1, 3: 3}, ratings=rated)
        study.store.submit(rater, 1, first)
        study.store.submit(rater, 2, Answer("submission-2", CANNOT_JUDGE, {}, reason="blank"))
        folder = study.store.folder
    out = tmp_path / "out" / "r.csv"
    done = RUN.invoke(app, ["export", str(folder), "--out", str(out), "--redcap"])
    assert done.exit_code == 0, done.output
    records = pd.read_csv(out.with_name("r-redcap.csv"))
    codebook = pd.read_csv(out.with_name("r-codebook.csv"))
    details = pd.read_csv(out.with_name("r-details.csv"))
    rated_rows = pd.read_csv(out.with_name("r-ratings.csv"))
    assert list(codebook.columns) == list(DICTIONARY_COLUMNS)
    assert list(records.columns) == list(codebook["Variable / Field Name"])
    assert codebook["Variable / Field Name"].str.fullmatch(r"[a-z][a-z0-9_]{0,25}").all()
    assert set(codebook["Field Type"]) <= {"text", "notes", "radio"}
    assert records["record_id"].is_unique
    assert len(records) == 2 * 3
    labels = codebook.set_index("Variable / Field Name")["Field Label"]
    shown = records[records["record_id"] == "1-1"].iloc[0]
    for number in range(1, 4):
        method = labels[f"rank_{number}"].partition(":")[0]
        assert method in METHODS
        mine = details[(details["case_number"] == 1) & (details["method"] == method)].iloc[0]
        assert shown[f"rank_{number}"] == mine["rank"]
        assert shown[f"position_{number}"] == mine["position"]
        for k in (1, 2):
            assert shown[f"item{k}_{number}"] == mine["position"] + k
    assert len(rated_rows) == 6
    # REDCap takes a field that the codebook calls an integer only where no ".0" follows it.
    written = pd.read_csv(out.with_name("r-redcap.csv"), dtype=str, keep_default_na=False)
    checks = codebook.set_index("Variable / Field Name").filter(like="Validation Type", axis=1)
    for name in checks.index[checks.squeeze() == "integer"]:
        assert written[name].str.fullmatch(r"\d*").all(), name
    second = records[records["record_id"] == "1-2"].iloc[0]
    assert (second["verdict"], second["reason"]) == (2, "blank")
    assert second.filter(regex="^(rank|item)").isna().all()


def test_a_plan_is_printed(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["plan", "--win-rate", "0.65", "--raters", "2", "--cases", "60"])
    assert done.exit_code == 0, done.output
    assert "| 2 | 63 |" in done.stdout
