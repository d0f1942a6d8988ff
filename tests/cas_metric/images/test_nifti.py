"""NIfTI: a volume whose every voxel says where in the patient it lies."""

from __future__ import annotations

import numpy as np
import pytest

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images import Window, load_image, probe_header

nibabel = pytest.importorskip("nibabel")

SHAPE = (10, 12, 14)  # left to right, back to front, feet to head
X, Y, Z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
PATIENT = (X + 20 * Y + 400 * Z).astype(np.int16)
FULL = Window(0, 8191)


def saved(path, *, orientation="RAS", **header):
    """The same patient, stored along the axes of ``orientation``."""
    canonical = nibabel.Nifti1Image(PATIENT, np.eye(4))
    codes = nibabel.orientations.axcodes2ornt(orientation)
    image = canonical.as_reoriented(codes) if orientation != "RAS" else canonical
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SRA", "PIL"])
def test_slices_lie_where_the_patient_says(tmp_path, orientation):
    path = saved(tmp_path / "a.nii.gz", orientation=orientation)
    planes = {
        0: PATIENT[3].T[::-1],  # head up, front to the right
        1: PATIENT[:, 3].T[::-1],  # head up, right of the patient to the right
        2: PATIENT[:, :, 3].T[::-1],  # front up
    }
    for axis, plane in planes.items():
        loaded = load_image(path, axis=axis, frame=3, window=FULL)
        expected = np.stack([plane / 8191] * 3, axis=2)
        np.testing.assert_allclose(loaded.pixels, expected, atol=1e-6)
        assert loaded.steps[0].endswith(f"slice 3 of {SHAPE[axis]}")


def test_nothing_is_guessed(tmp_path):
    path = saved(tmp_path / "a.nii")
    for chosen in ({}, {"axis": 1}, {"frame": 3}, {"axis": 5, "frame": 3}):
        with pytest.raises(ImageError, match="not an image"):
            load_image(path, window=FULL, **chosen)
    with pytest.raises(ImageError, match="no slice 14"):
        load_image(path, axis=2, frame=14, window=FULL)
    with pytest.raises(ImageError, match="no display range"):
        load_image(path, axis=2, frame=3)
    assert probe_header(path) == (14, 12)


def test_the_display_range_of_the_header(tmp_path):
    path = saved(tmp_path / "a.nii", cal_min=100, cal_max=2000)
    loaded = load_image(path, axis=2, frame=3)
    expected = np.clip((PATIENT[:, :, 3].T[::-1] - 100) / 1900, 0, 1)
    np.testing.assert_allclose(loaded.pixels[..., 0], expected, atol=1e-5)


def test_damaged_and_odd_volumes(tmp_path):
    path = saved(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ImageError, match=r"a\.nii"):
        load_image(path, axis=2, frame=13, window=FULL)
    (tmp_path / "text.nii.gz").write_text("no volume")
    with pytest.raises(ImageError, match="text"):
        probe_header(tmp_path / "text.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9, 2)), np.eye(4)), tmp_path / "4d.nii")
    with pytest.raises(ImageError, match="three dimensions"):
        load_image(tmp_path / "4d.nii", axis=2, frame=3, window=FULL)


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.nii")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"cas-metric\[nifti\]"):
        load_image(path, axis=2, frame=3)
