"""JPEG decoders beside Pillow on photographs: the same pixels, and in which time?

``python -m benchmarks.images.jpeg_decoders FOLDER … [--images 400]``

Each folder's first JPEGs are decoded to RGB by Pillow, torchvision and, where they are installed,
simplejpeg and OpenCV, in turn for each file, so that other work on the machine disturbs all alike.
Printed are the share of images whose pixels equal Pillow's, the largest difference, and the median
of the processor time.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Compare on every folder; print a line a decoder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=400)
    arguments = parser.parse_args()
    known = decoders()
    for folder in arguments.folders:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
        contents = [path.read_bytes() for path in paths[: arguments.images]]
        for name, line in compare(known, contents).items():
            print(f"{folder.name:12} {len(contents)} JPEG, {name:12} {line}")


def compare(
    known: dict[str, Callable[[bytes], np.ndarray]], contents: list[bytes]
) -> dict[str, str]:
    """What became of the contents, by decoder."""
    seconds: dict[str, list[float]] = {name: [] for name in known}
    same, largest = dict.fromkeys(known, 0), dict.fromkeys(known, 0)
    for content in contents:
        expected = known["Pillow"](content)
        for name, decode in known.items():
            started = time.process_time()
            pixels = decode(content)
            seconds[name].append(time.process_time() - started)
            difference = np.abs(pixels.astype(int) - expected).max()
            same[name] += difference == 0
            largest[name] = max(largest[name], int(difference))
    return {
        name: f"{same[name] / len(contents):6.1%} equal, largest difference {largest[name]:3d}, "
        f"{statistics.median(seconds[name]) * 1e3:.2f} ms"
        for name in known
    }


def decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
    """Bytes to ``(H, W, 3)`` uint8, by name."""
    import cv2
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    def pillow(content: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def torchvision(content: bytes) -> np.ndarray:
        stored = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return decode_jpeg(stored, mode=ImageReadMode.RGB).permute(1, 2, 0).contiguous().numpy()

    def opencv(content: bytes) -> np.ndarray:
        stored = np.frombuffer(content, np.uint8)
        return cv2.cvtColor(cv2.imdecode(stored, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    found = {"Pillow": pillow, "torchvision": torchvision, "OpenCV": opencv}
    try:
        import simplejpeg
    except ImportError:
        return found
    return {**found, "simplejpeg": lambda content: simplejpeg.decode_jpeg(content, "RGB")}


if __name__ == "__main__":
    main()
