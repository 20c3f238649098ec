"""Training, validation and test images never overlap, and the split depends on its own seed alone."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from aureole.core.errors import InputError
from aureole.data import Data, read


def rows(images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


@pytest.fixture
def source(tmp_path) -> str:
    """Write 300 different training images, and test images that cannot be read."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 3, 3), dtype=np.uint8)
    header = struct.pack(">4BIII", 0, 0, 8, 3, *pixels.shape)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    labels = (np.arange(300) % 3).astype(np.uint8)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 300) + labels.tobytes())
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"broken"))
    return str(tmp_path)


def test_parts_do_not_overlap_and_together_are_the_whole(source):
    splits = Data(source=source, num_validation=60).train_and_validation()
    train, validation = rows(splits.train), rows(splits.validation)
    assert (len(train), len(validation)) == (240, 60)
    assert not train & validation
    assert train | validation == rows(read(source, "train"))


def test_digits_train_validation_and_test_are_apart():
    data = Data()
    splits = data.train_and_validation()
    assert (len(splits.train), len(splits.validation), len(data.test())) == (1237, 200, 360)
    assert not rows(splits.train) & rows(splits.validation)
    assert not rows(splits.train) & rows(data.test())
    assert not rows(splits.validation) & rows(data.test())


def test_each_class_has_its_share(source):
    splits = Data(source=source, num_validation=30, num_train=90).train_and_validation()
    assert splits.validation.labels.bincount().tolist() == [10] * 3
    assert splits.train.labels.bincount().tolist() == [30] * 3


def test_the_split_depends_on_its_seed(source):
    first = Data(source=source, num_validation=60).train_and_validation()
    again = Data(source=source, num_validation=60).train_and_validation()
    other = Data(source=source, num_validation=60, seed=1).train_and_validation()
    assert first.train.fingerprint == again.train.fingerprint
    assert rows(first.validation) != rows(other.validation)


def test_the_same_images_validate_whatever_num_train_is(source):
    few = Data(source=source, num_validation=60, num_train=30).train_and_validation()
    all_of_them = Data(source=source, num_validation=60).train_and_validation()
    assert rows(few.validation) == rows(all_of_them.validation)
    assert rows(few.train) < rows(all_of_them.train)


def test_test_takes_the_first_images_in_order():
    data = Data()
    assert torch.equal(data.test(25).images, data.test().images[:25])
    assert torch.equal(data.test(25).labels, read("digits", "test").labels[:25])


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_validation": 1437}, "num_validation must be 1 to 1436, as digits has 1437"),
        ({"num_validation": 0}, "num_validation must be 1 to"),
        ({"num_train": 1238}, "num_train must be 1 to 1237: 1437 .* less 200 for validation; got 1238"),
        ({"num_train": 0}, "num_train must be 1 to 1237"),
    ],
)
def test_too_large_numbers_are_refused_with_what_is_there(fields, match):
    with pytest.raises(InputError, match=match):
        Data(**fields).train_and_validation()


@pytest.mark.parametrize("number", [0, 361])
def test_too_many_test_images_are_refused(number):
    with pytest.raises(InputError, match=f"num_examples must be 1 to 360, the test images of digits; got {number}"):
        Data().test(number)
