"""ADT-EXP: the fit of the distributions step by step, and the loss at one sample of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.robust.adt_exp import ADTEXP, squashed_normal

METHOD = ADTEXP(ball=Linf(0.1), num_steps=2, num_samples=3, entropy_weight=0.2)


def _noise(streams, like):
    return streams.normal(tuple(like.shape)).to(like.dtype)


def _sample(mu, v, noise):
    """Return the squashed sample and the estimate of its entropy, written out."""
    sigma = (1 + v.exp()).log()
    unit = (mu + sigma * noise).tanh()
    return unit, (noise**2 / 2 + (sigma + 1e-8).log() + (1 - unit**2 + 1e-8).log()).mean(dim=(1, 2, 3))


def _fit_by_hand(model, x, y, streams, by_hand, *, accumulate=True):
    """Two steps of three samples: each step adds lr * G / (|G| + 1e-8), with G the sum of all gradients so far."""
    model.eval()
    mu, v = torch.zeros_like(x), torch.zeros_like(x)
    sums = [torch.zeros_like(x), torch.zeros_like(x)]
    for _ in range(2):
        if not accumulate:
            sums = [torch.zeros_like(x), torch.zeros_like(x)]
        for _ in range(3):
            mu.requires_grad_(), v.requires_grad_()
            unit, entropy = _sample(mu, v, _noise(streams, x))
            x_adv = (x + 0.1 * unit).clamp(0, 1)
            value = by_hand.cross_entropy(model(x_adv), y) + 0.2 * entropy
            sums = [s + g for s, g in zip(sums, torch.autograd.grad(value.sum(), [mu, v]), strict=True)]
            mu, v = mu.detach(), v.detach()
        mu, v = (p + 0.3 * s / (s.abs() + 1e-8) for p, s in zip((mu, v), sums, strict=True))
    model.train()
    return mu, v


def test_fit_and_loss_equal_two_steps_by_hand(net, x, y, batch, streams, by_hand) -> None:
    def expected(model):
        source = streams()
        mu, v = _fit_by_hand(model, x, y, source, by_hand)
        unit, _ = _sample(mu, v, _noise(source, x))
        return {"robust": by_hand.cross_entropy(model((x + 0.1 * unit).clamp(0, 1)), y).mean()}

    by_hand.assert_loss_is(METHOD, net, batch, expected)
    mu, v = METHOD.fit(net, batch(), streams())
    for mine, theirs in zip((mu, v), _fit_by_hand(net, x, y, streams(), by_hand), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    forgetful, _ = _fit_by_hand(net, x, y, streams(), by_hand, accumulate=False)
    assert float((mu - forgetful).abs().max()) > 0.5


def test_squashed_normal_equals_the_formula(x) -> None:
    generator = torch.Generator().manual_seed(3)
    mu, v, noise = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(3))
    for mine, theirs in zip(squashed_normal(mu, v, noise), _sample(mu, v, noise), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_entropy_estimate_is_right_up_to_its_constant() -> None:
    mu, v = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.4, dtype=torch.float64)
    sigma = nn.functional.softplus(v)
    noise = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    unit, entropy = squashed_normal(mu.expand_as(noise), v.expand_as(noise), noise)
    base = torch.distributions.Normal(mu, sigma)
    squashed = torch.distributions.TransformedDistribution(base, torch.distributions.TanhTransform())
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    torch.testing.assert_close(entropy.mean() + constant, -squashed.log_prob(unit).mean(), rtol=0, atol=1e-6)


def test_the_fit_is_an_ascent(net, x, y, batch, streams) -> None:
    net.eval()
    method = replace(METHOD, num_steps=7, num_samples=5, entropy_weight=0.01)
    mu, v = method.fit(net, batch(), streams())

    def expected_loss(mu, v):
        generator, total = torch.Generator().manual_seed(6), 0
        for _ in range(100):
            unit, _ = squashed_normal(mu, v, torch.randn(x.shape, generator=generator, dtype=x.dtype))
            x_adv = (x + 0.1 * unit).clamp(0, 1)
            total = total + nn.functional.cross_entropy(net(x_adv), y, reduction="none")
        return (total / 100).detach()

    gain = expected_loss(mu, v) - expected_loss(torch.zeros_like(mu), torch.zeros_like(v))
    assert bool((gain > 0.005).all()), gain
    assert float(gain.mean()) > 0.05


def test_the_entropy_widens_the_distributions(net, batch, streams) -> None:
    narrow, wide = (
        replace(METHOD, num_steps=7, entropy_weight=w).fit(net, batch(), streams())[0].tanh().abs().mean()
        for w in (0.0, 100.0)
    )
    assert wide < narrow - 0.1


def test_every_image_that_the_model_sees_lies_in_the_ball(net, x, batch, inputs_of) -> None:
    seen = inputs_of(net)
    METHOD.loss(net, batch())
    assert len(seen) == 2 * 3 + 1
    assert all(bool(METHOD.ball.contains(images, x).all()) for images in seen)
    assert float(METHOD.ball.distance(seen[-1], x).max()) > 0.05


def test_the_fit_of_an_image_does_not_depend_on_its_batch(net, x, y, batch, streams) -> None:
    together = METHOD.fit(net, batch(), streams())
    alone = METHOD.fit(net, Batch(x[2:3], y[2:3]), streams().select(slice(2, 3)))
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[2:3], one, rtol=1e-9, atol=1e-9)


def test_images_that_ask_for_a_gradient_get_none(net, x, y, streams) -> None:
    x = x.requires_grad_()
    METHOD.loss(net, Batch(x, y, streams=streams()))
    assert x.grad is None


def test_misuse_is_refused(net, x, y, untyped) -> None:
    with pytest.raises(InputError, match="num_steps and num_samples must be at least 1"):
        ADTEXP(num_steps=0)
    with pytest.raises(InputError, match="in an Linf ball"):
        ADTEXP(ball=L2(0.5))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="images must lie in the bounds"):
        METHOD.loss(net, Batch(x * 255, y))
