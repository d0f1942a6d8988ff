"""The one reader of tables: text stays text, and numbers are read where they are asked for."""

from __future__ import annotations

import json
import math

import pytest
from tests.support.real_data import shared_cases
from typer.testing import CliRunner

from cas_metric.cli.correlate import app as correlate
from cas_metric.cli.preference import app as preference
from cas_metric.errors import CasError, InputError
from cas_metric.statistics.preference import parse_rankings
from cas_metric.tables import numeric_columns, read_frame

RANKINGS = """case,rater,method,rank
1,x,001,1
1,x,002,2
01,x,002,1
01,x,001,2
2,x,001,1
2,x,002,2
02,x,002,1
02,x,001,2
"""


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "method,cas,n\n001, 0.50,1\nNA ,,2\n1.0,-1e-3,\n"),
        ("t.CSV", "\ufeffmethod, cas ,n\r\n001,0.50,1\r\nNA,,2\r\n1.0,-1e-3,\r\n"),
        ("t.tsv", "method\tcas\tn\n001\t0.50\t1\nNA\t\t2\n1.0\t-1e-3\t\n"),
        (
            "t.json",
            '[{"method": "001", "cas": 0.50, "n": 1}, {"method": "NA", "cas": null, "n": 2}, '
            '{"method": 1.0, "cas": -1e-3}]',
        ),
        (
            "t.jsonl",
            '{"method": "001", "cas": 0.50, "n": 1}\n{"method": "NA", "cas": NaN, "n": 2}\n'
            '{"method": 1.0, "cas": -1e-3}\n',
        ),
    ],
)
def test_the_same_from_every_form(tmp_path, name, text):
    frame = read_frame(written(tmp_path, name, text), "method", numeric=["cas", "absent"])
    assert frame["method"].tolist() == ["001", "NA", "1.0"]
    assert frame["n"].tolist() == ["1", "2", ""]
    values = frame["cas"].tolist()
    assert (values[0], values[2]) == (0.5, -0.001)
    assert math.isnan(values[1])
    assert numeric_columns(read_frame(tmp_path / name)) == ["cas", "n"]


@pytest.mark.parametrize("cell", ["1,5", "1_000", "high", "0x10", "١", "1 2", "True", "--"])
def test_what_is_no_number_is_named_by_its_place(tmp_path, cell):
    path = written(tmp_path, "t.csv", f'method,cas\na,1\nb,"{cell}"\n')
    with pytest.raises(InputError, match=r"line 3, column cas") as caught:
        read_frame(path, numeric=["cas"])
    assert repr(cell) in str(caught.value)
    assert numeric_columns(read_frame(path)) == []


@pytest.mark.parametrize("cell", ["1", "+1.", ".5", "1e5", "-1E-05", "inf", "-Inf", "nan", "NaN"])
def test_numbers_are_those_of_python(tmp_path, cell):
    path = written(tmp_path, "t.csv", f"cas,x\n{cell},\n")
    value = read_frame(path, numeric=["cas"])["cas"].iloc[0]
    assert value == float(cell) or math.isnan(value)


def test_missing_files_and_columns(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_frame(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no such file"):
        read_frame(tmp_path)
    path = written(tmp_path, "t.csv", "a,b\n1,2\n")
    with pytest.raises(InputError, match="no column c, d") as caught:
        read_frame(path, "a", "c", "d")
    assert caught.value.fix == "it has a, b"
    with pytest.raises(InputError, match="not a JSON list"):
        read_frame(written(tmp_path, "t.json", '{"a": 1}'))


def test_the_shared_rankings():
    assert shared_cases("G_rankings.csv").read_text() == RANKINGS


def test_methods_and_cases_keep_their_names(tmp_path):
    path = written(tmp_path, "r.csv", RANKINGS)
    parsed = parse_rankings(read_frame(path))
    assert parsed.methods == ("001", "002")
    assert parsed.cases.tolist() == ["1", "01", "2", "02"]
    result = CliRunner().invoke(preference, [str(path), "--json", "--resamples", "100"])
    summary = json.loads(result.stdout)
    assert summary["n_cases"] == 4
    assert list(summary["scores"]) == ["001", "002"]
    assert summary["scores"]["001"]["estimate"] == pytest.approx(0, abs=1e-6)


def test_places_may_be_left_empty(tmp_path):
    header, *lines = RANKINGS.splitlines()
    placed = [f"{line},{'1' if number % 2 else ''}" for number, line in enumerate(lines)]
    path = written(tmp_path, "r.csv", "\n".join([f"{header},position", *placed]))
    result = CliRunner().invoke(preference, [str(path), "--json", "--resamples", "100"])
    assert result.exit_code == 0, result.exception


def test_correlation_takes_the_columns_of_numbers(tmp_path):
    path = written(
        tmp_path,
        "m.csv",
        "method,cas,accuracy,site\n001,.1,.2,a\n01,.2,.3,b\n1,.3,.5,a\n2,.4,,b\n3,.5,.7,a\n",
    )
    result = CliRunner().invoke(correlate, [str(path), "--json"])
    (found,) = json.loads(result.stdout)
    assert found["y"] == "accuracy"
    assert found["methods"] == ["001", "01", "1", "3"]
    failed = CliRunner().invoke(correlate, [str(path), "--y", "site"])
    assert isinstance(failed.exception, CasError)
    assert "line 2, column site" in str(failed.exception)
