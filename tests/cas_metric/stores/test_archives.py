"""Archives are read where they lie, and what is wrong with one member is told of that one."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.containers import as_tar, as_zip, files_of

from cas_metric.errors import ImageError, InputError
from cas_metric.images import load_image, sha256_file
from cas_metric.images.values import at_hand
from cas_metric.manifest import read_manifest
from cas_metric.stores import Address, located
from cas_metric.stores.base import MAX_FILE, safe_name, without_wrapper


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("Edema/1.png", "Edema/2.jpg", "Normal/é 3.png"):
        path = tmp_path / "gen" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "gen"


def tar_of(place: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(place, "w") as archive:
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return place


@pytest.mark.parametrize("pack", [as_tar, as_zip])
def test_a_member_is_its_file_byte_for_byte(folder: Path, tmp_path: Path, pack: object) -> None:
    place = pack(folder, tmp_path / f"gen.{pack.__name__[3:]}")  # type: ignore[operator]
    root = located(place)
    assert root.is_dir()
    assert not root.is_file()
    assert (root / "Edema").is_dir()
    for path in files_of(folder):
        address = located(f"{place}/{path.as_posix()}")
        assert isinstance(address, Address)
        assert address == root / path
        assert sha256_file(address) == sha256_file(folder / path)
        assert (load_image(address).pixels == load_image(folder / path).pixels).all()
        assert address.stat().st_size == (folder / path).stat().st_size
        assert pickle.loads(pickle.dumps(address)).read_bytes() == address.read_bytes()
    plain = read_manifest(folder)
    packed = read_manifest(place)
    assert packed.rows.equals(plain.rows)
    assert packed.name == plain.name == "gen"


def test_an_address_prints_and_compares_as_a_path(folder: Path, tmp_path: Path) -> None:
    place = as_zip(folder, tmp_path / "gen.zip")
    root = located(place)
    address = root / "Edema" / "1.png"
    assert str(address) == f"{place}/Edema/1.png" == str(Path(address))
    assert (address.name, address.suffix, address.stem) == ("1.png", ".png", "1")
    assert address.parent == root / "Edema"
    assert root.parent == tmp_path
    assert address.relative_to(root) == Path("Edema/1.png")
    assert sorted([root / "b", root / "a"]) == [root / "a", root / "b"]
    assert [one.name for one in root.iterdir()] == ["Edema", "Normal"]
    assert load_image(Path(str(address))).pixels.shape == (16, 16, 3)  # a plain path finds it too
    assert not (root / "Edema" / "no.png").exists()
    with pytest.raises(ImageError, match=r"gen\.zip/Edema/no\.png: no such file"):
        sha256_file(root / "Edema" / "no.png")
    with pytest.raises(OSError, match="cannot be written"):
        address.open("wb")


def test_nothing_leads_out_of_an_archive(folder: Path, tmp_path: Path) -> None:
    content = (folder / "Edema/1.png").read_bytes()
    names = ["../out.png", "/abs.png", "a/../../b.png", "C:/win.png", "Edema/1.png", "Edema/2.png"]
    place = tar_of(
        tmp_path / "set.tar", dict.fromkeys(names, content), {"Edema/link.png": "/etc/passwd"}
    )
    manifest = read_manifest(place)
    assert manifest.rows["image"].tolist() == ["Edema/1.png", "Edema/2.png"]
    told = " ".join(manifest.notes)
    assert "link.png' is a link" in told
    assert "'../out.png' leads out" in told
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in names:
            archive.writestr(name, content)
        link = zipfile.ZipInfo("Edema/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    manifest = read_manifest(tmp_path / "set.zip")
    assert manifest.rows["image"].tolist() == ["Edema/1.png", "Edema/2.png"]
    assert not (located(tmp_path / "set.zip") / "../out.png").exists()


def test_a_tar_that_is_cut_off_fails_in_its_last_member_alone(folder: Path, tmp_path: Path) -> None:
    place = as_tar(folder, tmp_path / "gen.tar")
    with tarfile.open(place) as archive:
        last = archive.getmembers()[-1]
    place.write_bytes(place.read_bytes()[: last.offset_data + 20])
    manifest = read_manifest(place)
    assert any("cut off" in note for note in manifest.notes)
    assert len(manifest) == 3
    good, _, cut = manifest.paths()
    assert load_image(good).pixels.shape == (16, 16, 3)
    with pytest.raises(ImageError, match=r"é 3\.png: cut off after 20 of"):
        load_image(cut)


def test_damaged_and_compressed_archives_say_so(tmp_path: Path) -> None:
    for name, content in (("a.tar", b"no tar at all" * 100), ("a.zip", b"PK\3\4 no zip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="not readable as an archive"):
            read_manifest(tmp_path / name)
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="compressed tar") as caught:
        read_manifest(tmp_path / "a.tar.gz")
    assert "decompress" in caught.value.fix


def test_a_bomb_is_refused_by_what_it_says_and_stopped_where_it_lies(tmp_path: Path) -> None:
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Edema/small.png", bytes(5_000_000))
        archive.writestr("Edema/large.png", b"x")
    raw = place.read_bytes()
    at = raw.rindex(b"Edema/large.png") - 46 + 24  # the uncompressed size in the directory
    place.write_bytes(raw[:at] + (MAX_FILE + 1).to_bytes(4, "little") + raw[at + 4 :])
    small, large = read_manifest(place).paths()[::-1]
    with pytest.raises(ImageError, match="more than the limit of 1 GiB for a file"):
        load_image(large)
    at = raw.rindex(b"Edema/small.png") - 46 + 24
    place.write_bytes(raw[:at] + (20).to_bytes(4, "little") + raw[at + 4 :])
    small = located(place) / "Edema/small.png"
    with pytest.raises(ImageError, match="Bad CRC"):  # 20 bytes are read of it, whatever it holds
        load_image(small)


def test_what_is_told_of_the_copy_is_told_of_the_member(folder: Path, tmp_path: Path) -> None:
    place = tar_of(tmp_path / "gen.tar", {"a/1.png": b"no image", "a/2.png": b""})
    for name, cause in (("1.png", "no readable image"), ("2.png", "the file is empty")):
        with pytest.raises(ImageError) as caught:
            load_image(located(place) / "a" / name)
        assert caught.value.problem.startswith(f"{place}/a/{name}: ")
        assert cause in caught.value.problem
    with at_hand(folder / "Edema/1.png") as file:
        assert file == folder / "Edema/1.png"  # a local file is not copied


def test_shards_are_one_set_and_share_no_name(folder: Path, tmp_path: Path) -> None:
    content = (folder / "Edema/1.png").read_bytes()
    place = tmp_path / "shards"
    place.mkdir()
    for number in range(3):
        tar_of(place / f"part-{number:03d}.tar", {f"Edema/{number}.png": content})
    assert read_manifest(place).rows["id"].tolist() == ["Edema/0", "Edema/1", "Edema/2"]
    assert len(read_manifest(place / "part-{000..001}.tar")) == 2
    assert len(read_manifest(place / "part-{000,002}.tar")) == 2
    assert read_manifest(place / "*.tar").name == "shards"
    with pytest.raises(InputError, match="no file has such a name"):
        read_manifest(place / "other-*.tar")
    tar_of(place / "part-003.tar", {"Edema/0.png": content})
    with pytest.raises(InputError, match=r"both hold 'Edema/0\.png'"):
        read_manifest(place)


def test_the_folder_around_everything_is_no_label() -> None:
    assert without_wrapper(["gen/a.png", "gen/b.png"], "gen") == "gen/"
    assert without_wrapper(["x/metadata.csv", "x/a.png"], "gen") == "x/"
    assert without_wrapper(["x/Edema/a.png", "x/Normal/b.png"], "gen") == "x/"
    assert without_wrapper(["Edema/a.png"], "gen") == ""  # the only label
    assert without_wrapper(["Edema/a.png", "Normal/b.png"], "gen") == ""
    assert without_wrapper(["a.png"], "gen") == ""
    packed_by_macos = ["gen/Edema/a.png", "gen/.DS_Store", "__MACOSX/gen/Edema/._a.png"]
    assert without_wrapper(packed_by_macos, "gen") == "gen/"
    assert without_wrapper(packed_by_macos, "renamed") == "gen/"


def test_what_macos_packs_beside_a_folder_is_not_read(folder: Path, tmp_path: Path) -> None:
    content = (folder / "Edema/1.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        archive.writestr("gen/Edema/1.png", content)
        archive.writestr("gen/.DS_Store", b"Bud1")
        archive.writestr("__MACOSX/gen/Edema/._1.png", b"Mac OS X")
    rows = read_manifest(tmp_path / "sent.zip").rows
    assert rows[["image", "label"]].to_numpy().tolist() == [["Edema/1.png", "Edema"]]


def test_what_macos_packs_beside_the_files_of_a_webdataset_is_not_read(
    folder: Path, tmp_path: Path
) -> None:
    image = (folder / "Edema" / "1.png").read_bytes()
    double = b"\0\5\26\7" + bytes(60)  # AppleDouble
    members = {"./._000.png": double, "./000.png": image, "./._000.cls": double, "./000.cls": b"1"}
    place = tar_of(tmp_path / "set.tar", {**members, "./001.png": image, "./001.cls": b"0"})
    rows = read_manifest(place).rows
    assert rows[["image", "label"]].values.tolist() == [["000.png", "1"], ["001.png", "0"]]


def test_a_zip_of_a_windows_program_has_folders(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "win.zip", "w") as archive:
        for path in files_of(folder):
            member = zipfile.ZipInfo("x")
            member.filename = str(path).replace("/", "\\")
            archive.writestr(member, (folder / path).read_bytes())
        outside = zipfile.ZipInfo("x")
        outside.filename = "..\\out.png"
        archive.writestr(outside, b"")
    manifest = read_manifest(tmp_path / "win.zip")
    assert manifest.rows.equals(read_manifest(folder).rows)
    assert "leads out of the archive" in manifest.notes[0]
    for path, name in zip(manifest.paths(), files_of(folder), strict=True):
        assert sha256_file(path) == sha256_file(folder / name)


def test_safe_names() -> None:
    assert safe_name("./a//b.png") == "a/b.png"
    for bad in ("", "../a", "/a", "a/../../b", "\\a", "C:\\a", "a\0b", "..", "a\\..\\..\\b"):
        assert safe_name(bad) == "", bad
