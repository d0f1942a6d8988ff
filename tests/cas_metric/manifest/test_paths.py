"""Where the paths of a manifest may lead, and who grants it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from PIL import Image

from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.manifest import ANYWHERE, read_manifest
from cas_metric.manifest.pairing import match

PICTURE = Image.fromarray(np.zeros((16, 16, 3), np.uint8))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path)
    return path


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def refused(path: Path, *words: str) -> CasError:
    with pytest.raises(CasError) as caught:
        read_manifest(path)
    message = str(caught.value)
    for word in (str(path), "fix: ", *words):
        assert word in message, message
    return caught.value


@pytest.fixture(autouse=True)
def _nothing_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader of this machine has granted is none of the tests' business."""
    monkeypatch.delenv("CAS_ALLOW_ROOT", raising=False)


@pytest.mark.parametrize(
    "image",
    [
        "../secret.png",
        "a/../../secret.png",
        "/etc/passwd",
        "C:\\secret.png",
        "\\\\host\\share\\a.png",
        "..\\secret.png",
        "a\\..\\..\\b.png",
        "C:secret.png",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path, image):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"image": image}))
    refused(path, "line 1", repr(image))


def test_a_link_that_leads_out_is_refused(tmp_path):
    secret = picture(tmp_path / "secret.png")
    inner = picture(tmp_path / "data" / "real.png")
    (tmp_path / "data" / "link.png").symlink_to(secret)
    (tmp_path / "data" / "inside.png").symlink_to(inner)
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    path = table(tmp_path / "data" / "m.csv", "image\ninside.png\nlink.png\nup/secret.png\n")
    manifest = read_manifest(path)
    assert manifest.path(0) == tmp_path / "data" / "inside.png"
    for row in (1, 2):
        with pytest.raises(InputError, match="link that leads out"):
            manifest.path(row)
    trusted = read_manifest(path, allowed_roots=[tmp_path])
    assert [p.is_file() for p in trusted.paths()] == [True] * 3


def test_a_linked_root_is_no_escape(tmp_path):
    picture(tmp_path / "data" / "a.png")
    table(tmp_path / "data" / "m.csv", "image\na.png\n")
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    assert read_manifest(tmp_path / "alias" / "m.csv").path(0).is_file()


