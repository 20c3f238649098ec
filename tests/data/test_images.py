"""Images are checked when they are made, and know what they are."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.data import Images
from aureole.data.stratify import permutation, stratified

PIXELS = torch.zeros(3, 1, 4, 5, dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 0])


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (PIXELS.float(), LABELS, "must be uint8 of shape"),
        (PIXELS[:, 0], LABELS, "must be uint8 of shape"),
        (PIXELS, LABELS[:2], "a label an image; got 3 and 2"),
        (PIXELS, LABELS.int(), "must be int64"),
        (PIXELS, LABELS - 1, "must lie in 0 to 1; got -1 at row 0"),
        (PIXELS, LABELS + 1, "must lie in 0 to 1; got 2 at row 1"),
        (PIXELS[:0], LABELS[:0], "no images"),
    ],
)
def test_unusable_arrays_are_refused_in_one_line(pixels, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        Images(pixels, labels, ("a", "b"))
    assert "\n" not in str(caught.value)


def test_subset_keeps_the_given_order(images):
    part = images.subset(torch.tensor([7, 3]))
    assert part.images[:, 0, 0, 0].tolist() == [7, 3]
    assert part.labels.tolist() == images.labels[[7, 3]].tolist()
    assert part.class_names == images.class_names


@pytest.mark.parametrize("indices", [torch.tensor([50]), torch.tensor([-1]), torch.tensor([], dtype=torch.int64)])
def test_subset_refuses_wrong_places(images, indices):
    with pytest.raises(InputError, match="indices into fifty"):
        images.subset(indices)


def test_fingerprint_sees_a_pixel_a_label_and_the_shape(images):
    same = Images(images.images.clone(), images.labels.clone(), images.class_names)
    assert same.fingerprint == images.fingerprint
    assert len(same.fingerprint) == 16
    pixels = images.images.clone()
    pixels[3, 0, 1, 1] ^= 1
    labels = images.labels.clone()
    labels[0] = 1 - labels[0].clamp(max=1)
    others = [
        Images(pixels, images.labels, images.class_names),
        Images(images.images, labels, images.class_names),
        Images(images.images.transpose(2, 3).reshape(50, 3, 5, 6), images.labels, images.class_names),
        Images(images.images.view(50, 3, 5, 6), images.labels, images.class_names),
    ]
    assert len({images.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_permutation_is_one_and_depends_on_the_seed():
    first = permutation(1000, 1)
    assert first.sort().values.tolist() == list(range(1000))
    assert torch.equal(first, permutation(1000, 1))
    assert not torch.equal(first, permutation(1000, 2))
    assert (first == torch.arange(1000)).sum() < 20


@pytest.mark.parametrize("count", [0, 1, 7, 60, 143, 200])
def test_stratified_gives_each_class_its_share(count):
    labels = torch.tensor([0] * 120 + [1] * 60 + [3] * 20)[permutation(200, 5)]
    chosen, rest = stratified(labels, count, seed=3)
    assert sorted([*chosen.tolist(), *rest.tolist()]) == list(range(200))
    assert len(chosen) == count
    share = labels[chosen].bincount(minlength=4)
    assert ((share - count * labels.bincount() / 200).abs() <= 1).all()


def test_stratified_depends_on_the_seed():
    labels = torch.zeros(100, dtype=torch.int64)
    assert not torch.equal(stratified(labels, 10, 0)[0], stratified(labels, 10, 1)[0])
