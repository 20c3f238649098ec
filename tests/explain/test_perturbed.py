"""Occlusion and RISE: in closed form on linear models, their masks, and misuse."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.explain.perturbed import RISE, Occlusion


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def linear(weight: Tensor) -> nn.Sequential:
    """A model with the logits <w_k, x>: ``weight`` has the shape (classes, *event)."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=False, dtype=weight.dtype)
    layer.weight.data = weight.flatten(1)
    return nn.Sequential(nn.Flatten(), layer)


# Occlusion


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 2), (4, 4), (5, 3)])
def test_occlusion_by_hand(window, stride):
    weight, x = torch.randn(3, 2, 6, 7, dtype=torch.float64), torch.rand(2, 2, 6, 7, dtype=torch.float64)
    y, b = torch.tensor([2, 0]), 0.2
    falls = (weight[y] * (x - b)).sum(1)  # of the logit, where this pixel alone is painted over
    total, count = torch.zeros_like(falls), torch.zeros_like(falls)
    starts = [range(0, side - window + stride, stride) for side in (6, 7)]
    for top, left in itertools.product(*starts):
        rows, columns = slice(top, top + window), slice(left, left + window)
        total[:, rows, columns] += falls[:, rows, columns].sum((1, 2))[:, None, None]
        count[:, rows, columns] += 1
    found = Occlusion(window=window, stride=stride, baseline=b)(linear(weight), x, y)
    torch.testing.assert_close(found, total / count, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (4, 3)])
def test_occlusion_beside_captum(window, stride):
    attr = pytest.importorskip("captum.attr")
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 4))
    x, y = torch.rand(3, 2, 6, 7), torch.tensor([3, 0, 1])
    shape, strides = (2, window, window), (2, stride, stride)
    theirs = attr.Occlusion(model).attribute(x, shape, strides, baselines=0.4, target=y)[:, 0]
    ours = Occlusion(window=window, stride=stride, baseline=0.4)(model, x, y)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_window_follows_the_image():
    model, x = linear(torch.randn(2, 1, 20, 30)), torch.rand(1, 1, 20, 30)
    torch.testing.assert_close(Occlusion()(model, x), Occlusion(window=3, stride=2)(model, x))
    torch.testing.assert_close(Occlusion(window=8)(model, x), Occlusion(window=8, stride=4)(model, x))


def test_windows_that_do_not_fit():
    model, x = linear(torch.randn(2, 1, 4, 6)), torch.rand(1, 1, 4, 6)
    with says("a window of 5 pixels does not fit an image whose shorter side is 4"):
        Occlusion(window=5)(model, x)
    with says("stride must be at most the window, 2 pixels; got 3"):
        Occlusion(window=2, stride=3)(model, x)
    with says("window must be at least 1"):
        Occlusion(window=0)
    with says("stride must be at least 1"):
        Occlusion(stride=0)


# RISE


