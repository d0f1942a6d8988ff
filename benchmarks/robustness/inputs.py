"""The same images from every container: are the rows the same, and does memory stay flat?

``python -m benchmarks.robustness.inputs [--sizes 2000 20000] [--of tar …] [--photographs DIR]``
``python -m benchmarks.robustness.inputs --reading``

A folder of drawings (PNG, 64 pixels) is packed as a zip, a tar, a WebDataset of shards and a
Parquet table with bytes, and served by an HTTP server and an S3 server (moto) of this machine. Each
is scored by a process of its own with an empty cache; ``per_image.csv`` must be that of the folder,
byte for byte. Peak resident memory is read from the kernel. ``--reading`` reads, hashes, decodes
and stores without an encoder (the mean colour stands for it), in a fraction of the time; the
digests of all contents must be those of the folder. ``--photographs`` takes a folder with a
``metadata.csv`` and its first images instead of drawings, at the first size only.

S3 needs ``s3fs`` and ``moto[server]``; without them it is left out, and said so.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tests.support import containers

from benchmarks.performance.workload import Measured, run_cas, write_folders

if TYPE_CHECKING:
    import torch

ENCODER = "phantom-siglip"
#: Real partners: many generated images share one, so that the containers are most of the work.
PARTNERS = 200
CONTAINERS = ("folder", "zip", "tar", "webdataset", "parquet", "http", "s3")


def main() -> None:
    """Score every container at every size; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--of", nargs="+", default=list(CONTAINERS), choices=CONTAINERS)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--reading", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(read_all(arguments.worker))
        return
    peaks: dict[str, list[int]] = {}
    for size in arguments.sizes[:1] if arguments.photographs else arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            given = (Path(name), size, arguments.of, arguments.photographs, peaks)
            measure(*given, reading=arguments.reading)
    for name, found in peaks.items():
        if len(found) > 1:
            print(f"{name:11} peak at {arguments.sizes[-1]:,} over {arguments.sizes[0]:,}: "
                  f"{found[-1] / found[0]:.3f}")  # fmt: skip


def measure(
    root: Path,
    size: int,
    wanted: list[str],
    photographs: Path | None,
    peaks: dict[str, list[int]],
    *,
    reading: bool,
) -> None:
    """One size: write the folder, and score it out of every container."""
    generated, real = draw(root, size) if photographs is None else take(photographs, root, size)
    reference = ""
    for name in wanted:
        with packed(name, generated, root) as (source, environment):
            if not source:
                print(f"{name:11} left out: s3fs and moto[server] are not installed")
                continue
            if reading:
                one, digest = read_alone(source, environment)
            else:
                one, digest = scored(source, real, root, name, environment)
        reference = reference or digest
        peaks.setdefault(name, []).append(one.peak)
        same = "the same rows" if digest == reference else f"OTHER ROWS ({digest[:8]})"
        print(
            f"{name:11} {size:>6} images: {same}, {one.seconds:6.1f} s, processor "
            f"{one.processor:6.1f} s, peak {one.peak / 2**20:5.0f} MiB",
            flush=True,
        )


def draw(root: Path, size: int) -> tuple[Path, Path]:
    """Drawings, whose generated ones share :data:`PARTNERS` real ones."""
    generated, real = write_folders(root, size)
    for number in range(PARTNERS, size):
        (real / f"{number}.png").unlink()
    rows = _rows(real / "metadata.csv")[:PARTNERS]
    _write(real / "metadata.csv", rows)
    rows = _rows(generated / "metadata.csv")
    _write(generated / "metadata.csv",
           [{**row, "reference": str(int(row["id"]) % PARTNERS)} for row in rows])  # fmt: skip
    return generated, real


