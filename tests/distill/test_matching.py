"""Maps of different sizes, rows of unit length, and the regressor, against loops over their values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Features
from aureole.distill.matching import Regressor, full_precision, head_dtype, map_pairs, pool_to_common, unit_rows


def features(*sizes: int, channels: int = 2, batch: int = 2) -> Features:
    return Features(torch.rand(batch, 3), tuple(torch.rand(batch, channels, n, n) for n in sizes), torch.rand(batch, 4))


@pytest.mark.parametrize("swap", [False, True])
def test_the_larger_map_is_averaged_over_blocks(swap: bool):
    large, small = torch.rand(2, 3, 4, 6), torch.rand(2, 5, 2, 3)
    blocks = torch.stack([large[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(0)
    given = (small, large) if swap else (large, small)
    pooled = pool_to_common(*given)
    assert torch.allclose(pooled[swap], blocks)
    assert pooled[1 - swap] is small


def test_each_side_is_pooled_where_it_is_larger():
    tall, wide = torch.rand(1, 1, 4, 2), torch.rand(1, 1, 2, 4)
    a, b = pool_to_common(tall, wide)
    assert torch.allclose(a, (tall[:, :, ::2] + tall[:, :, 1::2]) / 2)
    assert torch.allclose(b, (wide[..., ::2] + wide[..., 1::2]) / 2)


def test_unit_rows_are_those_of_torch_and_leave_a_zero_row_without_gradient():
    x = torch.randn(4, 3, dtype=torch.float64)
    x[1] = 0
    x.requires_grad_()
    rows, weight = unit_rows(x), torch.randn(4, 3, dtype=torch.float64)
    assert torch.allclose(rows, nn.functional.normalize(x))
    (gradient,) = torch.autograd.grad((rows * weight).sum(), x)
    (wanted,) = torch.autograd.grad((nn.functional.normalize(x) * weight).sum(), x)
    assert torch.equal(gradient[1], torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(gradient[[0, 2, 3]], wanted[[0, 2, 3]])
    assert wanted[1].abs().max() > 1e9


def test_precision_is_float32_or_better():
    kinds = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    wanted = [torch.float32, torch.float32, torch.float32, torch.float64]
    assert [full_precision(torch.zeros(1, dtype=kind)).dtype for kind in kinds] == wanted
    given = [Features(torch.zeros(1, 2), (), torch.zeros(1, 2, dtype=kind)) for kind in kinds]
    assert [head_dtype(f) for f in given] == wanted


def test_map_pairs_leave_the_stem_out_and_count_from_the_last():
    student, teacher = features(8, 4, 2), features(8, 4, 2)
    teacher.maps[1].requires_grad_()
    assert [s.shape[-1] for s, _ in map_pairs(student, teacher)] == [4, 2]
    assert [s.shape[-1] for s, _ in map_pairs(student, teacher, 1)] == [2]
    assert [s.shape[-1] for s, _ in map_pairs(student, teacher, 3)] == [8, 4, 2]
    assert not any(t.requires_grad for _, t in map_pairs(student, teacher))


@pytest.mark.parametrize(
    ("sizes", "num_maps", "message"),
    [
        (((8, 4), (8, 4, 2)), None, "equally many maps; got 2 and 3"),
        (((8,), (8,)), None, "expected at least two maps, the stem's first; the networks give 1"),
        (((), ()), None, "expected at least two maps"),
        (((8, 4), (8, 4)), 3, "expected 3 maps, at least one; the networks give 2"),
        (((8, 4), (8, 4)), 0, "expected 0 maps, at least one"),
    ],
)
def test_maps_that_cannot_be_paired(sizes: tuple[tuple[int, ...], ...], num_maps: int | None, message: str):
    with pytest.raises(InputError, match=message):
        map_pairs(features(*sizes[0]), features(*sizes[1]), num_maps)


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """A convolution, one output value at a time."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernel = weight.shape[2:]
    size = [(n - k) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)]
    out = np.zeros((len(x), len(weight), *size))
    for b, o, i, j in itertools.product(*map(range, out.shape)):
        window = x[b, :, i * stride : i * stride + kernel[0], j * stride : j * stride + kernel[1]]
        out[b, o, i, j] = (window * weight[o]).sum() + bias[o]
    return out


def spread(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A transposed convolution with kernel 4, stride 2 and padding 1: each value is spread over 4 x 4 others."""
    size = [2 * n + 2 for n in x.shape[2:]]
    out = np.zeros((len(x), weight.shape[1], *size))
    for b, c, i, j in itertools.product(*map(range, x.shape)):
        out[b, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += x[b, c, i, j] * weight[c]
    return out[:, :, 1:-1, 1:-1] + bias[:, None, None]


def by_hand(regressor: Regressor, x: np.ndarray) -> np.ndarray:
    weight, bias = (p.detach().numpy() for p in regressor.conv.parameters())
    if isinstance(regressor.conv, nn.ConvTranspose2d):
        out = spread(x, weight, bias)
    elif weight.shape[2:] == (3, 3) and x.shape[2] == 4:
        out = convolved(x, weight, bias, 2, 1)
    else:
        out = convolved(x, weight, bias, 1, 0)
    mean, variance = out.mean((0, 2, 3), keepdims=True), out.var((0, 2, 3), keepdims=True)
    return (out - mean) / np.sqrt(variance + 1e-5)


SHAPES = [
    ((2, 3, 4, 4), (2, 2, 2, 2)),
    ((2, 3, 2, 2), (2, 2, 4, 4)),
    ((2, 3, 3, 3), (2, 2, 3, 3)),
    ((2, 3, 5, 4), (2, 2, 2, 2)),
]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("student", "teacher"), SHAPES)
def test_regressor_is_convolution_norm_and_relu(student: tuple[int, ...], teacher: tuple[int, ...], relu: bool):
    regressor = Regressor(student, teacher, relu).double()
    x = torch.randn(student, dtype=torch.float64)
    out = regressor(x)
    wanted = by_hand(regressor, x.numpy())
    assert out.shape == teacher
    assert np.allclose(out.detach().numpy(), np.maximum(wanted, 0) if relu else wanted, atol=1e-9)
    assert (wanted < 0).any()


def test_regressor_takes_half_precision():
    regressor = Regressor((2, 3, 4, 4), (2, 2, 2, 2))
    x: Tensor = torch.randn(2, 3, 4, 4)
    assert torch.allclose(regressor(x.bfloat16()), regressor(x), atol=0.05)
    assert regressor.bfloat16()(x).dtype == torch.bfloat16


@pytest.mark.parametrize(("student", "teacher"), [((2, 3, 3, 3), (2, 5, 4, 4)), ((2, 3, 4, 2), (2, 5, 2, 4))])
def test_maps_that_no_regressor_matches(student: tuple[int, ...], teacher: tuple[int, ...]):
    with pytest.raises(InputError, match="no regressor") as caught:
        Regressor(student, teacher)
    assert str(student) in str(caught.value)
    assert str(teacher) in str(caught.value)


def test_a_vector_is_no_map():
    with pytest.raises(InputError, match=r"expected two shapes .* got \(2, 3\) and \(2, 5, 4, 4\)"):
        Regressor((2, 3), (2, 5, 4, 4))


def test_batch_of_one_pixel():
    regressor = Regressor((2, 3, 1, 1), (2, 2, 1, 1))
    x = torch.rand(1, 3, 1, 1)
    with pytest.raises(InputError, match="one image with a map of one pixel"):
        regressor(x)
    assert regressor.eval()(x).shape == (1, 2, 1, 1)
