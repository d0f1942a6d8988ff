"""The package of the authors does the work: what it is given, and what it may not print."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from cas_metric.errors import CasError, MissingDependency
from cas_metric.sets.radiomics import radiomics_distance


@pytest.fixture
def package(monkeypatch):
    """A stand-in of frd_score, which prints its result."""
    stand_in = ModuleType("frd_score")
    stand_in.given = []

    def compute_frd(paths, **options):
        stand_in.given.append((paths, options))
        print("FRD (v1): 1.5")
        return 1.5

    stand_in.compute_frd = compute_frd
    monkeypatch.setitem(sys.modules, "frd_score", stand_in)
    monkeypatch.setitem(sys.modules, "radiomics", ModuleType("radiomics"))
    return stand_in


def test_real_images_come_first_and_nothing_is_printed_into_the_output(package, capsys):
    assert radiomics_distance([Path("made.png")], [Path("real.png")]) == 1.5
    assert package.given == [([["real.png"], ["made.png"]], {"num_workers": 1})]
    assert capsys.readouterr().out == ""


def test_what_the_package_cannot_compare_is_said(package, monkeypatch):
    def refuse(paths, **options):
        raise ValueError("no features")

    monkeypatch.setattr(package, "compute_frd", refuse)
    with pytest.raises(CasError, match="no features"):
        radiomics_distance([Path("made.png")], [Path("real.png")])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "frd_score", None)
    with pytest.raises(MissingDependency, match="frd"):
        radiomics_distance([Path("made.png")], [Path("real.png")])
