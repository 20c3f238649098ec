"""Labelled images are few, equally many of each class, and found again; validation is apart and stays the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aureole.core.errors import InputError
from aureole.data import Data, FewLabels, Images, read
from aureole.data.few_labels import FewLabelsSplits

CLASSES, COUNT = 4, 240


def save(path, pixels, labels):
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:8], y_test=labels[:8])
    return str(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """Write 240 different images of four classes of 120, 60, 40 and 20."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 3), dtype=np.uint8)
    return save(tmp_path_factory.mktemp("few") / "few.npz", pixels, np.repeat(np.arange(4), [120, 60, 40, 20]))


def rows(images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


def parts(source, **fields):
    return FewLabels(**{"source": source, "num_validation": 24, "num_labelled": 20, **fields}).train_and_validation()


@settings(max_examples=25, deadline=None)
@given(num_labelled=st.integers(4, 216), seed=st.integers(0, 99), labelled_seed=st.integers(0, 99))
def test_parts_are_apart_and_balanced_and_validation_is_that_of_data(source, num_labelled, seed, labelled_seed):
    ours = parts(source, num_labelled=num_labelled, seed=seed, labelled_seed=labelled_seed)
    labelled, unlabelled, validation = rows(ours.labelled), rows(ours.unlabelled), rows(ours.validation)
    assert (len(labelled), len(unlabelled), len(validation)) == (num_labelled, 216, 24)
    assert not validation & (labelled | unlabelled)
    assert labelled <= unlabelled
    assert validation == rows(Data(source=source, num_validation=24, seed=seed).train_and_validation().validation)
    counts, there = ours.labelled.labels.bincount(minlength=4), ours.unlabelled.labels.bincount()
    assert ((counts == there) | (counts >= counts.max() - 1)).all()
    assert counts.min() > 0


def test_the_choice_depends_on_its_own_seed_alone(source):
    first, again, other = parts(source), parts(source), parts(source, labelled_seed=1)
    assert first.labelled_index == again.labelled_index
    assert first.labelled_index != other.labelled_index
    assert rows(first.validation) == rows(other.validation)
    assert first.labelled.labels.bincount().tolist() == [5] * 4


def test_the_same_images_validate_whatever_the_number_of_labels(source):
    assert len({frozenset(rows(parts(source, num_labelled=n).validation)) for n in (4, 40, 216)}) == 1
    assert set(parts(source, num_labelled=40).labelled_index) > set(parts(source).labelled_index)


def test_the_indices_find_the_same_images_again(source):
    ours = parts(source, num_train=100)
    found = read(source, "train").subset(torch.tensor(ours.labelled_index))
    assert torch.equal(found.images, ours.labelled.images)
    assert torch.equal(found.labels, ours.labelled.labels)
    assert all(isinstance(i, int) for i in ours.labelled_index)
    assert ours.train is ours.labelled


def test_the_unlabelled_images_can_leave_the_labelled_out(source):
    ours = parts(source, unlabelled_with_labelled=False)
    assert not rows(ours.labelled) & rows(ours.unlabelled)
    assert rows(ours.labelled) | rows(ours.unlabelled) == rows(parts(source).unlabelled)


def test_num_train_bounds_labelled_and_unlabelled_together(source):
    ours = parts(source, num_train=100)
    assert len(ours.unlabelled) == 100
    assert rows(ours.labelled) <= rows(ours.unlabelled)


def test_unlabelled_images_of_another_source(source, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (30, 3, 3), dtype=np.uint8)
    other = save(tmp_path / "other.npz", pixels, np.zeros(30, np.int64))
    ours = parts(source, unlabelled_source=other)
    assert rows(ours.unlabelled) == rows(read(other, "train"))
    assert rows(ours.labelled) == rows(parts(source).labelled)
    wide = save(tmp_path / "wide.npz", np.zeros((30, 3, 5), np.uint8), np.zeros(30, np.int64))
    with pytest.raises(InputError, match=r"must have one shape; few has \(1, 3, 3\) and wide \(1, 3, 5\)"):
        parts(source, unlabelled_source=wide)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_labelled": 3}, "num_labelled must be at least 4, one image for each class of few; got 3"),
        ({"num_labelled": 217}, "num_labelled must be at most 216, the training images of few .* leave; got 217"),
        ({"num_labelled": 51, "num_train": 50}, "num_labelled must be at most 50"),
        ({"num_labelled": 216, "unlabelled_with_labelled": False}, "no image of .* is left without a label"),
        ({"num_validation": 240}, "num_validation must be 1 to 239"),
        ({"num_train": 4, "num_labelled": 4, "seed": 0}, "class '3' has none among the training images"),
    ],
)
def test_impossible_numbers_are_refused_in_one_line(source, fields, match):
    with pytest.raises(InputError, match=match) as caught:
        parts(source, **fields)
    assert "\n" not in str(caught.value)


def test_the_source_itself_is_no_other_source(source):
    with pytest.raises(InputError, match="unlabelled_source must be another source than"):
        parts(source, unlabelled_source=source)


def test_a_class_without_images_is_refused(tmp_path):
    labels = np.array([0, 2] * 40)
    gap = save(tmp_path / "gap.npz", np.zeros((80, 3, 3), np.uint8), labels)
    with pytest.raises(InputError, match="every class of gap needs an image to label; class '1' has none"):
        parts(gap)


def test_parts_with_other_classes_are_refused():
    pixels, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    two, three = Images(pixels, labels, ("a", "b"), "two"), Images(pixels, labels, ("a", "b", "c"), "three")
    with pytest.raises(InputError, match="all parts must have the same classes; two has 2 and three 3"):
        FewLabelsSplits(train=two, validation=three, unlabelled=two, labelled_index=(0, 1, 2, 3))
    assert FewLabelsSplits(train=two, validation=two, unlabelled=three, labelled_index=(0, 1, 2, 3)).labelled is two


def test_mnist_has_thirty_labels_of_each_digit(shared_data):
    ours = FewLabels(source=str(shared_data / "mnist"), num_validation=1000, num_labelled=300).train_and_validation()
    assert ours.labelled.labels.bincount().tolist() == [30] * 10
    assert (len(ours.unlabelled), len(ours.validation)) == (59000, 1000)
