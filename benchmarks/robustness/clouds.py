"""The same images from Google Cloud, Azure and the Hub: are the rows those of the folder?

``python -m benchmarks.robustness.clouds [--images 200] [--azurite PATH]``

No account: emulators and a stand-in of this machine alone. ``gs://`` is spoken with
``gcp-storage-emulator``, ``az://`` with Azurite (the program ``azurite-blob`` of the npm package
``azurite``), ``hf://`` with :mod:`tests.support.hub_server`, which answers what the client asks
for. From each, a folder, a tar and a Parquet table are scored by a process of its own with an empty
cache; ``per_image.csv`` must be that of the local folder, byte for byte. What is not installed is
left out, and said so.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from tests.support import containers
from tests.support.hub_server import hub_server

from benchmarks.robustness.inputs import draw, scored

KEY = base64.b64encode(b"a key of this machine alone").decode()
Served = AbstractContextManager[tuple[str, dict[str, str]]]


def main() -> None:
    """Score from every cloud; print a line a container."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--of", nargs="+", default=["gs", "az", "hf"])
    parser.add_argument("--azurite", default=shutil.which("azurite-blob"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        generated, real = draw(root, arguments.images)
        place = root / "hub" / "me" / "made"
        place.mkdir(parents=True)
        shutil.copytree(generated, place / "generated")
        containers.as_tar(generated, place / "generated.tar")
        containers.as_parquet(generated, place / "generated.parquet")
        compare("folder", str(generated), real, root, {}, None)
        served = clouds(arguments.azurite, place)
        for scheme in arguments.of:
            serve = served[scheme]
            if serve is None:
                print(f"{scheme:5} left out: its client or server is not installed")
                continue
            with serve() as (url, environment):
                for content in ("generated", "generated.tar", "generated.parquet"):
                    label = f"{scheme} {content.partition('.')[2] or 'folder'}"
                    compare(label, f"{url}/{content}", real, root, environment, root / "first")


def clouds(azurite: str | None, place: Path) -> dict[str, Callable[[], Served] | None]:
    """Scheme to the server that speaks it; None where something lacks."""
    have = {name: importlib.util.find_spec(name) is not None for name in ("gcsfs", "adlfs")}
    emulator = importlib.util.find_spec("gcp_storage_emulator") is not None
    return {
        "gs": partial(google, place) if have["gcsfs"] and emulator else None,
        "az": partial(azure, place, azurite) if have["adlfs"] and azurite else None,
        "hf": partial(hub, place),
    }


def compare(
    label: str, source: str, real: Path, root: Path, environment: dict[str, str], known: Path | None
) -> None:
    """Score a source, and hold its rows against the first ones."""
    one, digest = scored(source, real, root, label.replace(" ", "-"), environment)
    if known is None:
        (root / "first").write_text(digest)
    told = "the same rows" if digest == (root / "first").read_text() else "OTHER ROWS"
    print(f"{label:10} {told}, processor {one.processor:5.1f} s", flush=True)


@contextmanager
def started(command: list[str], url: str, environment: dict[str, str]) -> Iterator[None]:
    """A server that answers at a URL, whatever it says."""
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.5)
        yield
    finally:
        server.terminate()
        server.wait()


@contextmanager
def google(place: Path, port: int = 9023) -> Iterator[tuple[str, dict[str, str]]]:
    """``gs://`` with the contents of a folder."""
    url = f"http://127.0.0.1:{port}"
    environment = {
        "STORAGE_EMULATOR_HOST": url,
        "FSSPEC_GCS_TOKEN": "anon",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks by gRPC, which the emulator lacks
    }
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1"]
    with started([*command, f"--port={port}", "--in-memory"], url, {}):
        fill("gs", "bucket", place, environment)
        yield "gs://bucket", environment


@contextmanager
def azure(place: Path, azurite: str, port: int = 10010) -> Iterator[tuple[str, dict[str, str]]]:
    """``az://`` with the contents of a folder."""
    url = f"http://127.0.0.1:{port}/here"
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=here;"
        f"AccountKey={KEY};BlobEndpoint={url};"
    }
    with tempfile.TemporaryDirectory() as kept:
        command = [azurite, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
        command += ["--location", kept, "--skipApiVersionCheck"]
        with started(command, url, {"AZURITE_ACCOUNTS": f"here:{KEY}"}):
            fill("az", "bucket", place, environment)
            yield "az://bucket", environment


@contextmanager
def hub(place: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """``hf://`` with the contents of a folder ``…/OWNER/NAME``."""
    with hub_server(place.parents[1]) as url:
        yield f"hf://datasets/{place.parent.name}/{place.name}", {"HF_ENDPOINT": url}


def fill(protocol: str, bucket: str, place: Path, environment: dict[str, str]) -> None:
    """Upload the contents of a folder, in a process that has the server's environment."""
    code = (
        "import sys, fsspec; system = fsspec.filesystem(sys.argv[1]); system.mkdir(sys.argv[2]); "
        "system.put(sys.argv[3] + '/', sys.argv[2] + '/', recursive=True)"
    )
    subprocess.run(
        [sys.executable, "-c", code, protocol, bucket, str(place)],
        check=True, env={**os.environ, **environment},
    )  # fmt: skip


if __name__ == "__main__":
    main()
