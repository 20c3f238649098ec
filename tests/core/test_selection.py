"""Masks have the size they promise, the gradient of their formula, and learn which pixels are wanted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.core.selection import Concrete, Marginal, Threshold, drawn_pixels, num_pixels, top_pixels

SELECTIONS = {
    "concrete": Concrete(),
    "concrete, cold": Concrete(temperature=0.3),
    "marginal": Marginal(),
    "marginal, soft": Marginal(straight_through=False),
    "threshold": Threshold(),
    "threshold, hard": Threshold(straight_through=True),
    "threshold, no noise": Threshold(noise=False, temperature=0.5),
}
every = pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS)
SMOOTH = {name: SELECTIONS[name] for name in ("concrete", "marginal, soft", "threshold", "threshold, no noise")}


def streams(batch: int, seed: int = 0) -> Streams:
    return Streams.of(seed, torch.arange(batch))


@pytest.mark.parametrize(
    ("share", "height", "width", "expected"),
    [
        (0.3, 28, 28, 236),
        (0.3, 32, 32, 308),
        (0.3, 224, 224, 15053),
        (0.3, 10, 100, 300),
        (0.1 + 0.2, 10, 100, 300),
        (0.07, 10, 10, 7),  # 7.000000000000001 in floating point
        (1.0, 5, 7, 35),
        (1e-12, 28, 28, 1),
    ],
)
def test_the_number_of_pixels_is_rounded_up_but_not_from_rounding(share, height, width, expected):
    assert num_pixels(share, height, width) == expected


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, math.nan])
def test_a_share_outside_is_refused(share):
    with pytest.raises(InputError, match=r"in \(0, 1\]"):
        num_pixels(share, 28, 28)


@pytest.mark.parametrize("count", [1, 7, 29, 30])
def test_top_pixels_are_the_first_of_a_stable_sort(count):
    scores = torch.randint(0, 4, (5, 6, 5)).float()  # many ties
    order = scores.flatten(1).sort(descending=True, stable=True).indices[:, :count]
    expected = torch.zeros(5, 30, dtype=torch.bool).scatter_(1, order, True)
    assert torch.equal(top_pixels(scores, count).flatten(1), expected)


def test_top_pixels_of_equal_scores_are_the_first():
    assert top_pixels(torch.zeros(1, 2, 3), 4).flatten().tolist() == [True] * 4 + [False] * 2


def draw_many(logits: Tensor, count: int, rounds: int) -> Tensor:
    """How often each pixel is drawn."""
    return drawn_pixels(logits.expand(rounds, -1, -1), count, streams(rounds)).double().mean(0)


def test_draws_pick_fewer_pixels_than_there_are_draws():
    mask = drawn_pixels(torch.zeros(20, 28, 28), 236, streams(20))
    share = mask.double().mean((1, 2))
    expected = 1 - (1 - 1 / 784) ** 236
    assert abs(expected - (1 - math.exp(-0.3))) < 1e-3
    assert abs(float(share.mean()) - expected) < 0.005
    assert int(mask.sum((1, 2)).max()) <= 236


def test_the_marginal_is_its_formula_and_how_often_a_pixel_is_drawn():
    logits = torch.randn(1, 4, 5, dtype=torch.float64)
    q = Marginal(straight_through=False)(logits, 6, streams(1))[0]
    p = logits.flatten().softmax(0).view(4, 5)
    torch.testing.assert_close(q, 1 - (1 - p) ** 6)
    rounds = 4000
    z_score = (draw_many(logits, 6, rounds) - q) / (q * (1 - q) / rounds).sqrt()
    assert float(z_score.abs().max()) < 4.5


def test_a_pixel_of_no_probability_is_never_drawn():
    logits = torch.tensor([[[0.0, -1e4, 0.0, -1e4]]])
    assert draw_many(logits, 4, 50)[0, [1, 3]].tolist() == [0, 0]


@pytest.mark.parametrize(("temperature", "mean", "strong"), [(1.0, 0.1060, 0.036), (0.5, 0.2212, 0.1755)])
def test_the_concrete_mask_is_faint_on_a_flat_map(temperature, mean, strong):
    """Numbers of plain draws over 300 images of 784 pixels at M = 236; one image's mean has a deviation of 0.004."""
    z = Concrete(temperature=temperature)(torch.zeros(40, 28, 28), 236, streams(40))
    assert abs(float(z.mean()) - mean) < 0.003
    assert abs(float((z > 0.5).double().mean()) - strong) < 0.006
    if temperature == 1:
        assert abs(float(z.median()) - 0.051) < 0.0015


@pytest.mark.parametrize("count", [1, 10, 35, 36])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("select", [Threshold(), Threshold(noise=False), Threshold(temperature=2.0)])
def test_the_threshold_mask_sums_to_the_count(select, dtype, count):
    z = select(3 * torch.randn(4, 6, 6, dtype=dtype), count, streams(4))
    assert z.dtype == dtype
    torch.testing.assert_close(z.sum((1, 2)), torch.full((4,), min(count, 35.9), dtype=dtype))


def test_the_threshold_is_the_same_for_shifted_logits():
    logits = torch.randn(2, 6, 6, dtype=torch.float64)
    one, other = (Threshold()(x, 9, streams(2)) for x in (logits, logits + 7))
    torch.testing.assert_close(one, other)


def test_noise_of_the_threshold_changes_the_order_and_its_absence_does_not():
    logits = torch.randn(1, 6, 6)
    order = logits.flatten().argsort()
    assert torch.equal(Threshold(noise=False)(logits, 9, streams(1)).flatten().argsort(), order)
    assert not torch.equal(Threshold(temperature=2.0)(logits, 9, streams(1)).flatten().argsort(), order)


