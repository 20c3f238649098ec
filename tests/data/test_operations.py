"""Every operation gives the grey levels of Pillow, each picture by its own strength."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aureole.data import operations as ops

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
ImageEnhance = pytest.importorskip("PIL.ImageEnhance", reason="Pillow is not installed")
ImageOps = pytest.importorskip("PIL.ImageOps", reason="Pillow is not installed")

COUNT = 12
FILL = 90


def pictures(channels: int) -> torch.Tensor:
    """Noise of several spreads about several levels, a ramp, and two pictures of one level."""
    generator = torch.Generator().manual_seed(channels)
    centre, spread = torch.linspace(20, 230, COUNT), torch.linspace(3, 120, COUNT)
    x = centre.view(-1, 1, 1, 1) + spread.view(-1, 1, 1, 1) * torch.randn(COUNT, channels, 28, 30, generator=generator)
    x[0], x[1] = 255, 13
    x[2] = torch.arange(28 * 30).view(28, 30) * 0.2 + 40
    return x.clamp(0, 255).to(torch.uint8)


def to_pillow(picture):
    array = picture.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def from_pillow(images):
    arrays = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(arrays[:, None] if arrays.ndim == 3 else arrays.transpose(0, 3, 1, 2).copy())


def by_pillow(x, function, strengths):
    return from_pillow([function(to_pillow(p), s) for p, s in zip(x, strengths.tolist(), strict=True)])


def turned(entries):
    return lambda image, s: image.transform(image.size, Image.Transform.AFFINE, entries(s), fillcolor=_fill(image))


def _fill(image):
    return FILL if image.mode == "L" else (FILL,) * 3


CASES = {
    "brightness": (0.05, 0.95, lambda im, s: ImageEnhance.Brightness(im).enhance(s)),
    "colour": (0.05, 0.95, lambda im, s: ImageEnhance.Color(im).enhance(s)),
    "contrast": (0.05, 0.95, lambda im, s: ImageEnhance.Contrast(im).enhance(s)),
    "sharpness": (0.05, 0.95, lambda im, s: ImageEnhance.Sharpness(im).enhance(s)),
    "autocontrast": (0.0, 1.0, lambda im, s: ImageOps.autocontrast(im)),
    "equalise": (0.0, 1.0, lambda im, s: ImageOps.equalize(im)),
    "identity": (0.0, 1.0, lambda im, s: im),
    "posterise": (4.0, 8.9, lambda im, s: ImageOps.posterize(im, int(s))),
    "solarise": (0.0, 255.5, lambda im, s: ImageOps.solarize(im, math.ceil(s))),
    "rotate": (-30.0, 30.0, lambda im, s: im.rotate(s, fillcolor=_fill(im))),
    "shear-x": (-0.3, 0.3, turned(lambda s: (1, s, 0, 0, 1, 0))),
    "shear-y": (-0.3, 0.3, turned(lambda s: (1, 0, 0, s, 1, 0))),
    "translate-x": (-0.3, 0.3, turned(lambda s: (1, 0, s * 30, 0, 1, 0))),
    "translate-y": (-0.3, 0.3, turned(lambda s: (1, 0, 0, 0, 1, s * 28))),
}


def test_the_cases_are_the_whole_pool():
    assert set(CASES) == set(ops.OPERATIONS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_an_operation_equals_pillow_within_one_grey_level(name, channels):
    low, high, reference = CASES[name]
    x = pictures(channels)
    before = x.clone()
    strengths = torch.linspace(low, high, COUNT)[torch.randperm(COUNT)]
    ours = ops.OPERATIONS[name].apply(x, strengths, FILL)
    theirs = by_pillow(x, reference, strengths)
    assert ours.dtype == torch.uint8
    assert ours.shape == x.shape
    assert torch.equal(x, before)
    assert int((ours.int() - theirs.int()).abs().max()) <= 1
    assert (ours != theirs).float().mean() < 0.02
    if name != "identity" and not (name == "colour" and channels == 1):
        assert not torch.equal(ours, x)


@pytest.mark.parametrize("name", ["equalise", "posterise", "rotate", "shear-x", "shear-y", "solarise", "translate-x"])
def test_operations_of_integers_equal_pillow_exactly(name):
    low, high, reference = CASES[name]
    x, strengths = pictures(3), torch.linspace(low, high, COUNT)
    assert torch.equal(ops.OPERATIONS[name].apply(x, strengths, FILL), by_pillow(x, reference, strengths))


def test_grey_is_pillows_conversion():
    x = pictures(3)
    assert torch.equal(ops.grey(x), from_pillow([to_pillow(p).convert("L") for p in x]))


@pytest.mark.parametrize("name", ["brightness", "colour", "contrast", "sharpness"])
def test_a_factor_of_one_changes_nothing(name):
    x = pictures(3)
    assert torch.equal(ops.OPERATIONS[name].apply(x, torch.ones(COUNT), FILL), x)


@pytest.mark.parametrize("name", ["rotate", "shear-x", "shear-y", "translate-x", "translate-y"])
def test_a_strength_of_zero_moves_nothing(name):
    x = pictures(3)
    assert torch.equal(ops.OPERATIONS[name].apply(x, torch.zeros(COUNT), FILL), x)


def test_the_whole_range_of_strengths_is_usable():
    x = pictures(3)
    for operation in ops.OPERATIONS.values():
        for strength in (operation.low, operation.high):
            assert operation.apply(x, torch.full((COUNT,), strength), FILL).shape == x.shape
    assert torch.equal(ops.posterise(x, torch.full((COUNT,), 9.0)), x)


def test_pictures_smaller_than_the_smoothing_stay_sharp():
    x = pictures(1)[:, :, :2, :2]
    assert torch.equal(ops.sharpness(x, torch.full((COUNT,), 0.1)), x)


def test_a_matrix_is_not_changed():
    matrix = torch.tensor([[1.0, 0.5, 0, 0, 1, 0]], dtype=torch.float64)
    ops.affine(pictures(1)[:1], matrix, 0)
    assert matrix.tolist() == [[1.0, 0.5, 0, 0, 1, 0]]
