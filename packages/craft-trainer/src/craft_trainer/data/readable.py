"""Whether the images of a set can be read, found before a run comes to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cas_metric.embedding.decoding import default_workers, ordered_map
from cas_metric.errors import CasError
from cas_metric.images import load_image, probe_header
from craft_trainer.data.dataset import Examples

#: Images of a set whose pixels are decoded, evenly spread: seconds for small ones, about a minute
#: for full-size films. The header of every image is read.
DECODED: Final = 1000


def unreadable(examples: Examples) -> Iterator[str]:
    """Images that cannot be read: by the header of each, and the pixels of :data:`DECODED`."""
    spread = set(examples.paths[:: _every(examples)])

    def problem(path: Path) -> str | None:
        try:
            probe_header(path)
            if path in spread:
                load_image(path, window=examples.manifest.window)
        except CasError as error:
            return error.problem
        return None

    workers = default_workers()
    found = ordered_map(problem, examples.paths, workers=workers, ahead=8 * workers)
    yield from filter(None, found)


def looked_at(examples: Examples) -> str:
    """What :func:`unreadable` looks at."""
    count = len(examples.paths[:: _every(examples)])
    if count == len(examples):
        return "all decoded"
    return f"of which all headers were read and {count} decoded, one in {_every(examples)}"


def _every(examples: Examples) -> int:
    return max(1, -(-len(examples) // DECODED))
