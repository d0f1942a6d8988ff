"""Checkpoints that want more than tensors: each would leave a mark if any of it ran."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch


class Hostile(NamedTuple):
    """A file and the mark that it would leave."""

    file: Path
    mark: Path


#: Module, name and arguments of calls that leave a mark; ``{mark}`` is its path.
CALLS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("os", "system", ("touch {mark}",)),
    ("posix", "system", ("touch {mark}",)),
    ("os", "mkdir", ("{mark}",)),
    ("os", "popen", ("touch {mark}",)),
    ("subprocess", "Popen", (["touch", "{mark}"],)),
    ("subprocess", "check_output", (["touch", "{mark}"],)),
    ("builtins", "eval", ("open('{mark}', 'w')",)),
    ("builtins", "exec", ("open('{mark}', 'w').close()",)),
    ("builtins", "open", ("{mark}", "w")),
    ("io", "open", ("{mark}", "w")),
    ("io", "FileIO", ("{mark}", "w")),
    ("codecs", "open", ("{mark}", "w")),
    ("tarfile", "open", ("{mark}", "w")),
    ("zipfile", "ZipFile", ("{mark}", "w")),
    ("gzip", "open", ("{mark}", "w")),
    ("sqlite3", "connect", ("{mark}",)),
    ("logging", "FileHandler", ("{mark}",)),
    ("tempfile", "mkdtemp", ("x", "{mark}", "/tmp")),
    ("timeit", "timeit", ("open('{mark}', 'w')",)),
    ("cProfile", "run", ("open('{mark}', 'w')",)),
    ("pdb", "run", ("open('{mark}', 'w')",)),
    ("runpy", "run_path", ("{mark}.py",)),
    ("numpy", "save", ("{mark}", [1])),
    ("numpy", "memmap", ("{mark}", "uint8", "w+", 0, (4,))),
    ("torch", "save", ([1], "{mark}")),
    ("torch.jit", "load", ("{mark}.pt",)),
    ("torch.utils.cpp_extension", "load", ("evil", ["{mark}.cpp"])),
    ("importlib", "import_module", ("antigravity",)),
    ("builtins", "__import__", ("antigravity",)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("ctypes", "CDLL", ("libc.so.6",)),
    ("multiprocessing.util", "spawnv_passfds", (b"/bin/touch", [b"touch", b"{mark}"], ())),
    ("pathlib", "Path.touch", ("{mark}",)),
)


class _Call:
    """Pickles as a call."""

    def __init__(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self.call = module, name, arguments

    def __reduce__(self) -> Any:
        module, name, arguments = self.call
        target = __import__(module, fromlist=[name.split(".")[0]])
        for part in name.split("."):
            target = getattr(target, part)
        return target, arguments


def write_all(folder: Path) -> Iterator[Hostile]:
    """Every call in every container, and the opcodes that ordinary pickling does not use."""
    for number, (module, name, arguments) in enumerate(CALLS):
        for kind, save in (("plain", _plain), ("legacy", _legacy), ("zip", _zip)):
            mark = folder / f"mark-{number}-{kind}"
            file = folder / f"{number}-{kind}.pt"
            save(file, _pickled(module, name, _filled(arguments, mark), protocol=number % 3 + 2))
            yield Hostile(file, mark)
    for name, content in _by_hand():
        mark = folder / f"mark-{name}"
        file = folder / f"{name}.bin"
        content(file, mark)
        yield Hostile(file, mark)


def _filled(value: Any, mark: Path) -> Any:
    if isinstance(value, str):
        return value.replace("{mark}", str(mark))
    if isinstance(value, bytes):
        return value.replace(b"{mark}", str(mark).encode())
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, mark) for item in value)
    return value


def _pickled(module: str, name: str, arguments: tuple[Any, ...], protocol: int) -> bytes:
    """The call inside a dictionary that looks like weights; made without importing anything odd."""
    body = b"}" + pickle.dumps("weight", 2)[2:-1]
    if protocol == 4 and "." not in name:
        call = pickle.dumps(module, 2)[2:-1] + pickle.dumps(name, 2)[2:-1] + b"\x93"
    else:
        call = f"c{module}\n{name}\n".encode()
    return b"\x80\x04" + body + call + _arguments(arguments) + b"Rs."


def _arguments(arguments: tuple[Any, ...]) -> bytes:
    items = b"".join(pickle.dumps(item, 2)[2:-1] for item in arguments)
    return b"(" + items + b"t"


def _plain(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _legacy(file: Path, content: bytes) -> None:
    """torch's format before 1.6: magic number, version, system, then the object."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer, _use_new_zipfile_serialization=False)
    buffer.seek(0)
    heads = [pickle.dumps(pickle.load(buffer), 2) for _ in range(3)]
    file.write_bytes(b"".join(heads) + content + pickle.dumps([], 2))


