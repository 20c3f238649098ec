"""The largest of the draws, streamed, is what the stack of all draws with the same noise gives."""

from __future__ import annotations

import pytest
import torch

from aureole.core import streaming
from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.core.streaming import largest_of_draws

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def streams(*indices: int) -> Streams:
    return Streams.of(0, torch.tensor(indices))


def values_and_gradient(function, logits, weights):
    leaf = logits.clone().requires_grad_()
    z = function(leaf)
    (gradient,) = torch.autograd.grad((z * weights).sum(), leaf)
    return z.detach(), gradient


def both(logits, count, temperature):
    weights = torch.randn_like(logits)
    indices = range(len(logits))
    streamed = values_and_gradient(
        lambda x: largest_of_draws(x, count, temperature, streams(*indices)), logits, weights
    )
    keys = streaming._keys(streams(*indices))
    stacked = values_and_gradient(lambda x: streaming._stacked(x, count, temperature, keys), logits, weights)
    return streamed, stacked


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.1, 3.0])
@pytest.mark.parametrize(("batch", "pixels", "count"), [(1, 64, 20), (3, 57, 57), (4, 1, 1), (2, 200, 3)])
def test_values_and_gradients_are_those_of_the_stack(dtype, temperature, batch, pixels, count):
    logits = 2 * torch.randn(batch, pixels, dtype=dtype)
    for mine, plain in zip(*both(logits, count, temperature), strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine, plain, atol=TOLERANCE[dtype] / min(temperature, 1), rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("chunk", [1, 130, 500, 1300])
def test_the_chunk_does_not_matter(monkeypatch, temperature, chunk):
    logits, weights = torch.randn(2, 65, dtype=torch.float64), torch.randn(2, 65, dtype=torch.float64)
    call = lambda x: largest_of_draws(x, 30, temperature, streams(0, 1))  # noqa: E731
    whole = values_and_gradient(call, logits, weights)
    monkeypatch.setitem(streaming._CHUNK, "cpu", chunk)
    for mine, expected in zip(values_and_gradient(call, logits, weights), whole, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-12, rtol=0)


def test_chunks_bound_the_memory():
    race = streaming._Race(torch.zeros(101), 1000, 1.0, torch.tensor(5), chunk=1020)
    assert race.values.shape == (10, 102)
    assert len(race.parts) == 100
    assert race.parts[-1] == slice(990, 1000)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("chunk", [40, 10_000])
def test_the_gradient_is_the_numerical_one(monkeypatch, temperature, chunk):
    monkeypatch.setitem(streaming._CHUNK, "cpu", chunk)
    logits = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: largest_of_draws(x, 9, temperature, streams(3, 4)), (logits,))


def test_it_is_differentiable_once_only():
    logits = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    z = largest_of_draws(logits, 3, 1.0, streams(0))
    (gradient,) = torch.autograd.grad(z.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_an_example_does_not_depend_on_its_batch():
    logits, weights = torch.randn(4, 90), torch.randn(4, 90)
    together = values_and_gradient(lambda x: largest_of_draws(x, 30, 1.0, streams(5, 6, 7, 8)), logits, weights)
    alone = values_and_gradient(lambda x: largest_of_draws(x, 30, 1.0, streams(7)), logits[2:3], weights[2:3])
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[2:3], one)


def test_examples_and_calls_have_noise_of_their_own():
    source = streams(0, 1)
    first, second = (largest_of_draws(torch.zeros(2, 50), 10, 1.0, source) for _ in range(2))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert torch.equal(first, largest_of_draws(torch.zeros(2, 50), 10, 1.0, streams(0, 1)))


def noise(rows: int, pixels: int) -> torch.Tensor:
    """Exponential numbers of shape (draws, pixels)."""
    race = streaming._Race(torch.zeros(pixels, dtype=torch.float64), rows, 1.0, torch.tensor(11), chunk=rows * pixels)
    return -race.clocks(race.parts[0])


def test_the_noise_is_exponential():
    clocks = noise(500, 1000)
    assert bool(((clocks > 0) & (clocks < 25)).all())
    unit = (-clocks).exp().flatten()  # uniform
    counts = torch.histc(unit.float(), 256, 0, 1)
    expected = len(unit) / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 5 * 510**0.5
    assert abs(float(clocks.mean()) - 1) < 5 / len(unit) ** 0.5
    assert abs(float(clocks.amin(1).mean()) * 1000 - 1) < 5 / 500**0.5  # the smallest of 1000: what a draw is made of


def test_the_noise_of_pixels_and_of_draws_is_independent():
    unit = (-noise(400, 1000)).exp() - 0.5
    for one, other in ((unit[:, ::2], unit[:, 1::2]), (unit[:, :-2], unit[:, 2:]), (unit[1:], unit[:-1])):
        assert abs(float((one * other).mean()) * 12) * one.numel() ** 0.5 < 5
    rows = unit @ unit.T * 12 / 1000**0.5
    assert float(rows.fill_diagonal_(0).abs().max()) < 6.5
    square = unit[:-1, :-1] * unit[1:, :-1] * unit[:-1, 1:] * unit[1:, 1:]  # what a sum of two hashes would fail
    assert abs(float(square.mean()) * 144) * square.numel() ** 0.5 < 5


def test_float32_has_the_noise_of_float64():
    pair = [streaming._Race(torch.zeros(9, dtype=d), 4, 1.0, torch.tensor(2), 99) for d in TOLERANCE]
    one, other = (race.clocks(race.parts[0]).double() for race in pair)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 5.0])
@pytest.mark.parametrize("scale", [0.0, 100.0, 1e4])
def test_large_and_equal_logits_stay_finite(temperature, scale):
    logits = scale * torch.randn(2, 40)
    z, gradient = values_and_gradient(
        lambda x: largest_of_draws(x, 40, temperature, streams(0, 1)), logits, torch.ones(2, 40)
    )
    assert bool(z.isfinite().all() & gradient.isfinite().all())
    assert bool(((z >= 0) & (z <= 1)).all())
    if scale == 1e4:
        torch.testing.assert_close(z.amax(1), torch.ones(2))


def test_half_precision_is_computed_in_float32():
    logits = torch.randn(1, 30).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        z = largest_of_draws(logits, 9, 1.0, streams(0))
        (gradient,) = torch.autograd.grad(z.sum(), logits)
    exact = logits.detach().float()
    expected = values_and_gradient(lambda x: largest_of_draws(x, 9, 1.0, streams(0)), exact, torch.ones(1, 30))
    assert torch.equal(z, expected[0])
    assert torch.equal(gradient, expected[1].bfloat16())


def test_an_empty_batch_gives_an_empty_mask():
    assert largest_of_draws(torch.zeros(0, 5), 2, 1.0, Streams(torch.zeros(0).long())).shape == (0, 5)


@pytest.mark.parametrize(("count", "temperature", "indices"), [(0, 1.0, (0,)), (2, 0.0, (0,)), (2, 1.0, (0, 1))])
def test_misuse_is_one_line(count, temperature, indices):
    with pytest.raises(InputError) as error:
        largest_of_draws(torch.zeros(1, 4), count, temperature, streams(*indices))
    assert "\n" not in str(error.value)
