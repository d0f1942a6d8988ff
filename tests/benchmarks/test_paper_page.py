"""Pages of results: made from a run, and compared with another by what no number changes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmarks.paper import page
from benchmarks.paper.table3a import ROLES

from cas_metric.statistics.tables import PHANTOM_NOTICE

TABLE1 = """{notice}

# Table 1: alignment of the methods: phantom-origa

Some words, {value}.

| Method | CAS, {size} images |
| --- | --- |
| TI | {value} |
| {last} | {value} |
"""


def run_directory(top: Path, *, value: str = "0.1", size: int = 20, last: str = "CRAFT") -> Path:
    results = top / "phantom-origa" / "results"
    results.mkdir(parents=True)
    text = TABLE1.format(notice=PHANTOM_NOTICE, value=value, size=size, last=last)
    (results / "table1.md").write_text(text)
    number = float(value)
    scores = {"method": ["TI", last], "cas": number, "cas_low": 0.0, "cas_high": 1.0}
    tail = {"low_rate": number, "low_rate_low": 0.0, "low_rate_high": 1.0}
    pairs = {"other": ["TI"], "difference": number, "low": 0.0, "high": 1.0}
    for role in ROLES:
        pd.DataFrame(scores).to_csv(results / f"table3a_{role}.csv", index=False)
        pd.DataFrame(pairs).to_csv(results / f"table3a_{role}_pairs.csv", index=False)
    pd.DataFrame(scores | tail).to_csv(results / "table14.csv", index=False)
    return results.parent


def test_a_page_holds_the_tables_below_the_name_of_its_data_set(tmp_path: Path) -> None:
    text = page.page(run_directory(tmp_path))
    assert text.startswith("# phantom-origa\n")
    assert "\n## Table 1: alignment of the methods\n" in text
    assert text.count(PHANTOM_NOTICE) == 1
    assert "| TI | 0.100 [0.000, 1.000] |" in page.overview([tmp_path / "phantom-origa"])


def test_numbers_and_sizes_may_differ_and_methods_may_not(tmp_path: Path) -> None:
    written = [run_directory(tmp_path / "whole")]
    page.write(written, tmp_path / "pages")
    assert page.differences(written, tmp_path / "pages") == []
    small = run_directory(tmp_path / "small", value="0.7", size=5)
    assert page.differences([small], tmp_path / "pages") == []
    other = run_directory(tmp_path / "other", last="LoRA")
    found = page.differences([other], tmp_path / "pages")
    assert "phantom-origa: not on the page: LoRA" in found
    assert "phantom-origa: only on the page: CRAFT" in found


def test_an_ablation_that_a_small_run_does_not_make_is_not_missed(tmp_path: Path) -> None:
    whole = run_directory(tmp_path / "whole")
    ablation = (
        "# Table 15: weight of the diagnostic reward: phantom-origa\n\n| W |\n| --- |\n| 1 |\n"
    )
    (whole / "results" / "table15.md").write_text(ablation)
    page.write([whole], tmp_path / "pages")
    small = run_directory(tmp_path / "small")
    assert page.not_made([whole]) == ["table4", "table12", "figure8"]
    assert page.differences([small], tmp_path / "pages") == []
    (small / "results" / "table1.md").unlink()
    assert page.differences([small], tmp_path / "pages")[0].startswith("phantom-origa: only on")


def test_every_row_name_counts_and_no_cell_does() -> None:
    text = "## A\n\n| n | what | x |\n| --- | --- | --- |\n| 49 | a | -0.1 |\n| 49 | b | 0.2 |\n"
    assert page.skeleton(text) == ["## A", "| n | what | x |", "N", "N"]
    assert page.skeleton(text.replace("-0.1", "0.7").replace("49", "15")) == page.skeleton(text)
    assert page.skeleton("| coefficient | n |\n| --- | --- |\n| pearson (ties) | 6 |\n") == []


def test_a_folder_without_results_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["page", str(tmp_path), "--check", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        page.main()
    assert "has no results" in capsys.readouterr().err
