"""What a file may cost: found from its header, refused or shared before anything is decoded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.image_files import png16_bytes, write_huge_png

from cas_metric.errors import ImageError
from cas_metric.images import MAX_ASPECT, MAX_BYTES, decoding_cost, load_image, probe_header
from cas_metric.images.limits import BUDGET, MemoryBudget


@pytest.mark.parametrize("size", [(8, 8 * MAX_ASPECT), (8 * MAX_ASPECT, 8)])
def test_strips_are_refused_by_their_header(tmp_path, size):
    path = tmp_path / "a.png"
    Image.effect_noise(size, 50).save(path)
    assert probe_header(path) == size
    load_image(path)
    Image.new("L", tuple(side + (side > 8) for side in size)).save(path)
    for read in (load_image, probe_header, decoding_cost):
        with pytest.raises(ImageError, match="a strip, not a picture"):
            read(path)


def test_the_cost_counts_decoding_and_resizing(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (400, 100)).save(path)
    alone = decoding_cost(path)
    assert alone >= 400 * 100 * 7  # Pillow's 4 bytes, and 3 of the array
    resized = decoding_cost(path, resized_to=224) - alone
    assert resized >= 224 * 896 * 7
    with pytest.raises(ImageError, match="GiB of memory"):
        decoding_cost(path, resized_to=50_000)


def test_depth_counts(tmp_path):
    (tmp_path / "16.png").write_bytes(png16_bytes(np.zeros((100, 100, 3), np.uint16)))
    Image.new("RGB", (100, 100)).save(tmp_path / "8.png")
    assert decoding_cost(tmp_path / "16.png") > decoding_cost(tmp_path / "8.png")


def test_threads_wait_until_memory_is_free():
    budget = MemoryBudget(100)
    held, most = 0, 0
    lock = threading.Lock()

    def work(wanted: int) -> None:
        nonlocal held, most
        with budget.reserved(wanted), budget.reserved(wanted):  # the second is paid for
            with lock:
                held += wanted
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= wanted

    threads = [threading.Thread(target=work, args=(10 + 7 * n % 90,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 50 < most <= 100
    assert budget.free == 100
    assert not budget.is_held


def test_a_failure_gives_the_memory_back(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png16_bytes(values)[:2000])
    with pytest.raises(ImageError):
        load_image(tmp_path / "a.png")
    assert BUDGET.free == BUDGET.total == MAX_BYTES


MEASURE = """
import sys
from pathlib import Path
from cas_metric.errors import ImageError
from cas_metric.images import load_image, probe_header

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

small, bomb = sys.argv[1:]
load_image(small)
before = peak()
for read in (probe_header, load_image):
    try:
        read(bomb)
    except ImageError as error:
        print(error.problem)
print(peak() - before)
"""


def peak_of_refusal(small: Path, bomb: Path) -> tuple[str, int]:
    """What is said of a file in a process of its own, and the memory that this took."""
    command = [sys.executable, "-c", MEASURE, str(small), str(bomb)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    *said, peak = done.stdout.splitlines()
    return "\n".join(said), int(peak)


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")


@linux
def test_a_deflated_dicom_is_not_inflated_for_its_header(tmp_path):
    pytest.importorskip("pydicom")
    from tests.support.dicom_files import write_dicom

    deflated = "1.2.840.10008.1.2.1.99"
    values = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    small = write_dicom(tmp_path / "a.dcm", values, syntax=deflated)
    bomb = write_dicom(tmp_path / "b.dcm", bytes(120_000_000), shape=(64, 64), syntax=deflated)
    assert bomb.stat().st_size < 1_000_000
    said, peak = peak_of_refusal(small, bomb)
    assert "inflates to far more" in said
    assert peak < 40_000_000
    large = write_dicom(
        tmp_path / "c.dcm", bytes(120_000_000), shape=(20_000, 20_000), syntax=deflated
    )
    said, peak = peak_of_refusal(small, large)
    assert "more than the limit" in said
    assert peak < 40_000_000


@linux
def test_an_extension_of_a_volume_is_not_inflated(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(16 * 16).reshape(16, 16, 1).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header["cal_max"] = 255
    nibabel.save(image, tmp_path / "a.nii.gz")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, bytes(100_000_000)))
    nibabel.save(image, tmp_path / "b.nii.gz")
    said, peak = peak_of_refusal(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert "too far behind its header" in said
    assert peak < 20_000_000


@linux
def test_a_huge_picture_is_refused_by_its_header(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    bomb = write_huge_png(tmp_path / "b.png", 9_000)
    said, peak = peak_of_refusal(tmp_path / "a.png", bomb)
    assert "81 million pixels" in said
    assert peak < 20_000_000


@linux
@pytest.mark.parametrize("kind", ["runs", "code"])
def test_compressed_frames_that_are_larger_than_their_header(tmp_path, kind):
    pytest.importorskip("pydicom")
    import io
    import struct

    from pydicom.encaps import encapsulate
    from tests.support.dicom_files import write_dicom

    values = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    small = write_dicom(tmp_path / "a.dcm", values)
    if kind == "runs":
        segment = b"\x81\0" * 2_000_000
        frame = struct.pack("<16L", 1, 64, *[0] * 14) + segment
        syntax = "1.2.840.10008.1.2.5"
    else:
        buffer = io.BytesIO()
        Image.new("L", (8000, 8000)).save(buffer, format="JPEG")
        frame, syntax = buffer.getvalue(), "1.2.840.10008.1.2.4.50"
    bomb = write_dicom(tmp_path / "b.dcm", encapsulate([frame]), shape=(64, 64), syntax=syntax)
    said, peak = peak_of_refusal(small, bomb)
    assert "the compressed frame is not of 64 x 64" in said
    assert peak < 40_000_000
