"""The move to a hyperplane inside the bounds: as short as linear programming and brute force can make it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aureole.attacks.fab_projections import PlaneProjection
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError

BALLS = [Linf(1.0), L2(1.0), L1(1.0)]


def shortest(ball: Ball, point: Tensor, normal: Tensor, gap: float) -> float:
    """Return the least norm of a move to the plane inside [0, 1], by another way: a linear program, or the dual."""
    from scipy.optimize import linprog, minimize

    d, eye, one = len(point), torch.eye(len(point)), torch.ones(len(point), 1)
    box = list(zip((-point).tolist(), (1 - point).tolist(), strict=True))
    if isinstance(ball, L2):
        start, equal = torch.zeros(d).numpy(), {"type": "eq", "fun": lambda m: float(normal @ torch.tensor(m)) + gap}
        found = minimize(lambda m: m @ m, start, bounds=box, constraints=equal, tol=1e-14)
        return float(found.fun) ** 0.5
    sizes = d if isinstance(ball, L1) else 1  # |moves| <= sizes, one a coordinate or one for all
    cap = -eye if isinstance(ball, L1) else -one
    found = linprog(
        [0.0] * d + [1.0] * sizes,
        A_ub=torch.cat([torch.cat([eye, cap], 1), torch.cat([-eye, cap], 1)]).numpy(),
        b_ub=[0.0] * (2 * d),
        A_eq=torch.cat([normal, torch.zeros(sizes)])[None].numpy(),
        b_eq=[-gap],
        bounds=box + [(0, None)] * sizes,
    )
    return float(found.fun)


def problems(rows: int, d: int, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, some at their bounds, planes, some with zeros, and gaps; ``reach`` 1 is as far as the box goes."""
    points = (torch.rand(2, rows, d, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1)
    normal = torch.randn(rows, d, dtype=torch.float64) * (torch.rand(rows, d) < 0.8)
    side = torch.where(torch.rand(2, rows) < 0.5, 1.0, -1.0)
    towards = -normal.sign() * side[..., None]
    farthest = (normal.abs() * torch.where(towards > 0, 1 - points, points)).sum(-1)
    return points, normal, side * reach * torch.rand(2, rows) * farthest


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_no_move_is_shorter(ball: Ball) -> None:
    points, normal, gap = problems(12, 6, 1.0)
    moves = PlaneProjection(ball)(points, normal, gap)
    torch.testing.assert_close((normal * moves).sum(-1), -gap, rtol=0, atol=1e-12)
    assert ((points + moves >= -1e-12) & (points + moves <= 1 + 1e-12)).all()
    expected = [
        [shortest(ball, points[i, j], normal[j], float(gap[i, j])) for j in range(points.shape[1])] for i in range(2)
    ]
    torch.testing.assert_close(ball.norm(moves, 1), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    bounded = (points + moves - 0.5).abs().sub(0.5).abs() < 1e-9
    assert (bounded & (moves != 0)).any()  # some moves ended at a bound


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_a_plane_out_of_reach_is_approached_as_far_as_the_bounds_let(ball: Ball) -> None:
    points, normal, gap = problems(40, 9, 1.0)
    towards = -normal.sign() * gap.sign()[..., None]
    corner = torch.where(towards > 0, 1 - points, -points) * (normal != 0)
    beyond = -(normal * corner).sum(-1) * 1.5
    torch.testing.assert_close(PlaneProjection(ball)(points, normal, beyond), corner, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_without_bounds_it_is_the_steepest_move(ball: Any) -> None:
    points, normal, gap = problems(20, 9, 3.0)
    moves = PlaneProjection(type(ball)(1.0, bounds=None))(points, normal, gap)
    steepest = ball.steepest(normal, 1)
    expected = -steepest * (gap / (normal * steepest).sum(-1))[..., None]
    torch.testing.assert_close(moves, expected)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_nothing_moves_without_a_gap_or_without_a_normal(ball: Ball) -> None:
    points, normal = torch.rand(2, 4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    move = PlaneProjection(ball)
    assert torch.equal(move(points, normal, torch.zeros(2, 4)), torch.zeros_like(points))
    assert torch.equal(move(points, torch.zeros_like(normal), torch.ones(2, 4)), torch.zeros_like(points))


@pytest.mark.parametrize("kind", [Linf, L2, L1])
def test_bounds_may_differ_by_channel_and_the_scale_of_the_plane_does_not_matter(kind: Any) -> None:
    low, high = torch.tensor([0.0, -1.0, 2.0]), torch.tensor([1.0, 0.5, 9.0])
    ball = kind(1.0, bounds=((0.0, -1.0, 2.0), (1.0, 0.5, 9.0)))
    shape = (3, 1, 1)
    points = torch.rand(1, 8, 3, 4, 4) * (high - low).view(shape) + low.view(shape)
    normal = torch.randn(8, 3, 4, 4)
    gap = (normal * (points - ball.clip(points + torch.randn_like(points)))).flatten(2).sum(-1)
    moves = PlaneProjection(ball)(points, normal, gap)
    torch.testing.assert_close((normal * moves).flatten(2).sum(-1), -gap, rtol=1e-4, atol=1e-4)
    assert (ball.clip(points + moves) - points - moves).abs().max() < 1e-5
    for scale in (1e-25, 1e15):
        torch.testing.assert_close(
            PlaneProjection(ball)(points, normal * scale, gap * scale), moves, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_single_precision_on_a_large_image_is_accurate(ball: Ball) -> None:
    points, normal, gap = problems(4, 3072, 0.5)
    exact = PlaneProjection(ball)(points, normal, gap)
    single = PlaneProjection(ball)(points.float(), normal.float(), gap.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=2e-3 if isinstance(ball, L1) else 1e-5)
    torch.testing.assert_close((normal * single).sum(-1), -gap, rtol=1e-5, atol=1e-5)


def test_a_ball_without_a_rule_is_refused() -> None:
    kind: Any = type("Odd", (Ball,), {})
    kind.__abstractmethods__ = frozenset()
    with pytest.raises(InputError, match="known for Linf, L2, L1; got Odd"):
        PlaneProjection(kind(1.0))
