"""The files of chosen images, brought into a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cas_metric.errors import CasError, InputError
from cas_metric.files import is_local
from cas_metric.images import probe_header
from cas_metric.manifest.rows import without_suffix


def require_linkable(paths: Sequence[Path]) -> None:
    """Refuse what lies in an archive, a table or on a remote store.

    Raises:
        InputError: It names the first such image.
    """
    if far := next((path for path in paths if not is_local(path)), None):
        raise InputError(
            f"{far} is no file of its own that could be linked to", fix="bring them by --files copy"
        )


def bring(paths: Sequence[Path], folder: Path, files: str) -> list[str]:
    """Link or copy the files under names of their own, in place of an earlier selection's.

    Args:
        paths: The images, files or addresses.
        folder: Where they go.
        files: ``link`` (hard) or ``copy``.

    Returns:
        ``folder/000000.png`` and so on, below the folder around it.

    Raises:
        CasError: It cannot be written, or one is no image: a run from elsewhere may name any file.
    """
    names = []
    for path in paths:
        probe_header(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob(f"{'[0-9]' * 6}.*"):
            earlier.unlink()
        for number, path in enumerate(paths):
            ending = path.name[len(without_suffix(path.name)) :] or path.suffix
            target = folder / f"{number:06d}{ending.lower()}"
            if files == "link":
                target.hardlink_to(path.resolve())
            else:  # by opening: it may lie in an archive or on a store
                with path.open("rb") as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            names.append(f"{folder.name}/{target.name}")
    except OSError as error:
        instead = ", or --files copy" if files == "link" else ""
        raise CasError(f"{folder}: {error}", fix=f"choose another --out{instead}") from error
    return names
