"""MixMatch and its mixing, by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aureole.core.method import Batch
from aureole.core.mixing import Mixing, beta, permutation
from aureole.core.ramps import Constant
from aureole.core.random import Streams
from aureole.semisup import MixMatch
from aureole.semisup.mixmatch import sharpen


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def test_sharpening_by_hand() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.25, 0.09, 0.04], [1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(sharpen(p, 0.5), expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(sharpen(p, 1.0), p)


def test_the_guess_is_the_sharpened_mean_of_the_views(
    net: nn.Module, x_u: tuple[Tensor, Tensor], batch: Callable[..., Batch]
) -> None:
    with torch.no_grad():
        mean = sum(softmax(copy.deepcopy(net)(view)) for view in x_u) / 2
    squares = mean**2
    guess = MixMatch().guess(net, batch(2), x_u)
    torch.testing.assert_close(guess, squares / squares.sum(1, keepdim=True))
    assert not guess.requires_grad
    assert int(net[1].num_batches_tracked) == 0


def test_the_loss_by_hand(
    net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Callable[..., Batch]
) -> None:
    method = MixMatch(weight=2.0, ramp=Constant(), ema_decay=None)
    guess = method.guess(copy.deepcopy(net), batch(2), x_u)
    share, order = method._draw(batch(2), 2)
    assert bool((share >= 0.5).all())
    images, targets = torch.cat([x, *x_u]), torch.cat([nn.functional.one_hot(y, 3).double(), guess, guess])
    rows = range(16)
    mixed = torch.stack([share[i] * images[i] + (1 - share[i]) * images[order[i]] for i in rows])
    wanted = torch.stack([share[i] * targets[i] + (1 - share[i]) * targets[order[i]] for i in rows])
    p = softmax(copy.deepcopy(net)(mixed))
    terms = method.loss(net, batch(2))
    torch.testing.assert_close(terms["labelled"], -(wanted[:4] * p[:4].log()).sum(1).mean())
    torch.testing.assert_close(terms["unlabelled"], 2.0 * (p[4:] - wanted[4:]).square().mean())


def test_an_image_has_its_own_share_and_partner(batch: Callable[..., Batch]) -> None:
    share, order = MixMatch()._draw(batch(2), 2)
    assert sorted(order.tolist()) == list(range(16))
    assert len(share.unique()) == 16


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75, 1.0, 8.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    share = beta(alpha, Streams.of(1, torch.arange(20_000))).double()
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(0.25 / (2 * alpha + 1), rel=0.03)
    fourth = (3 * 0.0625) / ((2 * alpha + 1) * (2 * alpha + 3))  # the fourth central moment
    assert float((share - 0.5).pow(4).mean()) == pytest.approx(fourth, rel=0.06)
    assert bool(((share >= 0) & (share <= 1)).all())


def test_an_order_of_copies_runs_over_all_particles() -> None:
    order = permutation(Streams.of(0, torch.arange(5)), 4)
    assert sorted(order.tolist()) == list(range(20)) != order.tolist()


def test_mixing_by_hand() -> None:
    rows = torch.tensor([[0.0, 1.0], [4.0, 5.0], [8.0, 2.0]])
    order = torch.tensor([2, 0, 1])
    one = Mixing(torch.tensor(0.25), order)
    torch.testing.assert_close(one(rows), torch.tensor([[6.0, 1.75], [1.0, 2.0], [5.0, 4.25]]))
    each = Mixing(torch.tensor([1.0, 0.5, 0.0]), order)
    torch.testing.assert_close(each(rows), torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
