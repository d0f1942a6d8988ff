"""cas.yaml: read with line numbers, written with relative paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas_metric.errors import CasError, InputError
from cas_metric.images import Window
from cas_metric.manifest import (
    FolderConfig,
    read_folder_config,
    read_manifest,
    write_folder_config,
)


def test_paths_are_relative_in_the_file_and_absolute_in_memory(tmp_path):
    config = FolderConfig(
        domain="phantom-chexpert",
        train=tmp_path / "data" / "train",
        probe=tmp_path / "data" / "test" / "probe.safetensors",
        split="test",
        provenance={"seed": 0, "made": {"by": "cas", "counts": [1, 2.5, None, True]}},
    )
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    text = write_folder_config(folder, config).read_text()
    assert "train: ../train" in text
    assert "probe: probe.safetensors" in text
    assert read_folder_config(folder) == config
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = read_folder_config(tmp_path / "moved" / "test")
    assert moved is not None
    assert moved.train == tmp_path / "moved" / "train"


def test_a_domain_file_is_found_from_the_folder(tmp_path):
    (tmp_path / "cas.yaml").write_text("domain: ../textile.yaml\n")
    config = read_folder_config(tmp_path)
    assert config is not None
    assert config.domain == str(tmp_path.parent / "textile.yaml")


def test_no_config_and_dates(tmp_path):
    assert read_folder_config(tmp_path) is None
    (tmp_path / "cas.yaml").write_text("provenance: {made: 2025-01-31}\n")
    config = read_folder_config(tmp_path)
    assert config is not None
    assert config.provenance == {"made": "2025-01-31"}


def test_a_value_is_what_was_written(tmp_path):
    (tmp_path / "cas.yaml").write_text(
        "split: 010\ndomain: no\nprovenance: {site: 010, at: 1:30, seen: no, counts: {off: 3},"
        " rate: 1e-4, n: -5, share: 0.5, all: .inf, 0E0: 1.5e-4, small: 1.5e-07, sure: true,"
        " none: , hex: 0x10, text: '7'}\n"
    )
    config = read_folder_config(tmp_path)
    assert (config.split, config.domain) == ("010", "no")
    assert config.provenance == {
        "site": "010",
        "at": "1:30",
        "seen": "no",
        "counts": {"off": 3},
        "rate": "1e-4",
        "n": -5,
        "share": 0.5,
        "all": float("inf"),
        "0E0": 1.5e-4,
        "small": 1.5e-07,
        "sure": True,
        "none": None,
        "hex": "0x10",
        "text": "7",
    }
    write_folder_config(tmp_path, config)
    assert read_folder_config(tmp_path) == config


def test_a_window_reaches_the_manifest(tmp_path):
    (tmp_path / "m.csv").write_text("image\na.dcm\n")
    assert read_manifest(tmp_path / "m.csv").window is None
    (tmp_path / "cas.yaml").write_text("window: [-1350, 150]\n")
    assert read_manifest(tmp_path / "m.csv").window == Window(-1350, 150)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("split: test\ndomian: x\n", ["line 2", "'domian'", "'domain'"]),
        ("split: [a]\n", ["line 1", "split"]),
        ("a: 1\na: 2\n", ["line 2", "'a'"]),
        ("split: x\n\tdomain: y\n", ["line 2"]),
        ("- a\n", ["key: value"]),
        ("", ["key: value"]),
        ("provenance: &a [*a]\n", ["alias"]),
        ("train: !!python/object/apply:os.system [ls]\n", ["line 1", "tag"]),
        ("split: !!int x\n", ["cas.yaml"]),
        ("provenance: {a: !!binary x}\n", ["cas.yaml"]),
        ("split: 'a\n", ["YAML"]),
        ('split: "\\ud800"\n', ["cas.yaml"]),
        ("window: [5, 1]\n", ["line 1", "below"]),
        ("window: [.nan, 1]\n", ["line 1", "window"]),
        ("window: [no, yes]\n", ["line 1", "window", "valid number"]),
        ("window: [1:30, 95]\n", ["line 1", "window", "valid number"]),
        ("provenance: " + "[" * 800, ["cas.yaml"]),
    ],
)
def test_what_is_refused_and_how(tmp_path, text, words):
    (tmp_path / "cas.yaml").write_text(text)
    with pytest.raises(CasError) as caught:
        read_folder_config(tmp_path)
    message = str(caught.value)
    for word in (str(tmp_path / "cas.yaml"), *words):
        assert word in message, message


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CasError, match="file"):
        write_folder_config(tmp_path / "file", FolderConfig())
    with pytest.raises(InputError):
        read_manifest(Path(tmp_path / "file"))


@pytest.mark.parametrize("key", ["root", "train", "probe", "domain"])
def test_a_url_in_a_configuration_is_not_opened_offline(tmp_path, key):
    for name in ("a", "a/b"):  # of a folder, and of a manifest below one
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "b" / "metadata.csv").write_text("file_name,label\n1.png,x\n")
    (tmp_path / "a" / "b" / "cas.yaml").write_text(f"{key}: https://localhost:9/set.tar\n")
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "metadata.csv"):
        with pytest.raises(InputError, match=r"cas\.yaml: https://.* is on the network"):
            read_manifest(folder, offline=True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest", "own network"),
        ("http://0xA9FEA9FE/set.tar", "own network"),
        ("https://me:pa/ss@host/set", "no host"),
        ("ftp://host/set", "not read from ftp://"),
    ],
)
def test_a_configuration_names_no_url_that_a_table_may_not_name(tmp_path, url, said):
    for key in ("root", "train", "domain"):
        (tmp_path / "cas.yaml").write_text(f"{key}: {url}\n")
        with pytest.raises(InputError, match=rf"cas\.yaml: .*{said}") as caught:
            read_folder_config(tmp_path)
        assert caught.value.fix
