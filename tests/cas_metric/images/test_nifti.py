"""NIfTI: a volume whose every voxel says where in the patient it lies."""

from __future__ import annotations

import numpy as np
import pytest

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images import Window, load_image, probe_header, save_png

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
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9)), np.eye(4)), tmp_path / "2d.nii")
    with pytest.raises(ImageError, match="third dimension of 1"):
        load_image(tmp_path / "2d.nii", window=FULL)
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9, 2)), np.eye(4)), tmp_path / "4d.nii")
    with pytest.raises(ImageError, match="three dimensions"):
        load_image(tmp_path / "4d.nii", axis=2, frame=3, window=FULL)


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.nii")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"cas-metric\[nifti\]"):
        load_image(path, axis=2, frame=3)


def axial(tmp_path, values, **header):
    image = nibabel.Nifti1Image(values, np.eye(4))
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_slices_with_values_that_are_not_finite(tmp_path, bad):
    values = PATIENT.astype(np.float32)
    values[3, 4, 5] = bad
    path = axial(tmp_path, values, cal_max=8191)
    assert load_image(path, axis=2, frame=4, window=FULL).pixels.max() <= 1
    for window in (None, FULL):
        with pytest.raises(ImageError, match="not finite"):
            load_image(path, axis=2, frame=5, window=window)


@pytest.mark.parametrize(("low", "high"), [(0, np.inf), (-np.inf, 9), (np.nan, 9), (9, 9)])
def test_a_display_range_that_is_none(tmp_path, low, high):
    path = axial(tmp_path, PATIENT, cal_min=low, cal_max=high)
    with pytest.raises(ImageError, match=r"a\.nii\.gz: the header states no display range"):
        load_image(path, axis=2, frame=3)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([(c, "u1") for c in "RGB"])])
def test_voxels_that_are_no_grey_values(tmp_path, dtype):
    path = axial(tmp_path, np.zeros((9, 9, 9), dtype), cal_max=9)
    with pytest.raises(ImageError, match="not real numbers"):
        load_image(path, axis=2, frame=3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_only_slice_needs_no_choice(tmp_path, axis):
    values = np.take(PATIENT, [3], axis=axis)
    path = axial(tmp_path, values)
    chosen = load_image(axial(tmp_path, PATIENT), axis=axis, frame=3, window=FULL)
    path = axial(tmp_path, values)
    np.testing.assert_array_equal(load_image(path, window=FULL).pixels, chosen.pixels)


def test_a_series_of_one_volume(tmp_path):
    chosen = load_image(axial(tmp_path, PATIENT), axis=1, frame=3, window=FULL)
    path = axial(tmp_path, PATIENT[..., None, None])
    again = load_image(path, axis=1, frame=3, window=FULL)
    np.testing.assert_array_equal(again.pixels, chosen.pixels)


def test_the_fix_of_a_volume_can_be_followed(tmp_path):
    """What the message says to type makes a file that is read as the slice."""
    path = axial(tmp_path, PATIENT)
    with pytest.raises(ImageError, match="not an image") as caught:
        load_image(path)
    image = load_image(path, axis=2, frame=3, window=FULL)
    for called in ("load_image(path, axis=2", "save_png(image, path)", "cas_metric.images"):
        assert called in str(caught.value)
    save_png(image, tmp_path / "slice.png")
    again = load_image(tmp_path / "slice.png").pixels
    np.testing.assert_allclose(again, image.pixels, atol=0.51 / 65535)
    assert probe_header(tmp_path / "slice.png") == (10, 12)


def test_a_volume_that_does_not_say_where_it_lies(tmp_path):
    image = nibabel.Nifti1Image(PATIENT, None)
    image.header["sform_code"], image.header["srow_x"] = 1, np.nan
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4) + PATIENT.tobytes())
    with pytest.raises(ImageError, match=r"a\.nii: its affine"):
        load_image(tmp_path / "a.nii", axis=2, frame=3, window=FULL)


def test_a_volume_larger_than_memory_is_refused_by_its_header(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((4000, 4000, 4000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(1000))
    with pytest.raises(ImageError, match="GiB of memory"):
        load_image(tmp_path / "a.nii", axis=2, frame=3, window=FULL)
