"""Sources find their own layout; who is labelled, validates and tests is what the source's lists say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError, UntrustedResult
from aureole.data.scans import Phantoms, ScanData

from .conftest import made, write_hdf5, write_list, write_nifti

PHANTOMS = Phantoms(num_train=3, num_validation=1, num_test=2, size=24)


def refuse(config, match):
    with pytest.raises(InputError, match=match) as caught:
        config.train_and_validation()
    assert "\n" not in str(caught.value)


def test_acdc_labels_the_first_patients_of_its_list(acdc):
    splits = ScanData(source=str(acdc), num_labelled=2).train_and_validation()
    train = splits.train
    assert (train.num_labelled, len(train)) == (4 + 6, 4 + 6 + 4 + 4)
    assert train.labelled_patients == ("patient007", "patient003")
    assert train.names[:2] == ("patient007_frame01_slice_1", "patient007_frame01_slice_2")
    assert train.sizes[0] == (17, 13)
    assert train.class_names == ("background", "RV", "myocardium", "LV")
    assert splits.validation.names == ("patient008_frame01", "patient008_frame02")
    assert ScanData(source=str(acdc)).test(1)[0].shape == (2, 19, 11)
    assert ScanData(source=str(acdc), num_labelled=4).train_and_validation().train.num_labelled == len(train)
    refuse(ScanData(source=str(acdc), num_labelled=5), r"at most 4, the patients .*train_slices\.list; got 5")


def test_the_labelled_are_first_wherever_the_list_has_them(acdc):
    names = (acdc / "train_slices.list").read_text().split()
    write_list(acdc / "train_slices.list", [names[0], *names[-2:], *names[1:-2]])
    train = ScanData(source=str(acdc), num_labelled=1).train_and_validation().train
    assert train.patients[:5] == ("patient007",) * 4 + ("patient001",)


def test_acdc_volumes_train_in_both_dimensions(acdc):
    volumes = ScanData(source=str(acdc), num_labelled=2, dimensions=3).train_and_validation().train
    assert (volumes.num_labelled, len(volumes), volumes.dimensions) == (4, 8, 3)
    slices = ScanData(source=str(acdc), num_labelled=2).train_and_validation().train
    (acdc / "train_slices.list").unlink()
    cut = ScanData(source=str(acdc), num_labelled=2).train_and_validation().train
    assert cut.names == slices.names
    assert torch.equal(cut.voxels, slices.voxels)
    assert torch.equal(cut.labels, slices.labels)
    assert cut.fingerprint == slices.fingerprint != volumes.fingerprint


def test_left_atria_have_no_validation_list(atria):
    data = ScanData(source=str(atria), num_labelled=2)
    splits = data.train_and_validation()
    assert (splits.train.names, splits.train.num_labelled, splits.validation) == (("A", "B", "C", "D"), 2, None)
    assert torch.equal(splits.train.image(0), data.layout().volumes[0].load(with_label=False).image)
    carved = ScanData(source=str(atria), num_labelled=2, num_validation=1).train_and_validation()
    assert (carved.train.names, carved.validation.names) == (("A", "B", "C"), ("D",))
    refuse(ScanData(source=str(atria), num_validation=4), "num_validation must be below 4")
    refuse(ScanData(source=str(atria), num_labelled=4, num_validation=1), "num_labelled must be at most 3")
    with pytest.warns(UntrustedResult, match="chosen on the test scans"):
        tested = ScanData(source=str(atria), num_labelled=1, validate_on_test=True).train_and_validation()
    assert tested.validation.names == data.test().names == ("T",)


def test_fewer_patients_validate_alike(acdc, atria):
    part = ScanData(source=str(acdc), num_labelled=1, num_train=2, num_validation=1).train_and_validation()
    assert set(part.train.patients) == {"patient007", "patient003"}
    assert len(part.validation) == 2
    refuse(ScanData(source=str(acdc), num_labelled=1, num_train=5), "num_train must be at most 4")
    refuse(ScanData(source=str(acdc), num_validation=2), "num_validation must be at most 1")
    small = ScanData(source=str(atria), num_labelled=1, num_train=2, num_validation=1).train_and_validation()
    assert (small.train.names, small.validation.names) == (("A", "B"), ("D",))


def test_a_nifti_folder_labels_what_has_a_label(nifti):
    data = ScanData(source=str(nifti), num_labelled=2, class_names=("background", "liver"))
    train = data.train_and_validation().train
    assert (train.names, train.num_labelled) == (("b", "c", "d", "a"), 2)
    assert train.image(0).mean().abs() < 1e-6
    slices = ScanData(source=str(nifti), num_labelled=2, dimensions=2, class_names=("background", "liver"))
    train = slices.train_and_validation().train
    assert (len(train), train.num_labelled, train.sizes[0], train.names[4]) == (20, 10, (7, 6), "b_slice_5")
    assert (float(train.voxels.min()), float(train.voxels.max())) == (0, 1)
    refuse(ScanData(source=str(nifti)), "does not name its classes: give class_names")
    four = ScanData(source=str(nifti), num_labelled=4, class_names=("background", "liver"))
    refuse(four, "a is to be labelled and has no label")
    with pytest.raises(InputError, match="names no test scans"):
        four.test()
    carved = ScanData(source=str(nifti), num_labelled=1, num_validation=1, class_names=("background", "liver"))
    assert carved.train_and_validation().validation.names == ("d",)
    write_nifti(nifti / "labels" / "z.nii.gz", made(7, 6, 5)[1])
    refuse(data, "the label .*z.nii.gz has no image of that name")


def test_a_nifti_folder_with_lists_or_parts(nifti, tmp_path):
    write_list(nifti / "train.list", "cb")
    write_list(nifti / "test.list", "d")
    data = ScanData(source=str(nifti), num_labelled=1, class_names=("background", "liver"))
    assert data.train_and_validation().train.names == ("c", "b")
    assert data.test()[0].spacing == (0.5, 0.5, 4.0)
    write_list(nifti / "train.list", "cx")
    refuse(data, r"train\.list names x, and 0 more, without an image")
    for part in ("train", "test"):
        for kind, voxels in zip(("images", "labels"), made(4, 4, 4, classes=2), strict=True):
            write_nifti(tmp_path / "parts" / part / kind / f"{part}.nii", voxels)
    parts = ScanData(source=str(tmp_path / "parts"), num_labelled=1, class_names=("background", "liver"))
    assert parts.train_and_validation().train.names == ("train",)
    assert parts.test().names == ("test",)


def test_a_dataset_json_tells_all(decathlon):
    data = ScanData(source=str(decathlon), num_labelled=2)
    splits = data.train_and_validation()
    assert splits.train.names == ("b", "c", "a")
    assert splits.train.class_names == ("background", "liver")
    assert splits.validation.names == ("d",)
    found = ScanData(source=str(decathlon.parent), num_labelled=2).train_and_validation()
    assert found.train.sizes == splits.train.sizes
    content = json.loads(decathlon.read_text()) | {"labels": {"background": 0, "liver": 1}, "test": ["images/x.nii"]}
    decathlon.write_text(json.dumps(content))
    assert data.layout().class_names == ("background", "liver")
    with pytest.raises(InputError, match="x has no file"):
        data.test()[0]


def test_broken_scans_stop_training_or_are_left_out(acdc):
    slices = acdc / "data" / "slices"
    (slices / "patient005_frame01_slice_1.h5").unlink()
    write_hdf5(slices / "patient001_frame02_slice_2.h5", np.full((5, 5), np.nan))
    write_hdf5(slices / "patient006_frame01_slice_1.h5", *made(5, 5, classes=9))
    data = ScanData(source=str(acdc), num_labelled=1)
    refuse(data, "patient005_frame01_slice_1 has no file")
    failed = {}
    train = data.train_and_validation(failed).train
    assert train.num_labelled == 4
    assert list(failed) == ["patient005_frame01_slice_1", "patient001_frame02_slice_2"]  # no other label is looked at
    assert "has no file" in failed["patient005_frame01_slice_1"]
    assert "must be finite" in failed["patient001_frame02_slice_2"]


def test_a_broken_labelled_scan_stops_training_always(acdc):
    (acdc / "data" / "slices" / "patient007_frame01_slice_1.h5").unlink()
    for failed in (None, {}):
        with pytest.raises(InputError, match="patient007_frame01_slice_1 has no file"):
            ScanData(source=str(acdc), num_labelled=1).train_and_validation(failed)


def test_labels_that_are_all_empty_are_doubtful(acdc):
    folder = acdc / "data" / "slices"
    empty = {name: np.zeros((17, 13)) for name in ("frame01_slice_1", "frame01_slice_2", "frame02_slice_1")}
    for name, label in empty.items():
        write_hdf5(folder / f"patient007_{name}.h5", made(17, 13)[0], label)
    data = ScanData(source=str(acdc), num_labelled=1)
    assert data.train_and_validation().train.num_labelled == 4
    write_hdf5(folder / "patient007_frame02_slice_2.h5", made(17, 13)[0], np.zeros((17, 13)))
    with pytest.warns(UntrustedResult, match="labels of all 1 labelled patients of .* are background alone"):
        data.train_and_validation()


def test_lists_are_checked(acdc, atria):
    write_list(acdc / "val.list", ["patient001_frame01"])
    refuse(ScanData(source=str(acdc)), "patient001 of .* is in the training and in the validation part")
    write_list(acdc / "val.list", ["patient008_frame01"] * 2)
    refuse(ScanData(source=str(acdc)), r"val\.list names patient008_frame01 2 times")
    write_list(acdc / "val.list", [])
    refuse(ScanData(source=str(acdc)), r"val\.list is empty")
    (atria / "train.list").unlink()
    refuse(ScanData(source=str(atria)), "there is no list of scans at")
    (acdc / "train.list").unlink()
    (acdc / "val.list").unlink()
    refuse(ScanData(source=str(acdc), dimensions=3), "names no volumes to train on")
    refuse(ScanData(source=str(acdc), num_validation=1), "num_validation must be below 0")
    refuse(ScanData(source=str(acdc), scaling="unit"), "stored one by one and cannot be scaled")
    (acdc / "train_slices.list").unlink()
    refuse(ScanData(source=str(acdc)), "neither train_slices.list nor train.list")


def test_sources_that_are_none(tmp_path):
    refuse(ScanData(source=str(tmp_path)), "holds no scans in a known form; expected 'phantom-heart'")
    refuse(ScanData(source="no/such/folder"), "the source no/such/folder does not exist")
    (tmp_path / "a.txt").write_text("")
    refuse(ScanData(source=str(tmp_path / "a.txt")), "is a file of another kind")
    (tmp_path / "images").mkdir()
    refuse(ScanData(source=str(tmp_path)), "has no NIfTI file")


def test_a_configuration_is_checked_and_can_be_stored():
    config = ScanData(source="phantom-atrium", phantoms=PHANTOMS, class_names=("background", "atrium"))
    assert from_values(to_values(config)) == config
    for wrong in ({"num_labelled": 0}, {"num_train": 0}, {"num_validation": 0}, {"dimensions": 4}):
        with pytest.raises(InputError, match="must be"):
            ScanData(**wrong)
    with pytest.raises(InputError, match="did you mean 'float16'"):
        ScanData(precision="float61")
    with pytest.raises(InputError, match="unknown scaling"):
        ScanData(scaling="log")


def test_half_the_memory(tmp_path, nifti):
    data = {"source": "phantom-heart", "phantoms": PHANTOMS, "num_labelled": 1}
    whole, half = (ScanData(**data, precision=p).train_and_validation().train for p in ("float32", "float16"))
    assert (half.voxels.dtype, whole.voxels.dtype) == (torch.float16, torch.float32)
    assert (half.voxels - whole.voxels).abs().max() < 3e-4
    write_nifti(nifti / "images" / "b.nii.gz", np.full((7, 6, 5), 1e6, np.float32))
    refuse(
        ScanData(source=str(nifti), num_labelled=1, class_names=tuple("ab"), scaling="none", precision="float16"),
        "voxels of b do not fit into float16",
    )


def test_phantoms_split_by_patient():
    for source in ("phantom-heart", "phantom-atrium"):
        data = ScanData(source=source, phantoms=PHANTOMS, num_labelled=2)
        splits = data.train_and_validation()
        parts = [set(splits.train.patients), set(splits.validation.patients), set(data.test().patients)]
        assert [len(part) for part in parts] == [3, 1, 2]
        assert len(set.union(*parts)) == 6
        assert len(splits.train.labelled_patients) == 2
        with pytest.raises(InputError, match="only the items 0 to"):
            splits.train.label(splits.train.num_labelled)
    with pytest.raises(InputError, match="num_scans must be 1 to 2"):
        data.test(3)


def test_the_real_lists_give_the_published_counts(shared_data):
    if not (shared_data / "acdc").is_dir():
        pytest.skip(f"no ACDC at {shared_data}")
    layout = ScanData(source=str(shared_data / "acdc")).layout()
    patients = list(dict.fromkeys(entry.patient for entry in layout.slices))
    counts = [sum(entry.patient in patients[:k] for entry in layout.slices) for k in (3, 7, 14, 70)]
    assert counts == [68, 136, 256, 1312]
    assert (len(layout.validation), len(layout.test)) == (20, 40)
    splits = ScanData(source=str(shared_data / "acdc"), num_labelled=3, num_train=3).train_and_validation()
    assert splits.train.num_labelled == 68
    assert splits.train.labels.unique().tolist() == [0, 1, 2, 3]
    assert splits.validation[0].label.unique().tolist() == [0, 1, 2, 3]
