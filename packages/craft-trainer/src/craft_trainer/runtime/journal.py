"""Files of one JSON object a line and step, which a resumed run continues where it continues.

Curves belong beside the tracker's own files: a model card is made of them, and they are the same
bytes whether or not a run was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cas_metric.errors import CasError
from cas_metric.files import write_bytes


class Journal:
    """A file with one object a line, each with its ``step``.

    Args:
        path: Made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, values: Mapping[str, Any]) -> None:
        """Add a line. CasError where it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values, sort_keys=True, ensure_ascii=False) + "\n")
        except OSError as error:
            raise CasError(
                f"{self.path} cannot be written: {error.strerror or error}", fix="free space"
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """Its objects; a last line that was cut off by a kill is left out."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Forget what came after ``step``, and return what is left."""
        kept = [row for row in self.rows() if row["step"] <= step]
        if not kept:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            lines = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in kept]
            write_bytes(self.path, "".join(lines).encode())
        return kept
