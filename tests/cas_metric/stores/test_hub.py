"""``hf://`` against a hub of this machine: the contents of the folder, and never old ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import constants
from PIL import Image
from tests.support.containers import as_parquet, as_tar, as_webdataset, files_of
from tests.support.hub_server import hub_server

from cas_metric.embedding.decoding import hash_files
from cas_metric.errors import InputError
from cas_metric.manifest import as_manifest, read_manifest
from cas_metric.stores import urls


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a data set ``me/made``."""
    folder = tmp_path / "me" / "made" / "gen"
    (folder / "a").mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (16, 16), (50 * number, 0, 0)).save(folder / "a" / f"{number}.png")
    _table(folder, *(f"a/{number}.png" for number in range(5)))
    with hub_server(tmp_path) as endpoint:
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        urls.file_system.cache_clear()
        yield folder
        urls.file_system.cache_clear()


def _table(folder: Path, *names: str) -> None:
    rows = "".join(f"{name},x\n" for name in names)
    (folder / "metadata.csv").write_text(f"file_name,label\n{rows}")


def _digests(source: str | Path) -> list[str]:
    found = hash_files(read_manifest(source).paths(), 2)
    assert not any(one.error for one in found), found
    return [one.digest for one in found]


def test_a_data_set_of_files_archives_and_tables(hub: Path) -> None:
    place = hub.parent
    as_tar(hub, place / "gen.tar")
    as_webdataset(hub, place / "shards", 2)
    as_parquet(hub, place / "gen.parquet")
    expected = _digests(hub)
    for name in ("gen", "gen.tar", "shards", "gen.parquet", "gen/metadata.csv"):
        assert _digests(f"hf://datasets/me/made/{name}") == expected, name
    assert _digests("hf://datasets/me/made@main/gen") == expected


def test_what_was_uploaded_meanwhile_is_seen_in_the_same_process(hub: Path) -> None:
    before = _digests("hf://datasets/me/made/gen")
    tar = as_tar(hub, hub.parent / "gen.tar")
    link = pd.DataFrame({"image": ["hf://datasets/me/made/gen/a/1.png"]})
    assert len(as_manifest(link).path(0).read_bytes()) == (hub / "a" / "1.png").stat().st_size
    assert _digests("hf://datasets/me/made/gen.tar") == before
    Image.effect_noise((64, 64), 50).save(hub / "a" / "1.png")
    Image.effect_noise((64, 64), 50).save(hub / "a" / "9.png")
    _table(hub, "a/1.png", "a/9.png")
    as_tar(hub, tar)
    for name in ("gen", "gen.tar", "gen/metadata.csv"):
        assert _digests(f"hf://datasets/me/made/{name}") == _digests(hub), name
    assert as_manifest(link).path(0).read_bytes() == (hub / "a" / "1.png").read_bytes()


def test_what_is_not_there(hub: Path) -> None:
    for url in ("hf://datasets/me/none/gen", "hf://datasets/me/made/none.tar"):
        with pytest.raises(InputError, match=r"hf://datasets/me/.*no such file"):
            read_manifest(url)
    (hub / "a" / "3.png").unlink()
    states = hash_files(read_manifest("hf://datasets/me/made/gen").paths(), 1)
    assert [bool(one.error) for one in states] == [False, False, False, True, False]
    assert len(files_of(hub)) == 5
