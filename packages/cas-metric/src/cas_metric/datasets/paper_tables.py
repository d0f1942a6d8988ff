"""Tables 19-22 of the paper, and how a prepared split differs from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cas_metric.datasets.splits import Quota


@dataclass(frozen=True)
class LabelTable:
    """One table of Appendix N.

    Attributes:
        number: Its number in the paper.
        rows: Class name of the domain to its train and test counts.
        total: The totals that the table states.
    """

    number: int
    rows: dict[str, Quota]
    total: Quota


@dataclass(frozen=True)
class ClassCount:
    """Images of one class, here and in the paper."""

    label: str
    train: int
    test: int
    paper_train: int
    paper_test: int


LABEL_TABLES: Final[dict[str, LabelTable]] = {
    "fitzpatrick17k": LabelTable(
        19,
        {
            "Psoriasis": (326, 327),
            "Squamous Cell Carcinoma": (288, 291),
            "Lichen Planus": (246, 245),
            "Basal Cell Carcinoma": (234, 234),
            "Allergic Contact Dermatitis": (214, 215),
            "Lupus Erythematosus": (205, 205),
            "Sarcoidosis": (173, 175),
            "Folliculitis": (171, 171),
            "Scabies": (169, 169),
            "Melanoma": (130, 131),
            "Erythema Multiforme": (118, 118),
            "Granuloma Annulare": (106, 105),
            "Eczema": (101, 102),
            "Pityriasis Rosea": (96, 97),
            "Acne": (92, 91),
            "Mycosis Fungoides": (91, 91),
            "Actinic Keratosis": (88, 87),
            "Prurigo Nodularis": (85, 85),
            "Vitiligo": (80, 83),
            "Keloid": (78, 78),
        },
        (3100, 3100),
    ),
    "chexpert": LabelTable(
        20,
        {
            "No Finding": (125, 124),
            "Pleural Effusion": (125, 123),
            "Cardiomegaly": (123, 123),
            "Pneumonia": (122, 125),
        },
        (495, 495),
    ),
    "breakhis": LabelTable(
        21,
        {
            "Adenosis": (56, 57),
            "Ductal Carcinoma": (452, 451),
            "Fibroadenoma": (130, 130),
            "Lobular Carcinoma": (85, 85),
            "Mucinous Carcinoma": (111, 111),
            "Papillary Carcinoma": (71, 71),
            "Phyllodes Tumor": (60, 61),
            "Tubular Adenoma": (75, 75),
        },
        (1040, 1041),
    ),
    "origa": LabelTable(22, {"Normal": (318, 132), "Glaucoma": (136, 64)}, (454, 196)),
}


def count_classes(
    dataset: str, train: Sequence[str], test: Sequence[str]
) -> tuple[list[ClassCount], list[str]]:
    """Class counts of a split beside those of the paper, and every difference in words.

    Args:
        dataset: Name of the data set.
        train: Labels of the training side.
        test: Labels of the test side.

    Returns:
        One row a class, in the order of the paper's table, and one line a difference.
    """
    table = LABEL_TABLES[dataset]
    ours = Counter(train), Counter(test)
    counts = [
        ClassCount(label, ours[0][label], ours[1][label], *paper)
        for label, paper in table.rows.items()
    ]
    return counts, [*_own_contradictions(table), *_differences(table, counts)]


def _own_contradictions(table: LabelTable) -> Iterator[str]:
    """Columns of the printed table whose rows do not add up to the total below them."""
    for side, name in enumerate(("train", "test")):
        total = sum(quota[side] for quota in table.rows.values())
        if total != table.total[side]:
            yield (
                f"Table {table.number} of the paper: the {name} rows add up to {total:,}, "
                f"the total below them says {table.total[side]:,}"
            )


def _differences(table: LabelTable, counts: Sequence[ClassCount]) -> Iterator[str]:
    for side, ours, paper in (
        ("train", sum(c.train for c in counts), table.total[0]),
        ("test", sum(c.test for c in counts), table.total[1]),
    ):
        if ours != paper:
            yield f"{side}: {ours:,} images, Table {table.number} says {paper:,}"
    for count in counts:
        for side, ours, paper in (
            ("train", count.train, count.paper_train),
            ("test", count.test, count.paper_test),
        ):
            if ours != paper:
                yield f"{count.label}, {side}: {ours}, Table {table.number} says {paper}"
