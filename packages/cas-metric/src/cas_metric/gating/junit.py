"""Decisions as JUnit XML, which continuous integration shows beside other tests."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET  # only written here, never parsed

from cas_metric.gating.rules import FAIL, UNDECIDED, Decision
from cas_metric.statistics.rounding import fixed


def junit_xml(name: str, decisions: Sequence[Decision]) -> bytes:
    """One test suite; an undecided rule is a skipped test.

    Args:
        name: Of the suite: the run.
        decisions: What became of the rules.

    Source: the schema of Jenkins' JUnit plugin, which GitLab, GitHub actions and Azure read too.
    """
    failed = sum(one.verdict == FAIL for one in decisions)
    skipped = sum(one.verdict == UNDECIDED for one in decisions)
    counts = {"tests": str(len(decisions)), "failures": str(failed), "skipped": str(skipped)}
    suites = ET.Element("testsuites", {"name": "cas gate", **counts, "errors": "0"})
    suite = ET.SubElement(suites, "testsuite", {"name": name, **counts, "errors": "0", "time": "0"})
    for one in decisions:
        case = ET.SubElement(
            suite,
            "testcase",
            {"classname": f"{name}.{one.method}", "name": title(one), "time": "0"},
        )
        if one.verdict == FAIL:
            ET.SubElement(case, "failure", {"message": evidence(one), "type": "gate"})
        elif one.verdict == UNDECIDED:
            ET.SubElement(case, "skipped", {"message": f"undecided: {evidence(one)}"})
    ET.indent(suites)
    content: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def title(one: Decision) -> str:
    """The rule, and the class that it was applied to."""
    return f"{one.rule} [{one.label}]" if one.label else one.rule


def evidence(one: Decision) -> str:
    """Estimate and interval, or why there is none."""
    if one.reason:
        return one.reason
    return f"{fixed(one.estimate)} [{fixed(one.low)}, {fixed(one.high)}], limit {fixed(one.limit)}"
