"""Each form of scans is read as it was written, and what cannot be read is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aureole.core.errors import InputError, UntrustedResult
from aureole.data.scans import Entry, Layout, Scan, Scans, read_scan, scaled
from aureole.data.scans.hdf5 import read_hdf5
from aureole.data.scans.nifti import read_nifti

from .conftest import made, write_hdf5, write_nifti


def refuse(match, call, *args, **kwargs):
    with pytest.raises(InputError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_hdf5_volumes_and_slices_come_back_voxel_by_voxel(tmp_path):
    image, label = made(3, 5, 6)
    write_hdf5(tmp_path / "volume.h5", image.astype(np.float64), label)
    scan = read_hdf5(tmp_path / "volume.h5", "volume", slice_axis=2)
    assert torch.equal(scan.image, torch.from_numpy(image)[None])
    assert torch.equal(scan.label, torch.from_numpy(label).long())
    assert (scan.spacing, scan.affine, scan.slice_axis) == (None, None, 2)
    slices, labels = scan.slices()
    assert torch.equal(slices[4, 0], torch.from_numpy(image[:, :, 4]))
    assert torch.equal(labels[4], torch.from_numpy(label[:, :, 4]).long())
    write_hdf5(tmp_path / "slice.h5", image[0], label[0])
    assert read_hdf5(tmp_path / "slice.h5", "slice").shape == (5, 6)
    write_hdf5(tmp_path / "bare.h5", image)
    assert read_hdf5(tmp_path / "bare.h5", "bare", with_label=False).label is None


def test_hdf5_files_that_cannot_be_used(tmp_path):
    image, label = made(3, 5, 6)
    path = tmp_path / "a.h5"
    refuse(r"a scan has no file: there is nothing at .*a\.h5", read_hdf5, path, "a scan")
    path.write_bytes(b"no HDF5 file at all")
    refuse(r"a\.h5 cannot be read as HDF5: ", read_hdf5, path, "a")
    write_hdf5(path, None, label, picture=image)
    refuse(r"a\.h5 has no data set 'image'; it has 'label', 'picture'", read_hdf5, path, "a")
    write_hdf5(path, image)
    refuse(r"a\.h5 has no data set 'label'", read_hdf5, path, "a")
    write_hdf5(path, image, label[:2])
    refuse(r"same shape; got \(3, 5, 6\) and \(2, 5, 6\)", read_hdf5, path, "a")
    write_hdf5(path, image, label / 2)
    refuse("must be whole numbers; got fractions", read_hdf5, path, "a")
    write_hdf5(path, image[None], label[None])
    refuse("must be a volume", read_hdf5, path, "a")
    write_hdf5(path, np.where(image > 0.9, np.nan, image), label)
    refuse(r"voxels of a must be finite; \d+ of 90 are NaN", read_hdf5, path, "a")
    write_hdf5(path, image, label)
    path.write_bytes(path.read_bytes()[:-200])
    refuse(r"a\.h5 cannot be read as HDF5", read_hdf5, path, "a")


def test_nifti_keeps_the_geometry(tmp_path):
    image, label = made(5, 6, 3)
    turned = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 4, 9], [0, 0, 0, 1.0]])
    write_nifti(tmp_path / "image.nii", image, turned)
    write_nifti(tmp_path / "label.nii.gz", label.astype(np.float32), turned)
    scan = read_nifti(tmp_path / "image.nii", "a", tmp_path / "label.nii.gz")
    assert torch.equal(scan.image, torch.from_numpy(image)[None])
    assert torch.equal(scan.label, torch.from_numpy(label).long())
    assert scan.spacing == (1.5, 2.0, 4.0)
    assert torch.equal(scan.affine, torch.from_numpy(turned))
    assert scan.slices()[0].shape == (3, 1, 5, 6)
    write_nifti(tmp_path / "two.nii", np.stack([image, 2 * image], -1), turned)
    assert torch.equal(read_nifti(tmp_path / "two.nii", "b").image[1], torch.from_numpy(2 * image))


def test_nifti_files_that_cannot_be_used(tmp_path):
    import nibabel

    image, label = made(5, 6, 3)
    path = tmp_path / "a.nii.gz"
    refuse(r"a has no file: there is nothing at", read_nifti, path, "a")
    path.write_bytes(b"no NIfTI file")
    refuse(r"a\.nii\.gz cannot be read as NIfTI: ", read_nifti, path, "a")
    write_nifti(path, image)
    path.write_bytes(path.read_bytes()[:-100])
    refuse(r"a\.nii\.gz cannot be read as NIfTI: ", read_nifti, path, "a")
    write_nifti(path, image[0])
    refuse("must be a volume", read_nifti, path, "a")
    write_nifti(path, image)
    write_nifti(tmp_path / "moved.nii.gz", label, np.diag([-0.5, 0.5, 4.0, 1.0]))
    with pytest.warns(UntrustedResult, match="image and label of a differ in their affine"):
        read_nifti(path, "a", tmp_path / "moved.nii.gz")
    file = nibabel.Nifti1Image(image, np.eye(4))
    file.header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    nibabel.save(nibabel.Nifti1Image(image, None, file.header), path)
    refuse("the affine of a cannot be inverted", read_nifti, path, "a")


def test_a_scan_refuses_what_does_not_fit():
    image, label = torch.rand(1, 3, 4, 5), torch.zeros(3, 4, 5, dtype=torch.int64)
    refuse("float32 of shape", Scan, name="a", image=image.double())
    refuse("and not be empty", Scan, name="a", image=image[:, :0])
    refuse("label of a must be int64", Scan, name="a", image=image, label=label.float())
    refuse("spacing of a must be a length above 0", Scan, name="a", image=image, spacing=(1.0, 0.0, 1.0))
    refuse("spacing of a must be a length above 0", Scan, name="a", image=image, spacing=(1.0, 1.0))
    refuse("slice_axis of a must be 0 to 2; got 3", Scan, name="a", image=image, slice_axis=3)
    refuse("affine of a must be float64", Scan, name="a", image=image, affine=torch.eye(4))
    refuse("cannot be inverted", Scan, name="a", image=image, affine=torch.full((4, 4), float("nan")).double())


def test_scaling_is_of_each_channel():
    image = torch.stack([torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0, 5.0]])])
    assert scaled(image, "unit").tolist() == [[[0, 1]], [[0, 0]]]
    assert scaled(image, "z-score").tolist() == [[[-1, 1]], [[0, 0]]]
    assert scaled(image, "none") is image
    refuse("unknown scaling 'zscore': did you mean 'z-score'", scaled, image, "zscore")


def test_a_set_goes_on_past_scans_that_cannot_be_read(acdc):
    scans = Scans(
        tuple(
            Entry(f"s{n}", f"s{n}", lambda with_label, n=n: read_hdf5(acdc / "data" / n, n)) for n in ("x.h5", "y.h5")
        ),
        ("background", "a", "b"),
    )
    write_hdf5(acdc / "data" / "x.h5", *made(2, 3, 4))
    write_hdf5(acdc / "data" / "y.h5", *made(2, 3, 4, classes=2))
    failed = {}
    assert [scan.name for scan in scans.readable(failed)] == ["y.h5"]
    assert list(failed) == ["sx.h5"]
    assert "labels of x.h5 must lie in 0 to 2; got 0 to 3" in failed["sx.h5"]
    refuse("must lie in 0 to 2", list, scans)
    refuse("needs 2 to 256 class names", Scans, scans.entries, ("background",))
    refuse("has no scans", Scans, (), ("a", "b"))


def test_scans_in_memory_are_the_same_and_read_once(tmp_path):
    path = tmp_path / "a.h5"
    write_hdf5(path, *made(2, 3, 4))
    scans = Scans((Entry("a", "p", lambda with_label: read_hdf5(path, "a")),), tuple("abcd"), scaling="unit")
    before = scans[0]
    kept = scans.in_memory()
    path.unlink()
    assert torch.equal(kept[0].image, before.image)
    assert torch.equal(kept[0].label, before.label)
    assert kept.read(0, with_label=False).label is None
    assert kept.patients == ("p",)
    refuse("has no file", scans.in_memory)
    refuse("has no scans", scans.in_memory, {})


def test_a_patient_is_in_one_part_only():
    entries = [Entry(f"p{n}_1", f"p{n}", read_hdf5) for n in range(3)]
    layout = {"name": "mine", "volumes": (entries[0],), "validation": (entries[1],)}
    assert Layout(**layout, test=(entries[2],)).test == (entries[2],)
    refuse("p1 of mine is in the validation and in the test part", Layout, **layout, test=(entries[1],))


def test_one_file_of_a_persons_own(tmp_path):
    image, _ = made(4, 5, 3)
    write_nifti(tmp_path / "a.nii.gz", 7 * image)
    write_hdf5(tmp_path / "a.h5", 7 * image)
    one, other = (read_scan(str(tmp_path / name), scaling="unit") for name in ("a.nii.gz", "a.h5"))
    assert torch.equal(one.image, other.image)
    assert (float(one.image.min()), float(one.image.max())) == (0, 1)
    assert (one.slice_axis, other.slice_axis, one.name, other.name) == (2, 0, "a", "a")
    assert read_scan(str(tmp_path / "a.h5"), slice_axis=1).slices()[0].shape == (5, 1, 4, 3)
    refuse(r"notes\.txt is no scan", read_scan, "notes.txt")


def test_a_broken_dataset_json(decathlon: Path):
    from aureole.data.scans import ScanData

    good = json.loads(decathlon.read_text())
    for change, match in (
        ({"training": []}, "must list scans under 'training'"),
        ({"training": [{"label": "b"}]}, "must have one file as image"),
        ({"training": ["b.nii.gz"]}, "the training list of .* cannot be read"),
        ({"training": [{"image": "b.png"}]}, r"must name NIfTI files .*; got .*b\.png"),
        ({"labels": {"0": "background", "2": "liver"}}, "without a gap"),
        ({"labels": ["background", "liver"]}, "without a gap"),
    ):
        decathlon.write_text(json.dumps(good | change))
        refuse(match, ScanData(source=str(decathlon)).layout)
    decathlon.write_text("{")
    refuse("cannot be read as JSON", ScanData(source=str(decathlon)).layout)
