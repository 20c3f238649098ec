"""What holds for any numbers: projections, steepest directions, objectives, kernels and streams."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.objectives import DLR, KL, CrossEntropy, Margin, SquaredDifference
from aureole.core.random import Streams, mix_seed
from aureole.particles.kernels import RBF, squared_distances

settings.register_profile("aureole", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("aureole")

seeds = st.integers(0, 2**62)
sizes = st.integers(1, 12)
scales = st.floats(-6, 2).map(lambda exponent: 10.0**exponent)
radii = st.floats(-4, 1).map(lambda exponent: 10.0**exponent)
kinds = st.sampled_from([Linf, L2, L1])
limits = st.sampled_from([(0.0, 1.0), (-2.0, 3.0), None])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def centre(ball: Ball, seed: int, *shape: int) -> Tensor:
    low, high = ball.bounds or (0.0, 1.0)
    unit = (0.7 * normal(seed, *shape) + 0.5).clamp(0, 1)  # often exactly at a bound
    return low + (high - low) * unit


@given(kinds, radii, limits, seeds, sizes, scales)
def test_projections_are_inside_idempotent_and_nonexpansive(
    kind: type[Ball], radius: float, bounds: Any, seed: int, d: int, scale: float
) -> None:
    ball = kind(radius, bounds)
    x = centre(ball, seed, 2, d)
    a, b = (x + scale * normal(seed + k, 3, 2, d) for k in (1, 2))
    p, q = ball.project(a, x), ball.project(b, x)
    assert ball.contains(p, x).all()
    torch.testing.assert_close(ball.project(p, x), p, rtol=0, atol=1e-11)
    assert ((p - q).norm(dim=-1) <= (a - b).norm(dim=-1) + 1e-11).all()
    # the characterisation of a nearest point: (a - p) . (z - p) <= 0 for every z inside
    assert (((a - p) * (q - p)).sum(-1) <= 1e-10 * (1 + scale**2)).all()


@given(kinds, radii, limits, seeds, sizes)
def test_projection_ignores_the_order_of_the_coordinates(
    kind: type[Ball], radius: float, bounds: Any, seed: int, d: int
) -> None:
    ball = kind(radius, bounds)
    x = centre(ball, seed, 2, d)
    a, order = x + normal(seed + 1, 2, d), torch.randperm(d, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(ball.project(a, x)[:, order], ball.project(a[:, order], x[:, order]), rtol=0, atol=1e-12)


@given(kinds, radii, limits, seeds, sizes, scales)
def test_steepest_is_a_unit_vector_that_ignores_the_scale(
    kind: type[Ball], radius: float, bounds: Any, seed: int, d: int, scale: float
) -> None:
    ball = kind(radius, bounds)
    gradient, other = normal(seed, 2, d), normal(seed + 1, 2, d)
    best = ball.steepest(gradient, 1)
    torch.testing.assert_close(ball.norm(best, 1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(ball.steepest(scale * gradient, 1), best)
    other = other / ball.norm(other, 1)[:, None]
    assert ((gradient * other).sum(-1) <= (gradient * best).sum(-1) + 1e-12).all()


@given(seeds, st.integers(3, 12), scales)
def test_signs_of_objectives(seed: int, classes: int, scale: float) -> None:
    logits, clean = scale * normal(seed, 5, classes), scale * normal(seed + 1, 5, classes)
    labels = torch.arange(5) % classes
    for objective in (KL(), KL("adversarial||clean"), SquaredDifference()):
        assert (objective(logits, clean) >= -1e-12).all()
        torch.testing.assert_close(objective(clean, clean), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (CrossEntropy()(logits, labels=labels) > 0).all()
    missed = logits.argmax(-1) != labels
    assert torch.equal(Margin()(logits, labels=labels) > 0, missed)
    ratio = DLR()(logits, labels=labels)
    assert torch.equal(ratio > 0, missed)
    assert (ratio <= 1 + 1e-9)[logits.argsort(-1, descending=True)[:, :3].eq(labels[:, None]).any(-1)].all()


@given(seeds, st.integers(2, 8), sizes, scales)
def test_the_repulsion_of_the_median_rule_is_a_balanced_scale_free_force(
    seed: int, n: int, d: int, scale: float
) -> None:
    delta, x = normal(seed, n, 2, d), torch.zeros(2, d, dtype=torch.float64)
    zero = torch.zeros_like(delta)
    force = RBF()(zero, delta, x).repulsion
    torch.testing.assert_close(force.sum(0), x, rtol=0, atol=1e-9)  # every push has its counter-push
    torch.testing.assert_close(RBF()(zero, scale * delta, x).repulsion, force / scale, rtol=1e-6, atol=1e-9 / scale)
    torch.testing.assert_close(RBF()(zero, delta + 0.3, x).repulsion, force, rtol=1e-6, atol=1e-8)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(RBF()(zero, delta[order], x).repulsion, force[order], rtol=1e-6, atol=1e-9)
    assert ((force * (delta - delta.mean(0))).sum((0, -1)) > 0).all()  # outward on the whole


@given(seeds, st.integers(1, 8), sizes)
def test_squared_distances_are_distances(seed: int, n: int, d: int) -> None:
    points = normal(seed, 2, n, d)
    found = squared_distances(points)
    torch.testing.assert_close(found, torch.cdist(points, points).square(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, found.mT)
    assert torch.equal(found.diagonal(dim1=1, dim2=2), torch.zeros(2, n, dtype=torch.float64))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8, unique=True), seeds, st.integers(0, 5))
def test_streams_belong_to_the_index(indices: list[int], seed: int, earlier: int) -> None:
    together = Streams.of(seed, torch.tensor(indices))
    alone = [Streams.of(seed, torch.tensor([i])) for i in indices]
    for streams in (together, *alone):
        for _ in range(earlier):
            streams.uniform((len(streams), 2))
    numbers = together.uniform((len(indices), 3))
    assert torch.equal(numbers, torch.cat([s.uniform((1, 3)) for s in alone]))
    assert (numbers >= 0).all()
    assert (numbers < 1).all()
    assert len({tuple(row) for row in numbers.tolist()}) == len(indices)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.lists(st.integers(0, 2**63 - 1), max_size=4))
def test_mixed_seeds_are_as_different_as_their_parts(a: list[int], b: list[int]) -> None:
    assert (mix_seed(*a) == mix_seed(*b)) == (a == b)
