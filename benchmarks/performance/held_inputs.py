"""Memory that the latents and texts of a training set take, in a mapped file and without one.

    python -m benchmarks.performance.held_inputs [--images 8000] [--folder DIR]

Two processes hold latents of 512 pixels and texts of 77 tokens as Stable Diffusion 2.1 makes them,
filled with random numbers instead, and read batches of them. Anonymous memory is what nothing but
swap can take back; a mapped file's is the system's to take.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate import Accelerator, debug_launcher

from craft_trainer.data import encoding
from craft_trainer.diffusion.conditions import Conditions

LATENT, TEXT = (4, 64, 64), (77, 1024)
BATCH, READS = 4, 200


class Noise:
    """Stands for the store and the base model."""

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self.directory = folder
        self.model = self.cache = self

    def latent_shape(self, _: int) -> tuple[int, int, int]:
        """Of 512 pixels."""
        return LATENT

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nothing to move."""
        yield

    def latents(self, examples: range, rows: slice, _: int) -> torch.Tensor:
        """Moments that the row decides."""
        channels, *size = LATENT
        found = torch.empty(len(examples[rows]), 2 * channels, *size)
        return found.normal_(generator=torch.Generator().manual_seed(rows.start))

    def text(self, text: str) -> Conditions:
        """A condition that the text decides."""
        draw = torch.Generator().manual_seed(int(text))
        return Conditions(torch.randn(1, *TEXT, generator=draw).half())


def anonymous() -> float:
    """Megabytes of this process that belong to no file."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", status)
    return int(kilobytes) / 1e3


def side(images: int, folder: Path, in_memory: bool) -> None:
    """What one process holds and how fast it reads; the first one prints."""
    accelerator = Accelerator(cpu=True)
    noise: Any = Noise(folder)
    texts = [str(number) for number in range(images)]
    plain = mock.patch.object(
        encoding, "held", lambda shape, dtype, *_: torch.zeros(shape, dtype=dtype)
    )
    before = anonymous()
    with plain if in_memory else mock.patch.object(encoding, "held", encoding.held):
        # Without a file every process fills its own.
        own = None if in_memory else accelerator
        moments = encoding.encode_latents(range(images), noise, 512, None, own)  # type: ignore[arg-type]
        conditions = encoding.encode_texts(texts, noise, None, own)
    held = anonymous() - before
    order = np.random.default_rng(accelerator.process_index).integers(images, size=(READS, BATCH))
    start = time.process_time()
    for rows in order.tolist():
        moments[rows], conditions.of([texts[row] for row in rows])
    seconds = (time.process_time() - start) / READS
    if accelerator.is_main_process:
        data = images * (2 * np.prod(LATENT) * 4 + np.prod(TEXT) * 2) / 1e6
        kind = "in memory" if in_memory else "in a file"
        print(
            f"{kind}: {data:.0f} MB of latents and texts, {held:.0f} MB of memory a process, "
            f"{1e3 * seconds:.2f} ms of a processor to read a batch of {BATCH}",
            flush=True,
        )


def main() -> None:
    """``python -m benchmarks.performance.held_inputs``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for in_memory in (True, False):
        debug_launcher(side, (options.images, options.folder, in_memory), num_processes=2)


if __name__ == "__main__":
    main()
