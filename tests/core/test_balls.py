"""Balls: projections are idempotent, inside and nearest; steepest directions are; samples fill the ball."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams

BOUNDS = [(0.0, 1.0), ((0.0, -1.0, 0.2), (1.0, 2.0, 0.9)), None]
BALLS = [kind(radius, bounds) for kind, radius in ((Linf, 0.1), (L2, 0.7), (L1, 3.0)) for bounds in BOUNDS]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=str)


def images(ball: Ball, batch: int = 4, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    low, high = ball.bounds or (0.0, 1.0)
    low, high = (torch.tensor(b, dtype=dtype).reshape(-1, 1, 1) for b in (low, high))
    return low + (high - low) * torch.rand(batch, 3, 5, 5, dtype=dtype)


def streams(batch: int) -> Streams:
    return Streams.of(0, torch.arange(batch))


@every_ball
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0, 100.0])
def test_projection_is_inside_idempotent_and_keeps_the_type(ball: Ball, dtype: torch.dtype, scale: float) -> None:
    x = images(ball, dtype=dtype)
    x_adv = x + scale * torch.randn(2, 6, *x.shape, dtype=dtype)
    projected = ball.project(x_adv, x)
    assert projected.shape == x_adv.shape
    assert projected.dtype == dtype
    assert ball.contains(projected, x).all()
    torch.testing.assert_close(ball.project(projected, x), projected, rtol=0, atol=20 * torch.finfo(dtype).eps)
    if scale >= 1:
        assert not ball.contains(x_adv, x).any()
        if ball.bounds is None:
            torch.testing.assert_close(ball.distance(projected, x), torch.full((2, 6, 4), ball.radius, dtype=dtype))


@every_ball
def test_a_point_inside_stays_where_it_is(ball: Ball) -> None:
    x = images(ball)
    inside = ball.clip(x + 1e-3 * torch.randn(7, *x.shape))
    assert ball.contains(inside, x).all()
    torch.testing.assert_close(ball.project(inside, x), inside, rtol=0, atol=3e-7)


@every_ball
def test_particles_project_like_images_one_by_one(ball: Ball) -> None:
    x = images(ball)
    x_adv = x + torch.randn(3, *x.shape)
    single = torch.stack([torch.cat([ball.project(p[i : i + 1], x[i : i + 1]) for i in range(4)]) for p in x_adv])
    torch.testing.assert_close(ball.project(x_adv, x), single, rtol=0, atol=1e-6)


def numerical(ball: Ball, target: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Solve the projection by a general method (SLSQP) on the parts above and below x."""
    d = len(x)
    low, high = ball.bounds or (-np.inf, np.inf)
    up, down = np.full(d, high) - x, x - np.full(d, low)

    def room(z: np.ndarray) -> float:
        return ball.radius - z.sum() if isinstance(ball, L1) else ball.radius**2 - np.square(z[:d] - z[d:]).sum()

    def solved(start: float) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = minimize(
                lambda z: np.square(x + z[:d] - z[d:] - target).sum(),
                np.full(2 * d, start),
                method="SLSQP",
                bounds=[(0, u) for u in up] + [(0, w) for w in down],
                constraints=[{"type": "ineq", "fun": room}],
                options={"ftol": 1e-14, "maxiter": 1000},
            ).x
        return found if room(found) > -1e-9 else np.zeros(2 * d)

    points = [x + z[:d] - z[d:] for z in map(solved, (1e-3, 1e-2, 3e-2))]  # it may stop before the solution
    return min(points, key=lambda point: float(np.square(point - target).sum()))


@pytest.mark.parametrize("ball", [L2(0.5), L2(0.9), L1(0.4), L1(1.1), L2(0.7, None), L1(0.7, None)], ids=str)
@pytest.mark.parametrize("d", [2, 3, 5])
def test_projection_is_the_solution_of_a_general_solver(ball: Ball, d: int) -> None:
    for _ in range(5):
        x = torch.rand(1, d, dtype=torch.float64)
        target = x + 1.5 * torch.randn(1, d, dtype=torch.float64)
        ours = ball.project(target, x)
        theirs = numerical(ball, target[0].numpy(), x[0].numpy())
        np.testing.assert_allclose(ours[0].numpy(), theirs, atol=2e-6)


