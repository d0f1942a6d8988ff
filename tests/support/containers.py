"""One folder of images in every container that is read."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def files_of(folder: Path) -> list[Path]:
    """The files below a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def as_tar(folder: Path, place: Path) -> Path:
    """A tar of a folder, the folder around everything."""
    with tarfile.open(place, "w") as archive:
        for path in files_of(folder):
            archive.add(folder / path, f"{folder.name}/{path.as_posix()}")
    return place


def as_zip(folder: Path, place: Path) -> Path:
    """A zip of what is in a folder."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_of(folder):
            archive.write(folder / path, path.as_posix())
    return place


def table_of(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's ``metadata.csv``."""
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def as_webdataset(folder: Path, place: Path, shards: int = 1) -> Path:
    """Tars with a JSON file beside each image; of several shards, a pattern of their names."""
    names = [place] if shards == 1 else [place / f"part-{n:03d}.tar" for n in range(shards)]
    names[0].parent.mkdir(parents=True, exist_ok=True)
    archives = [tarfile.open(name, "w") for name in names]  # noqa: SIM115
    rows = table_of(folder)
    for number, row in enumerate(rows):
        cells = {name: value for name, value in row.items() if name != "file_name"}
        image = row["file_name"]
        for name, content in (
            (image, (folder / image).read_bytes()),
            (f"{image.rsplit('.', 1)[0]}.json", json.dumps(cells).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archives[number * shards // len(rows)].addfile(member, io.BytesIO(content))
    for archive in archives:
        archive.close()
    return place


def as_parquet(folder: Path, place: Path, *, group: int = 64) -> Path:
    """A Parquet table with ``{'bytes', 'path'}``, as Hugging Face writes images; by batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = table_of(folder)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = [name for name in rows[0] if name != "file_name"]
    schema = pa.schema([("image", image), *((name, pa.string()) for name in names)])
    with pq.ParquetWriter(place, schema) as writer:
        for start in range(0, len(rows), group):
            some = rows[start : start + group]
            cells = [
                {"bytes": (folder / row["file_name"]).read_bytes(), "path": row["file_name"]}
                for row in some
            ]
            columns = {name: [row[name] for row in some] for name in names}
            writer.write_table(pa.table({"image": cells, **columns}, schema=schema))
    return place


@contextmanager
def http_server(
    folder: Path, handler: type[SimpleHTTPRequestHandler] | None = None
) -> Iterator[str]:
    """The URL of a server of the files below a folder, on this machine alone."""
    quiet = handler or type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
