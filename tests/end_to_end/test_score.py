"""The whole of ``cas score`` on real pictures, interrupted, bad and distributed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.support.clinical_crops import (
    CAS,
    KILL_IN_THIRD_BATCH,
    Finished,
    Folders,
    cas,
    read_metadata,
    write_folders,
    write_metadata,
)
from tests.support.image_files import png16_bytes, write_huge_png
from tests.support.tiny_models import build_siglip
from tests.support.warm import Ended, Warm

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_image_files
from cas_metric.encoders import load_encoder

ROW_FILES = [
    f"{prefix}per_image.{kind}" for prefix in ("", "real_", "floor_") for kind in ("csv", "parquet")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_siglip(tmp_path_factory.mktemp("siglip") / "tiny-siglip")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_folders(tmp_path_factory.mktemp("crops") / "data", a_class=20)


def _arguments(folders: Folders, model: Path | str, tmp_path: Path, name: str) -> list[object]:
    out, cache = tmp_path / name, tmp_path / f"{name}-cache"
    words = ["score", folders.generated, folders.test, "--encoder", model, "--batch-size", 8]
    return [*words, "--device", "cpu", "--out", out, "--cache", cache]


def _assert_same_rows(one: Path, two: Path) -> None:
    for name in ROW_FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_real_photographs_are_told_apart_and_a_crop_is_most_like_its_own_image(
    folders: Folders, tmp_path: Path
) -> None:
    # The one encoder at hand whose weights are trained; the domain is an ordinary YAML file.
    model = "phantom-siglip"
    done = cas(*_arguments(folders, model, tmp_path, "run"))
    assert done.code == 0, done.err
    assert "Phantom" not in done.out
    rows = pd.read_parquet(tmp_path / "run" / "per_image.parquet")
    assert (rows["status"] == "ok").all()
    assert rows["dd"].mean() > 0.95
    paths = [
        folder / name
        for folder, column in ((folders.generated, "image"), (folders.test, "reference"))
        for name in rows[column]
    ]
    with EmbeddingCache(tmp_path / "run-cache") as cache:
        found = embed_image_files(paths, load_encoder(model, device="cpu"), cache)
    generated, real = np.split(found.embeddings, 2)
    similarity = generated @ real.T
    np.testing.assert_allclose(similarity.diagonal(), rows["sfs"], atol=1e-5)
    assert (similarity.argmax(axis=1) == np.arange(len(rows))).all()


def test_killed_in_the_middle_the_same_command_ends_with_the_same_rows(
    folders: Folders, model: Path, warm: Warm, tmp_path: Path
) -> None:
    whole = _arguments(folders, model, tmp_path, "whole")
    interrupted = _arguments(folders, model, tmp_path, "interrupted")
    assert cas(*whole).code == 0
    killed = warm.run(KILL_IN_THIRD_BATCH + CAS, *interrupted)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "interrupted").exists()
    finished = cas(*interrupted)
    assert finished.code == 0
    # Two batches of eight were committed before the third one was hit.
    assert "embedded 104 images, 16 from cache" in finished.out
    _assert_same_rows(tmp_path / "whole", tmp_path / "interrupted")


#: How a user starts several processes on one machine. accelerate starts those of several GPUs
#: through torchrun and does not look whether there are any, so its real launcher runs here.
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": [
        *("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", "0"),
    ],
}


@pytest.fixture(scope="module")
def alone(folders: Folders, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process without a launcher."""
    root = tmp_path_factory.mktemp("alone")
    assert cas(*_arguments(folders, model, root, "one")).code == 0
    return root / "one"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_write_the_same_rows_as_one(
    launcher: str, folders: Folders, model: Path, alone: Path, tmp_path: Path
) -> None:
    done = _launch(LAUNCHERS[launcher], *_arguments(folders, model, tmp_path, "two"))
    assert done.code == 0, done.err
    assert done.out.count("embedded 120 images, 0 from cache") == 1  # rank 1 says nothing
    _assert_same_rows(alone, tmp_path / "two")


@pytest.mark.parametrize("caches", ["shared", "separate"])
def test_ranks_without_a_launcher_of_their_own_write_the_same_rows(
    caches: str, folders: Folders, model: Path, alone: Path, warm: Warm, tmp_path: Path
) -> None:
    """As srun and mpirun start them: four variables, and nothing about hosts or local ranks."""
    arguments = _arguments(folders, model, tmp_path, "two")
    done = _ranks(warm, arguments, tmp_path, caches)
    assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
    assert done[1].stdout == ""
    _assert_same_rows(alone, tmp_path / "two")
    rows = pd.read_csv(tmp_path / "two" / "per_image.csv")
    assert (rows["status"] == "ok").all()