def _zip(file: Path, content: bytes) -> None:
    """torch's format since 1.6, its pickle replaced."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            whole = content if entry.filename.endswith("data.pkl") else old.read(entry)
            new.writestr(entry.filename, whole)


def _by_hand() -> Iterator[tuple[str, Any]]:
    def command(mark: Path) -> bytes:
        return pickle.dumps(f"touch {mark}", 2)[2:-1]

    yield "inst", lambda f, m: f.write_bytes(b"(" + command(m) + b"ios\nsystem\n.")
    yield "obj", lambda f, m: f.write_bytes(b"(cos\nsystem\n" + command(m) + b"o.")
    yield (
        "newobj",
        lambda f, m: f.write_bytes(
            b"\x80\x02cio\nFileIO\n(" + pickle.dumps(str(m), 2)[2:-1] + b"U\x01wt\x81."
        ),
    )
    yield (
        "newobj_ex",
        lambda f, m: f.write_bytes(
            b"\x80\x04cio\nFileIO\n(" + pickle.dumps(str(m), 2)[2:-1] + b"X\x01\x00\x00\x00wt}\x92."
        ),
    )
    yield (
        "build",  # __setstate__ of a module's global
        lambda f, m: f.write_bytes(
            b"\x80\x02ctorch.storage\nUntypedStorage\n)\x81}X\x07\x00\x00\x00__del__cos\nsystem\nsb."
        ),
    )
    yield "extension", lambda f, m: f.write_bytes(b"\x80\x02\x82\x01)R.")
    yield "persistent", lambda f, m: f.write_bytes(b"\x80\x02" + command(m) + b"Q.")
    yield "dup-and-call", lambda f, m: f.write_bytes(b"cos\nsystem\n2" + command(m) + b"\x85R.")
    yield "memo-call", lambda f, m: f.write_bytes(b"cos\nsystem\np0\ng0\n" + command(m) + b"\x85R.")
    yield (
        "getattr-chain",
        lambda f, m: f.write_bytes(
            b"cbuiltins\ngetattr\n(cos\nsystem\nX\x08\x00\x00\x00__call__tR"
            + command(m)
            + b"\x85R."
        ),
    )
    yield "nested zip", _nested_zip
    yield "legacy tar", _legacy_tar
    yield "numpy objects", _numpy_objects
    yield "deep", lambda f, m: f.write_bytes(b"\x80\x02" + b"(" * 200_000 + b".")
    yield "huge string", lambda f, m: f.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62))
    yield "huge memo", lambda f, m: f.write_bytes(b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b".")
    yield "torchscript", _torchscript
    yield "empty", lambda f, m: f.write_bytes(b"")
    yield "namespace", lambda f, m: torch.save({"model": 1, "args": argparse_namespace()}, f)
    yield "whole module", lambda f, m: torch.save(torch.nn.Linear(2, 2), f)


def argparse_namespace() -> Any:
    """What many training scripts put beside the weights."""
    import argparse

    return argparse.Namespace(lr=1e-3)


def _nested_zip(file: Path, mark: Path) -> None:
    inner = file.with_suffix(".inner")
    _zip(inner, _pickled("os", "system", (f"touch {mark}",), 2))
    with zipfile.ZipFile(file, "w") as outer:
        outer.write(inner, "archive/data.pkl")
        outer.write(inner, "archive/version")


def _legacy_tar(file: Path, mark: Path) -> None:
    payload = _pickled("os", "system", (f"touch {mark}",), 2)
    with tarfile.open(file, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            archive.addfile(entry, io.BytesIO(payload))


def _numpy_objects(file: Path, mark: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.array([_Call("os", "system", (f"touch {mark}",))], object))


def _torchscript(file: Path, mark: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/constants.pkl", _pickled("os", "system", (f"touch {mark}",), 2))
        archive.writestr("archive/data.pkl", _pickled("os", "system", (f"touch {mark}",), 2))
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/code/__torch__.py", f"open({str(mark)!r}, 'w')")
