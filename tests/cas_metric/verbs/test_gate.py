"""``cas gate`` from the command line on, its files, and the fixture for test suites."""

import json
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from tests.support.runs import write_score_run
from typer.testing import CliRunner

import cas_metric
from cas_metric.cli import gate
from cas_metric.errors import InputError
from cas_metric.gating import Policy, Rule

RULES = "rules:\n  - {{metric: vdc, at_least: {}}}\n"


@pytest.fixture
def run(tmp_path):
    return write_score_run(tmp_path / "run", "m")


def policy(folder, text):
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def invoke(*arguments):
    return CliRunner().invoke(gate.app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("limit", "code", "word"), [(0.1, 0, "pass"), (0.2, 1, "fail"), (0.15, 5, "undecided")]
)
def test_exit_codes(limit, code, word, run, tmp_path):
    found = invoke(run, policy(tmp_path, RULES.format(limit)))
    assert found.exit_code == code
    assert found.stdout.startswith(f"# Gate: {word}\n")


def test_what_is_written(run, tmp_path):
    text = (
        RULES.format(0.1) + "  - {metric: sfs, at_least: 0.99}\n  - {metric: vdc, at_least: 0.15}"
    )
    found = invoke(run, policy(tmp_path, text), "--out", tmp_path / "out", "--json")
    told = json.loads(found.stdout)
    assert found.exit_code == told["exit_code"] == 1
    assert [one["verdict"] for one in told["decisions"]] == ["pass", "fail", "undecided"]
    suite = ET.parse(tmp_path / "out/junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["skipped"]]
    assert len(pd.read_csv(tmp_path / "out/gate.csv")) == 3
    assert "| fail | sfs at least 0.99 | m |" in (tmp_path / "out/gate.md").read_text()


def test_a_baseline_of_another_encoder_is_refused(run, tmp_path):
    other = write_score_run(tmp_path / "other", "m", fingerprint="xyz")
    rules = Policy(rules=[Rule(metric="cas", against="baseline")])
    with pytest.raises(InputError, match="another"):
        cas_metric.gate(run, rules, baseline=other)
    assert cas_metric.gate(run, rules, baseline=run).verdict == "pass"


def test_what_was_said_of_the_baseline_is_said_again(run, tmp_path):
    rules = Policy(rules=[Rule(metric="cas", against="baseline", margin=0.5)])
    old = write_score_run(tmp_path / "old", "old")
    summary = json.loads((old / "summary.json").read_text())
    (old / "summary.json").write_text(json.dumps({**summary, "warnings": ["12 images failed"]}))
    assert cas_metric.gate(run, rules, baseline=old).warnings == ("baseline: 12 images failed",)


def test_methods_of_the_baseline(run, tmp_path):
    rules = Policy(rules=[Rule(metric="cas", against="baseline", margin=0.5)])
    renamed = write_score_run(tmp_path / "old", "old")
    assert cas_metric.gate(run, rules, baseline=renamed).verdict == "pass"


pytest_plugins = ["pytester"]


def test_the_fixture_fails_skips_and_passes(run, pytester):
    pytester.makepyfile(
        f"""
        import pytest
        from cas_metric.gating import Policy, Rule
        RUN = {str(run)!r}

        def policy(limit):
            return Policy(rules=[Rule(metric="vdc", at_least=limit)])

        def test_good(assert_aligned):
            assert assert_aligned(RUN, policy(0.1)).verdict == "pass"

        def test_bad(assert_aligned):
            assert_aligned(RUN, policy(0.2))

        def test_open(assert_aligned):
            assert_aligned(RUN, policy(0.15))

        def test_open_is_enough(assert_aligned):
            assert_aligned(RUN, policy(0.15), undecided="pass")
        """
    )
    found = pytester.runpytest("-p", "no:cacheprovider")
    found.assert_outcomes(passed=2, failed=1, skipped=1)
    found.stdout.fnmatch_lines(["*| fail | vdc at least 0.2 |*"])
