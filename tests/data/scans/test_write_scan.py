"""A mask has the geometry of its scan, bit by bit, and nothing else of its header."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch

from aureole.core.errors import InputError
from aureole.data.scans import read_scan
from aureole.data.scans.write_scan import write_mask

LABELS = torch.arange(4 * 3 * 2).view(4, 3, 2) % 5
AFFINE = np.array([[0.1, -0.7, 0.1, 4.2], [0.6, 0.03, 0.2, -3.1], [0.05, 0.1, 5.3, 9.7], [0.0, 0.0, 0.0, 1.0]])


def scan(path, change=lambda header: None, kind=nibabel.Nifti1Image, shape=(4, 3, 2), dtype=np.float32):
    image = kind(np.zeros(shape, dtype), AFFINE)
    change(image.header)
    kind(np.zeros(shape, dtype), None, image.header).to_filename(path)
    return path


def check_geometry(path, mask):
    before, after = nibabel.load(path), nibabel.load(mask)
    assert np.array_equal(before.affine, after.affine)
    assert type(before) is type(after)
    for key in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d",
                "qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units"):  # fmt: skip
        assert np.array_equal(before.header[key], after.header[key]), key
    assert np.array_equal(before.header["pixdim"][:4], after.header["pixdim"][:4])
    assert np.array_equal(np.asarray(after.dataobj), LABELS.numpy())
    assert after.get_data_dtype() == np.uint8


def only_sform(header):
    header.set_sform(AFFINE, code=1)
    header.set_qform(None, code=0)


def only_qform(header):
    header.set_qform(AFFINE, code=1)
    header.set_sform(None, code=0)


def both_and_different(header):
    header.set_sform(AFFINE, code=4)
    header.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), code=1)


def neither(header):
    header.set_sform(None, code=0)
    header.set_qform(None, code=0)
    header.set_zooms((0.5, 0.7, 3.0))


def in_metres(header):
    header.set_xyzt_units("meter", "sec")


@pytest.mark.parametrize("change", [only_sform, only_qform, both_and_different, neither, in_metres])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_geometry_is_copied(tmp_path, change, kind):
    path = scan(tmp_path / "scan.nii.gz", change, kind)
    write_mask(tmp_path / "mask.nii.gz", LABELS, like=path)
    check_geometry(path, tmp_path / "mask.nii.gz")


def test_channels_and_scaling_of_the_scan_do_not_come_along(tmp_path):
    def scaled(header):
        header.set_slope_inter(0.01, 7)

    path = scan(tmp_path / "scan.nii", scaled, shape=(4, 3, 2, 3), dtype=np.int16)
    write_mask(tmp_path / "mask.nii.gz", LABELS, like=path)
    check_geometry(path, tmp_path / "mask.nii.gz")
    assert torch.equal(read_scan(str(tmp_path / "mask.nii.gz")).image[0].long(), LABELS)


def test_notes_of_the_scan_are_left_out(tmp_path):
    def named(header):
        header["descrip"] = b"Jane Doe"
        header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))

    path = scan(tmp_path / "scan.nii", named)
    write_mask(tmp_path / "mask.nii", LABELS, like=path)
    assert b"Jane" in path.read_bytes()
    assert b"Jane" not in (tmp_path / "mask.nii").read_bytes()
    assert nibabel.load(tmp_path / "mask.nii").header.get_intent()[0] == "label"


def test_without_a_scan_voxels_are_cubes_or_as_told(tmp_path):
    write_mask(tmp_path / "new" / "a.nii.gz", LABELS)
    assert np.array_equal(nibabel.load(tmp_path / "new" / "a.nii.gz").affine, np.eye(4))
    write_mask(tmp_path / "b.nii.gz", LABELS, affine=torch.from_numpy(AFFINE))
    assert nibabel.load(tmp_path / "b.nii.gz").affine == pytest.approx(AFFINE, abs=1e-6)
    assert sorted(path.name for path in tmp_path.rglob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"must be written to \.nii\.gz or \.nii; got .*mask\.png"):
        write_mask(tmp_path / "mask.png", LABELS)
    with pytest.raises(InputError, match="must be 0 to 255; got 0 to 300"):
        write_mask(tmp_path / "mask.nii", LABELS.clone().fill_(300) * (LABELS > 0))
    path = scan(tmp_path / "scan.nii")
    with pytest.raises(InputError, match=r"must have its shape \(4, 3, 2\); got \(3, 3, 2\)"):
        write_mask(tmp_path / "mask.nii", LABELS[1:], like=path)
    (tmp_path / "mask.nii").write_bytes(b"before")

    def full(self, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_filename", full)
    with pytest.raises(InputError, match=r"cannot write .*mask\.nii: No space left on device"):
        write_mask(tmp_path / "mask.nii", LABELS)
    assert (tmp_path / "mask.nii").read_bytes() == b"before"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["mask.nii", "scan.nii"]
