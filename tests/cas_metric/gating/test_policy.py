"""Policies as people write them, wrong ones too."""

import pytest

from cas_metric.errors import InputError
from cas_metric.gating import read_policy

GOOD = """\
confidence: 0.95
baseline: runs/main
rules:
  - {metric: cas, at_least: 0.45}
  - {metric: dd, against: baseline, margin: 0.1, class: each}
  - metric: low_rate
    against: baseline
"""


def write(folder, text):
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    policy = read_policy(write(tmp_path, GOOD))
    assert policy.baseline == tmp_path / "runs/main"
    assert [rule.label for rule in policy.rules] == [None, "each", None]
    assert [rule.text for rule in policy.rules] == [
        "cas at least 0.45",
        "dd not below baseline by more than 0.1",
        "low_rate not above baseline",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: []", "line 1: rules"),
        ("", "line 1: policy"),
        ("rules:\n  - {metric: cas}", "line 2: rules.1: needs exactly one of"),
        ("rules:\n  - {metric: cas, at_least: 1, at_most: 2}", "line 2: rules.1: needs exactly"),
        ("rules:\n  - metric: cas\n    at_lest: 1", "line 3: unknown key 'at_lest'"),
        ("rule:\n  - {metric: cas, at_least: 1}", "line 1: unknown key 'rule'"),
        ("rules:\n  - {metric: cas, at_least: much}", "rules.1.at_least"),
        ("rules:\n  - {metric: cas, at_least: .nan}", "rules.1.at_least"),
        ("confidence: 1.5\nrules:\n  - {metric: cas, at_least: 1}", "line 1: confidence"),
        ("rules:\n  - {metric: cas, at_least: 1, margin: 1}", "margin belongs to against"),
        ("rules:\n  - {metric: failed, against: real}", "failed is a plain count"),
        ("rules:\n  - {metric: low_rate, against: floor}", "low_rate of Real"),
        ("rules:\n  - {metric: low_rate, at_least: 0}", "the less low_rate the better"),
        ("rules:\n  - {metric: failed, at_least: 0}", "the less failed the better"),
        ("rules: !!python/object:os.system x", "tag"),
    ],
)
def test_a_mistake_is_named_by_line(text, told, tmp_path):
    with pytest.raises(InputError, match=r"policy\.yaml") as caught:
        read_policy(write(tmp_path, text))
    assert told in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_policy(tmp_path / "none.yaml")
