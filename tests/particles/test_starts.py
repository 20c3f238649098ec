"""Starts: inside the ball, at the right distance, one noise an example; the probe is VAT's power iteration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.objectives import KL
from aureole.core.random import Streams
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import AtImage, InBall, Normal, Probe, SignedNormal, Start, Uniform

X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def begin(start: Start, ball: Ball, n: int = 5) -> Tensor:
    return start(X, ball, Streams.of(0, torch.arange(6)), n, lambda x_adv: torch.sin(40 * x_adv))


@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5), L1(2.0), Linf(0.05, None)], ids=str)
@pytest.mark.parametrize("start", [AtImage(), InBall(), Uniform(), Normal(), SignedNormal(), Probe(), Normal(9.0)])
def test_a_start_is_inside_and_random_ones_differ(start: Start, ball: Ball) -> None:
    points = begin(start, ball)
    assert points.shape == (5, *X.shape)
    assert ball.contains(points, X).all()
    flat = (points - X).flatten(0, 1).flatten(1)
    distances = torch.cdist(flat, flat).fill_diagonal_(torch.inf)
    assert (distances.min() == 0) == (start == AtImage() or (isinstance(ball, L1) and start == SignedNormal()))


def test_at_image_is_a_copy() -> None:
    points = begin(AtImage(), Linf(0.1))
    assert torch.equal(points, X.expand(5, *X.shape))
    points.zero_()
    assert X.abs().max() > 0.9


def test_scales() -> None:
    ball = Linf(0.5, bounds=None)
    delta = begin(Uniform(0.02), ball) - X
    assert 0.0195 < delta.abs().max() <= 0.02 + 1e-6
    assert delta.std() == pytest.approx(0.02 / 3**0.5, rel=0.03)
    assert (begin(Normal(0.02), ball) - X).std() == pytest.approx(0.02, rel=0.03)
    torch.testing.assert_close((begin(SignedNormal(0.02), ball) - X).abs(), torch.full((5, *X.shape), 0.02))


@pytest.mark.parametrize("ball", [Linf(0.5, None), L2(0.5, None), L1(0.5, None)], ids=str)
def test_signed_normal_has_its_length_in_every_ball(ball: Ball) -> None:
    distance = ball.distance(begin(SignedNormal(0.2), ball), X)
    torch.testing.assert_close(distance, torch.full((5, 6), 0.2), rtol=1e-4, atol=1e-5)


class LargeLogits(nn.Module):
    """A smooth classifier without saturation at VAT's probing distance."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x.flatten(1))))


@pytest.mark.parametrize(("xi", "iterations"), [(10.0, 1), (0.5, 3)])
def test_probe_is_the_power_iteration_of_vat(xi: float, iterations: int) -> None:
    """Written here as Miyato et al. 2018 do, with the same first direction."""
    model, x = LargeLogits(), torch.rand(4, 3, 2, 2)
    streams = Streams.of(3, torch.arange(4))
    d = streams.select(slice(None)).normal((1, 4, 3, 2, 2), batch_dim=1)[0]
    clean = model(x).detach()
    for _ in range(iterations):
        d = (d / d.flatten(1).norm(dim=1)[:, None, None, None]).requires_grad_()
        divergence = F.kl_div(model(x + xi * d).log_softmax(1), clean.softmax(1), reduction="batchmean")
        (d,) = torch.autograd.grad(divergence, d)
    expected = x + 0.3 * d / d.flatten(1).norm(dim=1)[:, None, None, None]
    search = ParticleSearch(
        L2(0.3, None), num_particles=1, num_steps=0, objective=KL(), kernel=None, start=Probe(xi, iterations)
    )
    torch.testing.assert_close(search(model, x, generator=streams).x_adv[0], expected, rtol=0, atol=1e-5)


def test_probe_beats_a_random_direction(victim: Any) -> None:
    def divergence(iterations: int) -> Tensor:
        start = Probe(1.0, iterations)
        search = ParticleSearch(L2(0.3), num_particles=1, num_steps=0, objective=KL(), kernel=None, start=start)
        return search(victim.model, victim.x).objective.mean()

    assert divergence(1) > 2 * divergence(0)