@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("d", [2, 3])
def test_no_random_point_of_ball_and_bounds_is_nearer(kind: type[Ball], d: int) -> None:
    ball = kind(0.6)
    x, candidates = torch.rand(1, d, dtype=torch.float64), torch.rand(100_000, 1, d, dtype=torch.float64)
    candidates = candidates[ball.contains(candidates, x)[:, 0]]
    assert len(candidates) > 1000
    for _ in range(10):
        target = x + torch.randn(1, d, dtype=torch.float64)
        nearest = (candidates - target).square().sum(-1).min()
        assert (ball.project(target, x) - target).square().sum() <= nearest + 1e-12


def by_bisection(ball: Ball, size: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Solve the projection of non-negative vectors through its dual variable, halving an interval 200 times."""

    def point(dual: np.ndarray) -> np.ndarray:
        shrunk = np.maximum(size - dual, 0) if isinstance(ball, L1) else size * dual
        return np.minimum(shrunk, room)

    def norm(z: np.ndarray) -> np.ndarray:
        return np.abs(z).sum(-1, keepdims=True) if isinstance(ball, L1) else np.linalg.norm(z, axis=-1, keepdims=True)

    inside, outside = np.zeros((len(size), 1)), np.ones((len(size), 1))
    if isinstance(ball, L1):
        inside, outside = np.full_like(inside, size.max()), np.zeros_like(outside)
    for _ in range(200):
        middle = (inside + outside) / 2
        fits = norm(point(middle)) <= ball.radius
        inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
    return point(inside)


HARD = {
    "even": (np.linspace(0.1, 2, 40), np.linspace(1, 0.1, 40)),
    "rooms over twelve decades": (np.full(60, 50.0), np.logspace(-10, 1.5, 60)),
    "sizes over twelve decades": (np.logspace(-8, 4, 60), np.full(60, 0.2)),
    "each size twice the last": (2.0 ** np.arange(-40, 40), np.full(80, 0.3)),
    "each size twice the last, falling rooms": (2.0 ** np.arange(-40, 40), 1 / np.sqrt(np.arange(1, 81))),
    "each size twice the last, even rooms": (2.0 ** np.arange(120), np.ones(120)),
    "no room at all": (np.ones(5), np.zeros(5)),
    "some without room": (np.ones(6), np.array([0, 0, 0, 1.0, 1.0, 0.1])),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("kind", [L2, L1])
@pytest.mark.parametrize("share", [1e-4, 0.1, 0.7, 0.999, 2.0])
def test_hard_projections_are_exact(kind: type[Ball], case: str, share: float) -> None:
    size, room = (v[None] for v in HARD[case])
    order = 1 if kind is L1 else 2
    ball = kind(max(share * float(np.linalg.norm(np.minimum(room, size), order)), 1e-3), bounds=None)
    shrunk = ball._shrink(torch.from_numpy(size), torch.from_numpy(np.minimum(room, size))).numpy()
    expected = by_bisection(ball, size, room)
    rounding = 4 * np.finfo(float).eps * size.max() if kind is L1 else 0  # of the threshold that L1 takes off
    np.testing.assert_allclose(shrunk, expected, rtol=1e-6, atol=1e-6 * ball.radius + rounding)


def test_linf_in_closed_form() -> None:
    x = torch.tensor([[0.02, 0.5, 0.97]])
    x_adv = torch.tensor([[-5.0, 0.55, 5.0]])
    torch.testing.assert_close(Linf(0.1).project(x_adv, x), torch.tensor([[0.0, 0.55, 1.0]]))


def test_l2_uses_the_room_that_clipping_leaves() -> None:
    """Scaling to the radius and then clipping ends at distance 0.07 here; the nearest point is on the sphere."""
    x, x_adv = torch.tensor([[0.0, 0.5]]), torch.tensor([[-0.7, 0.6]])
    torch.testing.assert_close(L2(0.1).project(x_adv, x), torch.tensor([[0.0, 0.6]]))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 128, 128)])
@pytest.mark.parametrize("ball", [Linf(0.03), L2(2.0), L1(50.0)], ids=str)
def test_large_images_are_inside_within_rounding(ball: Ball, shape: tuple[int, ...]) -> None:
    x = torch.rand(2, *shape)
    x_adv = ball.project(x + 0.5 * torch.randn(2, *shape), x)
    assert ball.contains(x_adv, x).all()
    assert (ball.distance(x_adv, x) > 0.99 * ball.radius).all()
    assert not ball.contains(x + 1.01 * (x_adv - x), x).any()


@pytest.mark.parametrize("kind", [Linf, L2, L1])
def test_steepest_has_the_greatest_inner_product_of_all_unit_directions(kind: type[Ball]) -> None:
    ball = kind(1.0, bounds=None)
    gradient = torch.randn(3, 2, 4, dtype=torch.float64)
    best = ball.steepest(gradient, 1)
    torch.testing.assert_close(ball.norm(best, 1), torch.ones(3, 2, dtype=torch.float64))
    directions = torch.randn(20_000, 1, 1, 4, dtype=torch.float64)
    directions = directions.sign() * directions.abs() ** (4 * torch.rand(20_000, 1, 1, 1) ** 2)
    directions = directions / ball.norm(directions, 1)[..., None]
    products = (directions * gradient).sum(-1).amax(0)
    ours = (best * gradient).sum(-1)
    assert (products <= ours + 1e-12).all()
    assert (products > 0.9 * ours).all()


@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30])
def test_steepest_of_zero_is_zero_and_no_size_breaks_it(kind: type[Ball], scale: float) -> None:
    gradient = torch.stack([torch.zeros(2, 3), scale * torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, -1.0]])])
    found = kind(1.0).steepest(gradient, 2)
    assert torch.equal(found[0], torch.zeros(2, 3))
    if scale > 1e-38:  # below, numbers have no full precision
        assert kind(1.0).norm(found, 2)[1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", [Linf, L2, L1])
def test_samples_fill_the_ball_evenly(kind: type[Ball]) -> None:
    """The share of the volume within a radius is uniform in [0, 1]; its mean one half, its variance one twelfth."""
    ball, x = kind(0.3, bounds=None), torch.full((20, 4), 0.5)
    points = ball.sample(x, streams(20), 500)
    assert points.shape == (500, 20, 4)
    share = (ball.distance(points, x) / ball.radius) ** 4
    assert share.max() <= 1 + 1e-5
    assert share.mean() == pytest.approx(0.5, abs=0.01)
    assert share.var() == pytest.approx(1 / 12, abs=0.005)
    torch.testing.assert_close((points - x).mean((0, 1)), torch.zeros(4), rtol=0, atol=0.01)


@every_ball
def test_samples_are_inside_and_differ(ball: Ball) -> None:
    x = images(ball)
    points = ball.sample(x, streams(4), 3)
    assert points.shape == (3, *x.shape)
    assert ball.contains(points, x).all()
    flat = (points - x).flatten(0, 1).flatten(1)
    assert torch.cdist(flat, flat).fill_diagonal_(1.0).min() > 0.01
    assert ball.sample(x.double(), streams(4)).dtype == torch.float64


def test_norms_by_hand() -> None:
    delta = torch.tensor([[[3.0, -4.0]], [[0.0, 1.0]]])
    assert Linf(1.0).norm(delta, 2).tolist() == [4, 1]
    assert L2(1.0).norm(delta, 2).tolist() == [5, 1]
    assert L1(1.0).norm(delta, 2).tolist() == [7, 1]


@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("radius", [0.0, -0.1, math.nan, math.inf])
def test_a_radius_must_be_positive_and_finite(kind: type[Ball], radius: float) -> None:
    with pytest.raises(InputError, match="radius"):
        kind(radius)


BAD_BOUNDS = [(1.0, 0.0), (0.5, 0.5), ((0.0, 0.0), (1.0, 0.0)), (0.0, (1.0, 1.0)), (0.0, math.nan)]


@pytest.mark.parametrize("bounds", BAD_BOUNDS, ids=str)
def test_bounds_must_be_in_order(bounds: tuple) -> None:
    with pytest.raises(InputError, match="bounds"):
        Linf(0.1, bounds)


def test_contains_sees_what_leaves_the_ball_or_the_bounds() -> None:
    x = torch.tensor([[0.0, 0.5]])
    assert not Linf(0.1).contains(torch.tensor([[-0.01, 0.5]]), x).any()
    assert not Linf(0.1).contains(torch.tensor([[0.0, 0.6001]]), x).any()
    assert not Linf(0.1).contains(torch.tensor([[0.0, torch.nan]]), x).any()
    assert Linf(0.1).contains(torch.tensor([[0.1, 0.4]]), x).all()