def take(folder: Path, root: Path, size: int) -> tuple[Path, Path]:
    """Photographs of a folder twice: as they are, and as those that are scored."""
    rows = _rows(folder / "metadata.csv")[:size]
    for name in ("generated", "real"):
        for row in rows:
            target = root / name / row["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / row["file_name"], target)
        kept = [{key: row[key] for key in ("id", "file_name", "label")} for row in rows]
        _write(root / name / "metadata.csv", kept)
    return root / "generated", root / "real"


@contextmanager
def packed(name: str, folder: Path, root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a container of the folder lies, and what its reader needs in the environment."""
    place = root / name
    place.mkdir(exist_ok=True)
    if name == "folder":
        yield str(folder), {}
    elif name == "zip":
        yield str(containers.as_zip(folder, place / "generated.zip")), {}
    elif name == "tar":
        yield str(containers.as_tar(folder, place / "generated.tar")), {}
    elif name == "webdataset":
        yield str(containers.as_webdataset(folder, place / "generated", 8)), {}
    elif name == "parquet":
        yield str(containers.as_parquet(folder, place / "generated.parquet", group=500)), {}
    elif name == "http":
        with containers.http_server(folder.parent) as url:
            yield f"{url}/{folder.name}", {}
    elif importlib.util.find_spec("s3fs") and importlib.util.find_spec("moto"):
        with s3_server() as environment:
            upload(folder, environment)
            yield f"s3://bucket/{folder.name}", environment
    else:
        yield "", {}
    shutil.rmtree(place)


@contextmanager
def s3_server(port: int = 5555) -> Iterator[dict[str, str]]:
    """An S3 server of this machine alone, and how it is found."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        keys = {"AWS_ACCESS_KEY_ID": "here", "AWS_SECRET_ACCESS_KEY": "none"}
        yield {**keys, "AWS_DEFAULT_REGION": "eu-west-1", "FSSPEC_S3_ENDPOINT_URL": url}
    finally:
        server.terminate()
        server.wait()


def upload(folder: Path, environment: dict[str, str]) -> None:
    """The files of a folder into a bucket."""
    import s3fs

    system = s3fs.S3FileSystem(
        key=environment["AWS_ACCESS_KEY_ID"],
        secret=environment["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={"region_name": environment["AWS_DEFAULT_REGION"]},
        endpoint_url=environment["FSSPEC_S3_ENDPOINT_URL"],
    )
    system.mkdir("bucket")
    system.put(str(folder), f"bucket/{folder.name}", recursive=True)


def scored(
    source: str, real: Path, root: Path, name: str, environment: dict[str, str]
) -> tuple[Measured, str]:
    """One run with an empty cache, and the digest of its rows."""
    out, cache = root / f"run-{name}", root / f"cache-{name}"
    domain = ["--domain", root / "domain.yaml"] if (root / "domain.yaml").is_file() else []
    one = run_cas(
        "score", source, real, *domain, "--encoder", ENCODER, "--cache", cache, "--out", out,
        environment={**os.environ, **environment},
    )  # fmt: skip
    digest = hashlib.sha256((out / "per_image.csv").read_bytes()).hexdigest()
    shutil.rmtree(cache)
    return one, digest


def read_alone(source: str, environment: dict[str, str]) -> tuple[Measured, str]:
    """One process that reads every image of a source, and the digest of their digests."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.robustness.inputs", "--worker", source],
        stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert process.stdout is not None
    digest = process.stdout.read().strip()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"reading {source} ended with exit code {process.returncode}")
    seconds = time.perf_counter() - started
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024), digest


def read_all(source: str) -> str:
    """Read, hash, decode and store every image of a source; the digest of their digests."""
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files
    from cas_metric.manifest import read_manifest

    manifest = read_manifest(source)
    with EmbeddingCache("none") as cache:
        found = embed_image_files(manifest.paths(), MeanColour(), cache)  # type: ignore[arg-type]
    assert not any(found.reasons), next(filter(None, found.reasons))
    rows = zip(manifest.rows["id"], found.digests, found.embeddings.tolist(), strict=True)
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


class MeanColour:
    """Stands for an encoder: an image's embedding is its mean colour."""

    name, fingerprint, dtype, device, dim, image_size = "mean", "mean", "float32", "cpu", 3, 32

    def official_preprocess(self, images: list[np.ndarray]) -> list[torch.Tensor]:
        """``(3, 32, 32)`` of each ``(H, W, 3)`` uint8 image."""
        import torch

        squares = [Image.fromarray(one).resize((32, 32)) for one in images]
        return [torch.from_numpy(np.array(one)).permute(2, 0, 1).float() for one in squares]

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(B, 3)`` mean colours."""
        return pixels.mean(dim=(2, 3))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
