"""What a user gets: both packages are built and looked into."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cas-metric", "craft-trainer")
#: Files that are no Python and that nothing works without.
DATA = {
    "cas-metric": ("domains/packs/chexpert.yaml", "report/static/report.css", "py.typed"),
    "craft-trainer": ("templates/model_card.md.j2", "py.typed"),
}


@pytest.fixture(scope="module", params=PACKAGES)
def built(request, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out),
         str(ROOT / "packages" / request.param)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, out


def test_the_wheel_holds_the_licence_the_data_and_what_an_index_shows(built) -> None:
    name, out = built
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (metadata,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        fields = message_from_string(wheel.read(metadata).decode())
        (licence,) = (n for n in names if n.endswith(".dist-info/licenses/LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    package = name.replace("-", "_")
    for file in DATA[name]:
        assert f"{package}/{file}" in names
    assert fields["License-Expression"] == "Apache-2.0"
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.11"} <= set(
        fields.get_all("Classifier")
    )
    assert not [n for n in names if "__pycache__" in n]


def test_the_source_archive_holds_the_licence(built) -> None:
    _, out = built
    (path,) = out.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        assert any(n.count("/") == 1 and n.endswith("/LICENSE") for n in archive.getnames())


@pytest.mark.parametrize("name", PACKAGES)
def test_no_link_of_a_readme_breaks_outside_of_the_repository(name: str) -> None:
    text = (ROOT / "packages" / name / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert [one for one in targets if not one.startswith(("https://", "#"))] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_the_licence_of_a_package_is_that_of_the_repository(name: str) -> None:
    assert (ROOT / "packages" / name / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