def test_an_error_of_rank_0_is_told_once_and_ends_the_others(
    folders: Folders, model: Path, warm: Warm, tmp_path: Path
) -> None:
    arguments = (*_arguments(folders, model, tmp_path, "two"), "--strict-text")
    rows = read_metadata(folders.generated)
    assert rows
    long = Path(shutil.copytree(folders.generated, tmp_path / "long"))
    write_metadata(long, [{**row, "prompt": "vessels " * 300} for row in rows])
    given = (arguments[0], long, *arguments[2:])
    done = _ranks(warm, given, tmp_path, "shared")
    assert [one.returncode for one in done] == [2, 2], [one.stderr for one in done]
    assert "tokens" in done[0].stderr
    assert all("Traceback" not in one.stderr for one in done)
    assert "cas: " not in done[1].stderr


def _ranks(warm: Warm, arguments: Sequence[object], tmp_path: Path, caches: str) -> list[Ended]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environments, own = [], [str(one) for one in arguments]
    for rank in ("0", "1"):
        cache = tmp_path / f"cache-{rank if caches == 'separate' else 'shared'}"
        environments.append({**os.environ, **group, "RANK": rank, "CAS_TEST_CACHE": str(cache)})
    own[own.index("--cache") + 1] = "$CAS_TEST_CACHE"
    code = "import os, sys\nsys.argv[1:] = map(os.path.expandvars, sys.argv[1:])\n" + CAS
    return warm.together(code, *own, envs=environments)


def test_accelerate_starts_one_process_on_the_processor(
    folders: Folders, model: Path, alone: Path, tmp_path: Path
) -> None:
    """However many are asked for: without MPI its CPU launcher starts one, which must be whole."""
    launcher = ["accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    done = _launch(launcher, *_arguments(folders, model, tmp_path, "two"))
    assert done.code == 0, done.err
    assert done.out.count("embedded 120 images, 0 from cache") == 1
    _assert_same_rows(alone, tmp_path / "two")


def _launch(launcher: list[str], *arguments: object) -> Finished:
    """``cas`` in the processes of a real launcher."""
    command = [
        sys.executable,
        "-m",
        *launcher,
        "--module",
        "cas_metric.cli.main",
        *map(str, arguments),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_every_bad_file_is_a_row_that_says_why_and_every_odd_one_is_scored(
    model: Path, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data", a_class=6)
    generated = folders.generated
    files = [row["file_name"] for row in read_metadata(generated)]
    crops = {name: np.asarray(Image.open(generated / name)) for name in files}
    bad, good = _spoil(generated, files[:5], crops), _disguise(generated, files[5:9], crops)
    rows = read_metadata(generated)
    for row in rows:
        row["file_name"] = {**bad, **good}.get(row["file_name"], row["file_name"])
    write_metadata(generated, rows)
    done = cas(*_arguments(folders, model, tmp_path, "run"))
    assert done.code == 3, done.err
    scored = pd.read_csv(tmp_path / "run" / "per_image.csv").set_index("image")
    for name in bad.values():
        assert scored.loc[name, "status"] == "failed"
        assert scored.loc[name, "error"]
        assert scored.loc[name, ["vdc", "ccs", "dd", "sfs", "cas"]].isna().all()
    untouched = [name for name in files if name not in {**bad, **good}]
    for name in [*good.values(), *untouched]:
        assert scored.loc[name, "status"] == "ok"
    # The pixels of a disguise are those of the crop, so nearly nothing may have changed.
    plain = write_folders(tmp_path / "plain", a_class=6)
    assert cas(*_arguments(plain, model, tmp_path, "before")).code == 0
    before = pd.read_csv(tmp_path / "before" / "per_image.csv").set_index("image")
    for old, new in good.items():
        assert scored.loc[new, "sfs"] == pytest.approx(before.loc[old, "sfs"], abs=0.02)


def _spoil(folder: Path, names: list[str], crops: dict[str, np.ndarray]) -> dict[str, str]:
    """Five files that cannot be scored: old name to new name."""
    jpeg = folder / "truncated.jpg"
    Image.fromarray(crops[names[0]]).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-200])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("this is no picture")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    write_huge_png(folder / "huge.png")
    new = ("truncated.jpg", "zero.png", "text.png", "one.png", "huge.png")
    return dict(zip(names, new, strict=True))


def _disguise(folder: Path, names: list[str], crops: dict[str, np.ndarray]) -> dict[str, str]:
    """Four unusual files that show the same picture as before: old name to new name."""
    deep = crops[names[0]].astype(np.uint16) * 257
    (folder / "deep.png").write_bytes(png16_bytes(deep))
    Image.fromarray(crops[names[1]]).convert("CMYK").save(folder / "cmyk.jpg", quality=98)
    palette = Image.fromarray(crops[names[2]]).quantize(255)
    palette.save(folder / "palette.png", transparency=255)  # a colour that no pixel has
    turned = Image.fromarray(np.rot90(crops[names[3]]))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    turned.save(folder / "turned.jpg", exif=exif, quality=98, subsampling=0)
    new = ("deep.png", "cmyk.jpg", "palette.png", "turned.jpg")
    return dict(zip(names, new, strict=True))
