"""Tiny scans on the disk, in each form that is read."""

from __future__ import annotations

import json

import numpy as np
import pytest

RANDOM = np.random.default_rng(0)


def write_hdf5(path, image, label=None, **others):
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in {"image": image, "label": label, **others}.items():
            if value is not None:
                file.create_dataset(key, data=value, compression="gzip")


def write_nifti(path, voxels, affine=None):
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 4.0, 1.0]) if affine is None else affine), path)


def write_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def made(*shape, classes=4):
    """Return an image in [0, 1] and a label with all classes."""
    label = RANDOM.integers(0, classes, shape).astype(np.uint8)
    return RANDOM.random(shape, dtype=np.float32), label


@pytest.fixture
def acdc(tmp_path):
    """Return a folder like SSL4MIS's ACDC: 4 patients train, 1 validates, 1 tests; 2 frames of 2 or 3 slices each."""
    root, slices = tmp_path / "ACDC", []
    for patient in (7, 3, 5, 1, 8, 9):
        for frame in (1, 2):
            name = f"patient{patient:03d}_frame{frame:02d}"
            depth = 2 + (patient == 3)
            image, label = made(depth, 10 + patient, 20 - patient)
            write_hdf5(root / "data" / f"{name}.h5", image, label)
            for number in range(depth if patient < 8 else 0):
                slices.append(f"{name}_slice_{number + 1}")
                write_hdf5(root / "data" / "slices" / f"{slices[-1]}.h5", image[number], label[number])
    names = {patient: [f"patient{patient:03d}_frame{frame:02d}" for frame in (1, 2)] for patient in (7, 3, 5, 1, 8, 9)}
    write_list(root / "train_slices.list", slices)
    write_list(root / "train.list", [name for patient in (7, 3, 5, 1) for name in names[patient]])
    write_list(root / "val.list", names[8])
    write_list(root / "test.list", names[9])
    return root


@pytest.fixture
def atria(tmp_path):
    """Return a folder like UA-MT's left atria: 4 scans to train on, one of them small, and 1 to test on."""
    root = tmp_path / "LA"
    for name, size in zip("ABCDT", (9, 12, 6, 8, 10), strict=True):
        image, label = made(size, size + 1, 9, classes=2)
        write_hdf5(root / "2018LA_Seg_Training Set" / name / "mri_norm2.h5", 3 * image - 1, label)
    write_list(root / "train.list", "ABCD")
    write_list(root / "test.list", "T")
    return root


@pytest.fixture
def nifti(tmp_path):
    """Return a folder of 4 NIfTI images of which the first has no label."""
    root = tmp_path / "liver"
    for name in "abcd":
        image, label = made(7, 6, 5, classes=2)
        write_nifti(root / "images" / f"{name}.nii.gz", 100 * image)
        if name != "a":
            write_nifti(root / "labels" / f"{name}.nii.gz", label)
    return root


@pytest.fixture
def decathlon(nifti):
    """Return a ``dataset.json`` over the NIfTI folder."""
    pair = [{"image": f"./images/{n}.nii.gz", "label": f"./labels/{n}.nii.gz"} for n in "bcd"]
    content = {
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": "./images/a.nii.gz"}, *pair[:2]],
        "validation": pair[2:],
        "test": [],
    }
    path = nifti / "dataset.json"
    path.write_text(json.dumps(content))
    return path