def test_absolute_paths_where_the_caller_allows_them(tmp_path):
    image = picture(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "data"
    folder.mkdir()
    path = table(folder / "m.csv", f"image\n{image}\n")
    refused(path, "absolute", "--allow-root")
    for roots in ([tmp_path / "elsewhere"], [str(tmp_path)], ANYWHERE):
        assert read_manifest(path, allowed_roots=roots).paths() == [image]
    with pytest.raises(PreflightError, match="absolute"):
        read_manifest(path, allowed_roots=[tmp_path / "other"])
    table(path, "image\n../elsewhere/a.png\n")
    refused(path, "'..'", "--allow-root")
    assert read_manifest(path, allowed_roots=[tmp_path / "elsewhere"]).path(0).samefile(image)


def test_an_allowed_root_is_not_left_by_links_either(tmp_path):
    picture(tmp_path / "secret" / "a.png")
    store = tmp_path / "store"
    store.mkdir()
    (store / "link.png").symlink_to(tmp_path / "secret" / "a.png")
    (store / "up").symlink_to(tmp_path / "secret")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(store / "link.png")
    path = table(folder / "m.csv", "image\nlink.png\n")
    with pytest.raises(InputError, match="link that leads out") as caught:
        read_manifest(path, allowed_roots=[store]).paths()
    # Every command reads the variable; few have the option.
    assert f"allow its folder: CAS_ALLOW_ROOT={tmp_path / 'secret'} (or" in caught.value.fix
    table(path, f"image\n{store}/up/a.png\n")
    with pytest.raises(PreflightError):
        read_manifest(path, allowed_roots=[store])
    (tmp_path / "storehouse").mkdir()  # no prefix of a name is a folder
    table(path, f"image\n{picture(tmp_path / 'storehouse' / 'b.png')}\n")
    with pytest.raises(PreflightError):
        read_manifest(path, allowed_roots=[store])


def test_a_folder_cannot_grant_itself_the_readers_files(tmp_path, monkeypatch):
    secret = picture(tmp_path / "home" / "secret.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "data"
    picture(folder / "a.png")
    path = table(folder / "m.csv", f"image\n{secret}\n")
    (folder / "cas.yaml").write_text("allow_absolute: true\n")
    refused(path, "absolute", "--allow-root")
    table(path, "image\na.png\n")
    (note,) = read_manifest(path).notes
    assert (
        "only CAS_ALLOW_ROOT=DIR (or --allow-root DIR of cas score and cas datasets) grants that"
        in note
    )
    for root in ("..", "../..", "/"):
        (folder / "cas.yaml").write_text(f"root: {root}\n")
        with pytest.raises(InputError, match="all of your files") as caught:
            read_manifest(path)
        assert "--allow-root" in caught.value.fix
    assert read_manifest(path, allowed_roots=ANYWHERE).root == Path("/")


def test_the_users_environment_grants_folders_to_every_command(tmp_path, monkeypatch):
    images = [picture(tmp_path / name / "a.png") for name in ("one", "two")]
    (tmp_path / "data").mkdir()
    path = table(tmp_path / "data" / "m.csv", "image\n" + "".join(f"{i}\n" for i in images))
    refused(path, "absolute", "CAS_ALLOW_ROOT=DIR")
    monkeypatch.setenv("CAS_ALLOW_ROOT", os.pathsep.join([str(i.parent) for i in images]))
    assert read_manifest(path).paths() == images
    monkeypatch.setenv("CAS_ALLOW_ROOT", f"{tmp_path / 'one'}{os.pathsep}")
    refused(path, "line 3")
    assert read_manifest(path, allowed_roots=[tmp_path / "two"]).paths() == images


def test_a_root_elsewhere_is_told(tmp_path):
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "tables").mkdir()
    path = table(tmp_path / "tables" / "m.csv", "image\na.png\n")
    (tmp_path / "tables" / "cas.yaml").write_text("root: ../images\n")
    told = f"{tmp_path / 'tables' / 'cas.yaml'}: the images are read from {tmp_path / 'images'}"
    assert read_manifest(path).notes == (told,)


def test_a_root_that_is_written_with_dots_has_its_own_name(tmp_path):
    picture(tmp_path / "gen" / "inner" / "a.png")
    table(tmp_path / "gen" / "metadata.csv", "image\ninner/a.png\n")
    assert read_manifest(tmp_path / "gen" / "inner" / "..").root == tmp_path / "gen"


def test_another_root(tmp_path):
    image = picture(tmp_path / "images" / "a.png")
    (tmp_path / "tables").mkdir()
    path = table(tmp_path / "tables" / "m.csv", "image\na.png\n")
    assert read_manifest(path, root=tmp_path / "images").path(0) == image
    (tmp_path / "tables" / "cas.yaml").write_text("root: ../images\n")
    assert read_manifest(path).path(0) == image


def test_a_table_that_windows_wrote_pairs_with_a_folder_of_this_machine(tmp_path: Path) -> None:
    names = [PurePosixPath("left", f"{number}.png") for number in range(3)]
    for side in ("real", "generated"):
        for name in names:
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / side / name).write_bytes(b"")
    lines = [f"{PureWindowsPath(name)},a" for name in names]
    (tmp_path / "generated" / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    real, generated = (read_manifest(tmp_path / side) for side in ("real", "generated"))
    assert generated.rows["image"].tolist() == [str(name) for name in names]
    assert generated.rows["id"].tolist() == [f"left/{number}" for number in range(3)]
    assert match(generated, real)[0] == [0, 1, 2]
    rows = generated.rows.assign(id="", reference=[str(PureWindowsPath(n)) for n in names[::-1]])
    assert match(replace(generated, rows=rows), real)[0] == [2, 1, 0]


def test_a_backslash_in_the_name_of_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(b"")
    (tmp_path / "metadata.csv").write_text("file_name\na\\b.png\n")
    assert read_manifest(tmp_path).rows[["id", "image"]].values.tolist() == [["a\\b", "a\\b.png"]]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there alone")
def test_a_folder_whose_name_no_table_can_hold_is_refused(tmp_path):
    """It ended in an AssertionError of pandas."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xe9st"))
    folder.mkdir()
    (folder / "m.csv").write_text("image\na.png\n")
    for source in (folder, folder / "m.csv"):
        with pytest.raises(InputError, match=r"t\\udce9st.* is no UTF-8, as reports"):
            read_manifest(source)
    (tmp_path / "m.csv").write_text("image\na.png\n")
    with pytest.raises(InputError, match="is no UTF-8"):
        read_manifest(tmp_path / "m.csv", root=folder)


def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    """A PermissionError; as root nothing is forbidden, hence the stand-in."""

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(InputError, match=r"locked/set: Permission denied\n  fix: check its perm"):
        read_manifest(tmp_path / "locked" / "set")
