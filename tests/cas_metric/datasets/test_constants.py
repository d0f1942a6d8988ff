"""Every documented number about the data sets, against its own parts and the real files."""

from __future__ import annotations

import csv
import hashlib

import pytest
from tests.support.real_data import real_data

from cas_metric.datasets import DATASETS, fitzpatrick17k
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.domains import load_domain

#: Rows of a table that do not add up to the total that the paper prints below them.
SHORT = {("fitzpatrick17k", "train"): 9}


@pytest.mark.parametrize("name", sorted(LABEL_TABLES))
def test_totals_are_the_sums_of_their_rows_but_for_one(name):
    table = LABEL_TABLES[name]
    for side, column in enumerate(("train", "test")):
        total = sum(counts[side] for counts in table.rows.values())
        assert table.total[side] - total == SHORT.get((name, column), 0)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_tables_and_domains_name_the_same_classes(name):
    assert set(LABEL_TABLES[name].rows) == set(load_domain(DATASETS[name].domain).class_names)


def test_the_public_csv_of_fitzpatrick17k():
    path = real_data("fitzpatrick17k") / "fitzpatrick17k.csv"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == fitzpatrick17k.CSV_SHA256
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = [row["label"] for row in rows]
    assert (len(rows), len(set(labels))) == (16_577, 114)
    for name, (_, test) in LABEL_TABLES["fitzpatrick17k"].rows.items():
        count = labels.count(name.lower())
        assert count - round(0.5 * count) == test  # the test side of the table is that of the file
