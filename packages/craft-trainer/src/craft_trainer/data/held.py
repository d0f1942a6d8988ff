"""Tensors of a whole data set, in a file that all processes of a machine map.

The latents and texts of 200,000 images at 512 pixels take some 60 GB. In a file they take that much
of a disk, once a machine; what a step reads stays in memory as long as the system has room for it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object
from torch import Tensor

from cas_metric.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


def held(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    folder: Path,
    accelerator: Accelerator | None = None,
) -> Tensor:
    """Zeros of this shape on the CPU, in a file that has lost its name: it goes with its processes.

    Args:
        shape: At least one value.
        dtype: Of the values.
        folder: On a disk with room for them.
        accelerator: The processes. Those of a machine get the same file: only the local main one
            is to write, the others read after a barrier. Without it the file is this process's own.

    Raises:
        InputError: There is no room, on every process.

    Examples:
        >>> rows = held((3, 2), torch.float32, Path(tempfile.gettempdir()))
        >>> rows[1] = 5
        >>> rows.sum().item()
        10.0
    """
    together = accelerator is not None and accelerator.num_processes > 1
    first = not together or (accelerator is not None and accelerator.is_local_main_process)
    name, problem = _reserve(prod(shape) * dtype.itemsize, folder) if first else ("", "")
    own = name
    try:
        if together:
            assert accelerator is not None
            told = gather_object([(name, problem)])
            name, _ = told[accelerator.process_index - accelerator.local_process_index]
            problem = next((one for _, one in told if one), "")
        if problem:
            raise InputError(problem, fix="another disk with --cache, or fewer images")
        flat = torch.from_file(name, shared=True, size=prod(shape), dtype=dtype)
        if together:
            assert accelerator is not None
            accelerator.wait_for_everyone()
    finally:
        if own:
            Path(own).unlink(missing_ok=True)
    return flat.view(shape)


def _reserve(count: int, folder: Path) -> tuple[str, str]:
    """A file of so many bytes, or why there is none: a mapped one must not outgrow its disk."""
    descriptor, name = tempfile.mkstemp(prefix="held-", dir=folder)
    try:
        if shutil.disk_usage(folder).free < count:
            raise OSError("no room")
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, count)
        else:  # macOS, Windows
            os.truncate(descriptor, count)
    except OSError:
        Path(name).unlink()
        return "", f"{folder} has no room for {count / 1e9:.3g} GB of latents and texts"
    finally:
        os.close(descriptor)
    return name, ""
