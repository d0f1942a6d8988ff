"""The audit's questions and rows: what the evaluator is told, and what becomes of its answers."""

from __future__ import annotations

import pandas as pd
import pytest
from pydantic import ValidationError

from cas_metric.domains import load_domain, parse_domain
from cas_metric.errors import InputError
from cas_metric.mllm import Answer
from cas_metric.mllm.audit import (
    COLUMNS,
    EVIDENCE,
    audit_request,
    audit_requests,
    audit_rows,
    control_labels,
    verdict_schema,
)
from cas_metric.mllm.schemas import json_schema

CHEST = load_domain("chexpert")


@pytest.fixture
def table(tmp_path):
    """Two images whose method, id, prompt and file name would all give them away."""
    return pd.DataFrame(
        {
            "id": ["secret-id-1", "secret-id-2"],
            "method": ["SecretMethod", "SecretMethod"],
            "seed": pd.array([1, None], dtype="Int64"),
            "label": ["Pneumonia", "Cardiomegaly"],
            "prompt": "a secret prompt",
            "reference": "",
            "patient": ["p1", "p2"],
            "image": ["SecretMethod/1.png", "SecretMethod/2.png"],
            "path": [tmp_path / "SecretMethod" / "1.png", tmp_path / "SecretMethod" / "2.png"],
            "window": None,
        }
    )


def verdicts(*words: str):
    schema = verdict_schema(len(words))
    items = {
        f"item_{n}": {"evidence": f"seen {n}", "verdict": w} for n, w in enumerate(words, start=1)
    }
    return schema.model_validate(items)


def test_the_evaluator_is_told_the_items_and_nothing_that_names_class_or_method(table):
    for request, label in zip(
        audit_requests(table, CHEST, table["label"].tolist()), table["label"], strict=True
    ):
        text = f"{request.system}\n{request.prompt}"
        assert all(item in text for item in CHEST.checklist_items(label))
        assert "secret" not in text.lower()
        assert label.lower() not in text.lower()
        assert request.captions == ()


def test_the_form_holds_every_item_exactly_once_evidence_before_verdict():
    schema = json_schema(verdict_schema(5))
    assert schema["required"] == [f"item_{n}" for n in range(1, 6)]
    assert schema["additionalProperties"] is False
    item = schema["$defs"]["ItemVerdict"]
    assert list(item["properties"]) == ["evidence", "verdict"]
    assert item["properties"]["verdict"]["enum"] == ["present", "absent", "not assessable"]
    good = {"evidence": "", "verdict": "present"}
    for bad in ({"item_1": good}, {"item_1": good, "item_2": good, "item_3": good}):
        with pytest.raises(ValidationError):
            verdict_schema(2).model_validate(bad)
    with pytest.raises(ValidationError):
        verdict_schema(1).model_validate({"item_1": {"evidence": "", "verdict": "maybe"}})


def test_rows_hold_one_item_each_and_say_why_there_is_no_verdict(table):
    words = ("present", "absent", "not assessable", "present", "present")
    answers = [
        Answer("0", "accepted", value=verdicts(*words)),
        Answer("1", "refused", reason="the model declined"),
    ]
    rows = audit_rows(table, answers, CHEST, table["label"].tolist())
    assert list(rows) == [*COLUMNS, "patient"]
    first, second = rows[rows["id"] == "secret-id-1"], rows[rows["id"] == "secret-id-2"]
    assert first["verdict"].tolist() == list(words)
    assert first["attribute"].tolist() == list(CHEST.checklist("Pneumonia"))
    assert first["evidence"].tolist() == [f"seen {n}" for n in range(1, 6)]
    assert set(first["status"]) == {"ok"}
    assert set(second["verdict"]) == {""}
    assert set(second["status"]) == {"refused"}
    assert set(second["error"]) == {"the model declined"}


def test_evidence_is_one_printable_line_of_bounded_length(table):
    schema = verdict_schema(1)
    text = "a\nb\x1b[31m\u202e" + "x" * 1000
    pack = parse_domain(
        "name: t\ntitle: t\nmodality: t\nclasses:\n"
        "  - {name: Pneumonia, checklist: {A: b}}\n  - {name: Cardiomegaly, checklist: {A: c}}\n"
    )
    value = schema.model_validate({"item_1": {"evidence": text, "verdict": "present"}})
    answers = [Answer(str(k), "accepted", value=value) for k in range(2)]
    evidence = audit_rows(table, answers, pack, table["label"].tolist())["evidence"][0]
    assert evidence.startswith("a b [31m xxx")
    assert len(evidence) == EVIDENCE
    assert evidence.isprintable()


def test_a_class_without_checklist_is_refused(tmp_path):
    pack = parse_domain("name: t\ntitle: t\nmodality: t\nclasses: [{name: A}, {name: B}]\n")
    with pytest.raises(InputError, match="class 'A' of domain t has no checklist"):
        audit_request("0", tmp_path / "x.png", "A", pack)
    with pytest.raises(InputError, match="no second checklist"):
        control_labels(["A"], pack, 0)


def test_the_other_class_is_another_drawn_evenly_and_the_same_every_time():
    labels = ["Pneumonia"] * 3000
    other = control_labels(labels, CHEST, 7)
    assert other == control_labels(labels, CHEST, 7)
    counts = pd.Series(other).value_counts()
    assert set(counts.index) == set(CHEST.class_names) - {"Pneumonia"}
    assert counts.between(900, 1100).all()