@pytest.mark.parametrize("select", SMOOTH.values(), ids=SMOOTH)
def test_the_gradient_is_the_numerical_one(select):
    logits = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: select(x, 3, streams(2)), (logits,), atol=1e-6)


@pytest.mark.parametrize(
    ("hard", "soft"),
    [
        (Marginal(), Marginal(straight_through=False)),
        (Threshold(straight_through=True), Threshold()),
        (Threshold(straight_through=True, noise=False), Threshold(noise=False)),
    ],
)
def test_straight_through_has_the_hard_value_and_the_soft_gradient(hard, soft):
    logits, weights = torch.randn(3, 6, 6, requires_grad=True), torch.randn(3, 6, 6)
    one, other = (select(logits, 10, streams(3)) for select in (hard, soft))
    assert set(one.detach().unique().tolist()) == {0.0, 1.0}
    assert one.sum((1, 2)).tolist() == [10.0] * 3
    assert torch.equal(one.detach().bool(), top_pixels(other.detach() if soft != Marginal() else logits, 10))
    gradients = [torch.autograd.grad((z * weights).sum(), logits)[0] for z in (one, other)]
    assert torch.equal(gradients[0], gradients[1])


@every
def test_it_learns_the_wanted_pixels(select):
    """Kept pixels of the left half pay, those of the right cost."""
    value = torch.ones(1, 8, 8)
    value[..., 4:] = -1
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for step in range(25):
        optimiser.zero_grad()
        (-(select(logits, 16, streams(1, seed=step)) * value).sum()).backward()
        optimiser.step()
    mask = top_pixels(logits.detach(), 16)
    assert float(mask[..., :4].double().mean()) == 0.5
    z = select(logits.detach(), 16, streams(1))
    assert float(z[..., :4].sum()) > 5 * float(z[..., 4:].sum())


@every
def test_an_image_does_not_depend_on_its_batch(select):
    logits = torch.randn(5, 6, 7)
    indices = torch.tensor([3, 9, 4, 1, 7])
    together = select(logits, 12, Streams.of(0, indices))
    kept = torch.tensor([4, 1])
    alone = select(logits[kept], 12, Streams.of(0, indices[kept]))
    torch.testing.assert_close(together[kept], alone, rtol=0, atol=1e-6)


def test_drawn_pixels_do_not_depend_on_the_batch():
    logits, source = torch.randn(5, 6, 7), streams(5)
    alone = drawn_pixels(logits[2:4], 9, source.select(slice(2, 4)))
    assert torch.equal(drawn_pixels(logits, 9, source)[2:4], alone)
    assert not torch.equal(drawn_pixels(logits, 9, source)[2:4], alone)  # every draw is a new one


@every
@pytest.mark.parametrize("count", [1, 8, 30])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_large_and_equal_logits_stay_finite(select, count, scale):
    logits = (scale * torch.randn(2, 5, 6)).requires_grad_()
    z = select(logits, count, streams(2))
    (gradient,) = torch.autograd.grad(z.square().sum(), logits)
    assert z.shape == logits.shape
    assert bool(z.isfinite().all() & gradient.isfinite().all())
    assert bool(((z >= 0) & (z <= 1)).all())
    assert bool((z.sum((1, 2)) > 0).all())


def test_a_threshold_in_a_gap_that_nothing_reaches_has_no_gradient():
    logits = torch.tensor([[[3e7, 2e7], [-2e7, -3e7]]], requires_grad=True)
    z = Threshold(temperature=1e-12, noise=False)(logits, 2, streams(1))
    assert z.detach().flatten().tolist() == [1, 1, 0, 0]
    (gradient,) = torch.autograd.grad(z.square().sum(), logits)
    assert gradient.flatten().tolist() == [0, 0, 0, 0]


def test_all_pixels_can_be_kept():
    logits = torch.randn(2, 28, 28)
    assert bool(top_pixels(logits, 784).all())
    assert bool((Marginal()(logits, 784, streams(2)) == 1).all())
    z = Threshold()(logits, 784, streams(2))
    assert float(z.min()) > 0.9
    assert float(z.mean()) > 0.999


@every
def test_half_precision_logits_give_a_float32_mask(select):
    logits = torch.randn(1, 6, 6).bfloat16().requires_grad_()
    z = select(logits, 9, streams(1))
    assert z.dtype == torch.float32
    z.square().sum().backward()
    assert logits.grad is not None


CALLS = {
    **SELECTIONS,
    "drawn": drawn_pixels,
    "top": lambda logits, count, _: top_pixels(logits, count),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("logits", "count", "message"),
    [
        (torch.zeros(1, 3, 4), 13, "from 1 to 12; got 13"),
        (torch.zeros(1, 3, 4), 0, "from 1 to 12; got 0"),
        (torch.full((1, 3, 4), math.nan), 5, "12 of 12 values are NaN"),
        (torch.tensor([[[0.0, math.inf]]]), 1, "1 of 2 values are NaN or infinite"),
    ],
)
def test_misuse_is_one_line(call, logits, count, message):
    with pytest.raises(InputError, match=message) as error:
        call(logits, count, streams(1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [Concrete, Threshold])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_must_be_positive(make, temperature):
    with pytest.raises(InputError, match="temperature must be positive"):
        make(temperature=temperature)


@every
def test_the_global_random_state_is_left_alone(select):
    before = torch.get_rng_state()
    select(torch.zeros(1, 4, 4), 3, streams(1))
    assert torch.equal(torch.get_rng_state(), before)
