"""Crops and flips equal their hand-written references, and each image has its own stream."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.data import GaussianNoise, RandomCrop, RandomHorizontalFlip, RandomTranslation


def streams(indices, seed=0):
    return Streams.of(seed, torch.as_tensor(indices))


def reference_crop(image, padding, top, left):
    height, width = image.shape[1:]
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            i, j = row + top - padding, column + left - padding
            if 0 <= i < height and 0 <= j < width:
                out[:, row, column] = image[:, i, j]
    return out


def test_crop_equals_a_loop_over_pixels(images):
    x = images.images[:20]
    out = RandomCrop(padding=2)(x, streams(range(20)))
    offsets = (streams(range(20)).uniform((20, 2)) * 5).long().tolist()
    for image, cropped, (top, left) in zip(x, out, offsets, strict=True):
        assert torch.equal(cropped, reference_crop(image, 2, top, left))


def test_crop_offsets_cover_the_whole_range_evenly():
    x = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5).expand(2500, 1, 5, 5)
    centre = RandomCrop(padding=2)(x, streams(range(2500)))[:, 0, 2, 2].long()
    counts = centre.bincount(minlength=26)[1:]
    assert counts.min() > 50
    assert counts.max() < 150


def test_flip_mirrors_half_of_the_images(images):
    x = images.images[torch.arange(1000) % 50]
    out = RandomHorizontalFlip()(x, streams(range(1000)))
    mirrored = (out == x.flip(3)).flatten(1).all(1)
    kept = (out == x).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 400 < mirrored.sum() < 600


def test_flip_with_certain_probabilities(images):
    x = images.images
    assert torch.equal(RandomHorizontalFlip(0.0)(x, streams(range(50))), x)
    assert torch.equal(RandomHorizontalFlip(1.0)(x, streams(range(50))), x.flip(3))


@pytest.mark.parametrize(
    "augment", [RandomCrop(padding=3), RandomHorizontalFlip(), RandomTranslation(), GaussianNoise()]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_does_not_depend_on_its_batch(images, augment, dtype):
    x = images.images.to(dtype)
    before = x.clone()
    whole = augment(x, streams(range(50)))
    some = torch.tensor([31, 4, 17])
    assert torch.equal(augment(x[some], streams(some)), whole[some])
    assert whole.dtype == dtype
    assert torch.equal(x, before)
    assert not torch.equal(whole, x)
    assert not torch.equal(augment(x, streams(range(50), seed=1)), whole)


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="padding must be at least 0; got -1"):
        RandomCrop(padding=-1)
    with pytest.raises(InputError, match=r"probability must be in \[0, 1\]; got 2.0"):
        RandomHorizontalFlip(2.0)


def reference_shift(image, down, right, border):
    height, width = image.shape[1:]

    def source(place, size):
        if border == "reflect":
            place = abs(place)
            place = 2 * (size - 1) - place if place >= size else place
        return min(max(place, 0), size - 1) if border != "zero" else place

    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            i, j = source(row - down, height), source(column - right, width)
            if 0 <= i < height and 0 <= j < width:
                out[:, row, column] = image[:, i, j]
    return out


@pytest.mark.parametrize("border", ["zero", "edge", "reflect"])
def test_translation_equals_a_loop_over_pixels(images, border):
    x = images.images[:20]
    out = RandomTranslation(2, border=border)(x, streams(range(20)))
    shifts = ((streams(range(20)).uniform((20, 2)) * 5).long() - 2).tolist()
    assert len({tuple(shift) for shift in shifts}) > 8
    for image, shifted, (down, right) in zip(x, out, shifts, strict=True):
        assert torch.equal(shifted, reference_shift(image, down, right, border))


def test_translation_further_than_the_image_is_wide(images):
    x = images.images[:, :, :2, :2]
    for border in ("zero", "edge", "reflect"):
        assert RandomTranslation(9, border=border)(x, streams(range(50))).shape == x.shape


def test_noise_has_its_spread_and_is_cut(images):
    grey = torch.full((200, 1, 16, 16), 128, dtype=torch.uint8)
    change = (GaussianNoise(0.15)(grey, streams(range(200))).double() - 128) / 255
    assert abs(float(change.mean())) < 0.005
    assert abs(float(change.std()) - 0.15) < 0.003
    floats = GaussianNoise(0.15)(grey / 255, streams(range(200)))
    assert float((floats - grey / 255 - change.float()).abs().max()) <= 0.5001 / 255
    white = GaussianNoise(0.3)(torch.full_like(grey, 255), streams(range(200)))
    assert 0.4 < (white == 255).double().mean() < 0.6
    assert torch.equal(GaussianNoise(0.0)(images.images, streams(range(50))), images.images)


def test_impossible_shifts_and_noise_are_refused():
    with pytest.raises(InputError, match="max_shift must be at least 0; got -1"):
        RandomTranslation(-1)
    with pytest.raises(InputError, match="unknown border 'mirror'"):
        RandomTranslation(border="mirror")
    with pytest.raises(InputError, match=r"std must be at least 0; got -0\.1"):
        GaussianNoise(-0.1)