class OnePixel(nn.Module):
    """The class is 1 with the probability of one pixel's value."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.row, self.column = row, column

    def forward(self, x: Tensor) -> Tensor:
        p = x[:, :, self.row, self.column].mean(1)
        return torch.stack([1 - p, p], dim=1).log()


def ones(count: int, size: int) -> tuple[Tensor, Tensor]:
    return torch.ones(count, dtype=torch.int64), torch.full((count, 3, size, size), 0.9)


def test_a_mask_is_a_shifted_grid():
    masks = RISE(num_masks=200, cells=4, keep=0.4).masks(22, 30)
    assert masks.shape == (200, 22, 30)
    assert 0 <= masks.min() <= masks.max() <= 1 + 1e-6
    torch.testing.assert_close(masks.mean((0, 1, 2)), torch.tensor(0.4), atol=0.03, rtol=0)
    assert masks.diff(dim=1).abs().max() <= 1 / 6 + 1e-6  # a cell is 6 rows and 8 columns
    assert masks.diff(dim=2).abs().max() <= 1 / 8 + 1e-6
    assert (masks[:, 0] != masks[:, 3]).any()
    torch.testing.assert_close(RISE(num_masks=1, cells=4, keep=1.0).masks(22, 30), torch.ones(1, 22, 30))


def test_masks_of_one_seed_are_one_sequence():
    masks = RISE(num_masks=20, seed=3).masks(14, 14)
    assert torch.equal(RISE(num_masks=50, seed=3).masks(14, 14)[:20], masks)
    assert torch.equal(RISE(num_masks=20, seed=3).masks(14, 14, 5, 9), masks[5:9])
    assert not torch.equal(RISE(num_masks=20, seed=4).masks(14, 14), masks)
    assert len(torch.unique(masks.flatten(1), dim=0)) == 20


def test_the_map_by_hand():
    rise, x, y = RISE(num_masks=30, cells=3, keep=0.3, max_batch=7), torch.rand(2, 3, 8, 9), torch.tensor([1, 0])
    model = linear(torch.randn(2, 3, 8, 9))
    wanted = torch.zeros(2, 8, 9)
    for mask in rise.masks(8, 9):
        wanted += mask * model(mask * x).softmax(1)[[0, 1], y][:, None, None]
    torch.testing.assert_close(rise(model, x, y), wanted / (30 * 0.3))


def test_a_model_that_looks_at_nothing_gives_its_probability_everywhere():
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[0.2, 0.8]]).log().expand(len(x), 2)

    maps = RISE(num_masks=3000, cells=3)(Fixed(), torch.rand(1, 1, 6, 6))
    torch.testing.assert_close(maps, torch.full((1, 6, 6), 0.8), atol=0.06, rtol=0)


def test_the_pixel_that_the_model_looks_at_stands_out():
    y, x = ones(1, 28)
    for row, column in ((3, 20), (14, 14), (24, 6)):
        scores = RISE(num_masks=1500, cells=7)(OnePixel(row, column), x, y)[0]
        best = divmod(int(scores.argmax()), 28)
        assert max(abs(best[0] - row), abs(best[1] - column)) <= 2  # a cell has 4 pixels
        far = scores[(row + 14) % 28, (column + 14) % 28]
        masks = RISE(num_masks=1500, cells=7).masks(28, 28)[:, row, column]
        wanted = 0.9 * masks.square().mean() / 0.5  # E[m^2] p / keep at the pixel, E[m]^2 p / keep far off
        torch.testing.assert_close(scores[row, column], wanted, rtol=1e-4, atol=0)
        torch.testing.assert_close(far, torch.tensor(0.9 * 0.5), atol=0.06, rtol=0)


def test_the_same_seed_is_the_same_map_in_any_batch():
    model, x = linear(torch.randn(3, 2, 8, 8)), torch.rand(4, 2, 8, 8)
    rise = RISE(num_masks=20, cells=4, seed=1)
    torch.manual_seed(1)
    whole = rise(model, x)
    torch.manual_seed(2)
    assert torch.equal(rise(model, x), whole)
    torch.testing.assert_close(rise(model, x[2:3]), whole[2:3])
    torch.testing.assert_close(rise(model, x.flip(0)), whole.flip(0))
    torch.testing.assert_close(RISE(num_masks=20, cells=4, seed=1, max_batch=3)(model, x), whole)
    assert not torch.allclose(RISE(num_masks=20, cells=4, seed=2)(model, x), whole)


def test_fields_out_of_range():
    for wrong in ({"num_masks": 0}, {"cells": 0}):
        with says("num_masks and cells must be at least 1"):
            RISE(**wrong)
    for keep in (0.0, 1.5):
        with says(r"keep must be in \(0, 1\]"):
            RISE(keep=keep)
    with says("7 cells do not fit an image of 6 x 9 pixels"):
        RISE()(linear(torch.randn(2, 1, 6, 9)), torch.rand(1, 1, 6, 9))
