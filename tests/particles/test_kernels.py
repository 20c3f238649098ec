"""Kernels: the closed form is the gradient of the kernel, the widths are as published, and precision is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.particles.kernels import RBF, FeatureRBF, inverse_variance, squared_distances

N, BATCH, EVENT = 4, 3, (2, 5)
Function = Callable[[Tensor, Tensor], Tensor]


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(BATCH, *EVENT, dtype=dtype)
    return torch.randn(N, *x.shape, dtype=dtype), x + 0.3 * torch.randn(N, *x.shape, dtype=dtype), x


def gaussian(sigma: float, features: Callable[[Tensor], Tensor] = torch.flatten) -> Function:
    return lambda a, b: torch.exp(-(features(a) - features(b)).square().sum() / (2 * sigma**2))


def brute_force(kernel: Function, score: Tensor, points: Tensor) -> tuple[Tensor, Tensor, float]:
    """Eq. 5.7 term by term for points (n, *event): the gradient of the kernel comes from autograd."""
    n, drive, repulsion, off = len(points), torch.zeros_like(points), torch.zeros_like(points), 0.0
    for i in range(n):
        for j in range(n):
            other = points[j].clone().requires_grad_()
            value = kernel(other, points[i])
            drive[i] += value.detach() * score[j] / n
            repulsion[i] += torch.autograd.grad(value, other)[0] / n
            off += value.item() / (n * (n - 1)) if i != j else 0.0
    return drive, repulsion, off


def test_closed_form_is_the_gradient_of_the_kernel() -> None:
    score, x_adv, x = problem()
    found = RBF(0.7)(score, x_adv, x)
    for b in range(BATCH):
        drive, repulsion, off = brute_force(gaussian(0.7), score[:, b], x_adv[:, b])
        torch.testing.assert_close(found.drive[:, b], drive)
        torch.testing.assert_close(found.repulsion[:, b], repulsion)
        assert found.kernel[b] == pytest.approx(off)


@pytest.mark.parametrize("space", ["perturbation", "image"])
def test_scope_batch_is_one_group_of_all_particles(space: Any) -> None:
    score, x_adv, x = problem()
    found = RBF(0.7, scope="batch", space=space)(score, x_adv, x)
    points = x_adv - x if space == "perturbation" else x_adv
    drive, repulsion, off = brute_force(gaussian(0.7), score.flatten(0, 1), points.flatten(0, 1))
    torch.testing.assert_close(found.drive.flatten(0, 1), drive)
    torch.testing.assert_close(found.repulsion.flatten(0, 1), repulsion)
    torch.testing.assert_close(found.kernel, torch.full((BATCH,), off, dtype=torch.float64))


def test_identity_features_are_the_kernel_on_pixels() -> None:
    score, x_adv, x = problem()
    for bandwidth in ("median", 0.4):
        ours, features = (k(score, x_adv, x) for k in (RBF(bandwidth), FeatureRBF(nn.Identity(), bandwidth)))
        letter = FeatureRBF(nn.Identity(), bandwidth, gradient="others")(score, x_adv, x)
        for a, b, c in zip(ours, features, letter, strict=True):
            torch.testing.assert_close(a, b)
            torch.testing.assert_close(a, c)


def test_linear_features_are_the_gradient_of_the_kernel() -> None:
    score, x_adv, x = problem()
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(10, 3)).double()
    found = FeatureRBF(extractor, 0.7)(score, x_adv, x)
    for b in range(BATCH):
        kernel = gaussian(0.7, lambda a: extractor(a[None])[0])
        drive, repulsion, _ = brute_force(kernel, score[:, b], x_adv[:, b])
        torch.testing.assert_close(found.drive[:, b], drive)
        torch.testing.assert_close(found.repulsion[:, b], repulsion)
    assert all(p.grad is None for p in extractor.parameters())


def test_other_features_repel_down_the_slope_of_the_kernel() -> None:
    score, x_adv, x = problem()
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(10, 6), nn.Tanh()).double()
    found = FeatureRBF(extractor, 0.7)(score, x_adv, x).repulsion
    points = x_adv[:, 0].clone().requires_grad_()
    features = extractor(points)
    kernel = torch.exp(-(features[:, None] - features.detach()[None]).square().sum(-1) / (2 * 0.7**2))
    torch.testing.assert_close(found[:, 0], -torch.autograd.grad(kernel.sum() / N, points)[0])


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_the_gradient_at_the_other_particle_is_the_one_of_the_thesis(scope: Any) -> None:
    score, x_adv, x = problem()
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(10, 6), nn.Tanh()).double()
    found = FeatureRBF(extractor, 0.7, scope, gradient="others")(score, x_adv, x).repulsion
    own = FeatureRBF(extractor, 0.7, scope)(score, x_adv, x).repulsion
    assert (found - own).abs().max() > 0.1 * own.abs().max()
    groups = [x_adv[:, b] for b in range(BATCH)] if scope == "image" else [x_adv.flatten(0, 1)]
    wanted = torch.stack([_by_the_letter(extractor, points) for points in groups], 1)
    torch.testing.assert_close(found, wanted.view_as(x_adv))


def _by_the_letter(extractor: nn.Module, points: Tensor) -> Tensor:
    """Return 1/n sum_j grad_{x_j} K(Phi(x_j), Phi(x_i)) for each i, pair by pair."""
    rows = []
    for i in range(len(points)):
        total = torch.zeros_like(points[i])
        for j in range(len(points)):
            x_j = points[j].clone().requires_grad_()
            kernel = torch.exp(-(extractor(x_j[None]) - extractor(points[i][None])).square().sum() / (2 * 0.7**2))
            total += torch.autograd.grad(kernel, x_j)[0] / len(points)
        rows.append(total)
    return torch.stack(rows)


def test_an_extractor_in_training_mode_is_left_as_it_was(stateful: nn.Module, trace: Any) -> None:
    x, x_adv = torch.rand(3, 1, 8, 8), torch.rand(4, 3, 1, 8, 8)
    before = trace(stateful)
    FeatureRBF(stateful)(torch.zeros_like(x_adv), x_adv, x)
    before.check()


@pytest.mark.parametrize("bandwidth", ["median", "thesis", 0.5])
def test_repulsion_pushes_two_particles_apart(bandwidth: Any) -> None:
    x = torch.zeros(1, 4)
    x_adv = torch.zeros(2, 1, 4)
    x_adv[1, 0, 0] = 0.2
    repulsion = RBF(bandwidth)(torch.zeros_like(x_adv), x_adv, x).repulsion
    assert repulsion[0, 0, 0] < -0.1
    assert repulsion[1, 0, 0] > 0.1
    assert torch.equal(repulsion[..., 1:], torch.zeros(2, 1, 3))
    torch.testing.assert_close(repulsion.sum(0), torch.zeros(1, 4))


@pytest.mark.parametrize(("rule", "value"), [("median", 1 / 3), ("narrow", 0.0019304541)])
def test_the_kernel_at_the_median_distance(rule: Any, value: float) -> None:
    x, x_adv = torch.zeros(1, 4), torch.rand(2, 1, 4)
    for scale in (1.0, 100.0):  # whatever the unit
        found = RBF(rule)(torch.zeros_like(x_adv), scale * x_adv, x)
        torch.testing.assert_close(found.kernel, torch.tensor([value]))
        push = 0.5 * value * -2 * math.log(value) * (x_adv[0] - x_adv[1]) / (x_adv[0] - x_adv[1]).square().sum()
        torch.testing.assert_close(found.repulsion[0], push / scale)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 12])
@pytest.mark.parametrize(
    "kernel", [RBF(), RBF("narrow"), RBF(0.1), RBF("thesis"), RBF(scope="batch"), FeatureRBF(nn.Tanh())]
)
def test_particles_that_coincide_do_not_repel(kernel: Any, n: int) -> None:
    """Also not by rounding, which the median rule would blow up: corners of a ball are where particles meet."""
    x = torch.rand(2, 1, 6, 6)
    x_adv = (x + 0.1 * torch.randn_like(x)).expand(n, *x.shape)
    if kernel.scope == "batch":
        x_adv, x = x_adv[:, :1], x[:1]
    found = kernel(torch.ones_like(x_adv), x_adv, x)
    assert torch.equal(found.repulsion, torch.zeros_like(x_adv))
    torch.testing.assert_close(found.drive, torch.ones_like(x_adv))


def test_particles_that_coincide_far_from_another_move_as_one() -> None:
    x = torch.zeros(1, 40)
    x_adv = (0.5 * torch.rand(40)).repeat(5, 1, 1)
    x_adv[4] += 0.4 * torch.randn(40)
    repulsion = RBF(1.0)(torch.zeros_like(x_adv), x_adv, x).repulsion
    torch.testing.assert_close(repulsion[:4], repulsion[:1].expand(4, 1, 40), rtol=1e-4, atol=1e-6)
    assert 0.01 < repulsion.abs().max() < 1
    for rows in (5, 40, 300):  # the median distance is zero but for rounding: there is no width, and nothing repels
        many = torch.cat([x_adv[:1].expand(rows, 1, 40), x_adv[4:]])
        assert torch.equal(RBF()(torch.zeros_like(many), many, x).repulsion, torch.zeros_like(many))


@pytest.mark.parametrize("n", [2, 3, 4, 9])
def test_median_rule_in_closed_form(n: int) -> None:
    points = torch.randn(2, n, 6, dtype=torch.float64)
    distances = squared_distances(points)
    kernel = torch.exp(-0.5 * inverse_variance("median", distances, n) * distances)
    pairs = kernel[:, *torch.triu_indices(n, n, offset=1)]
    middle = pairs.sort(-1, descending=True).values[:, (pairs.shape[1] - 1) // 2]
    torch.testing.assert_close(middle, torch.full((2,), 1 / (n + 1), dtype=torch.float64))


@pytest.mark.parametrize(("n", "width"), [(1, 2.0), (2, 0.02), (4, 2e-6), (5, 2e-8), (8, 2e-14), (400, 0.0)])
def test_thesis_width_has_the_floor_of_the_code(n: int, width: float) -> None:
    distances = torch.ones(1, 2, 2, dtype=torch.float64)
    assert inverse_variance("thesis", distances, n).item() == pytest.approx(2 / (width + 1e-8))


def test_thesis_width_leaves_no_kernel_for_images() -> None:
    x = torch.rand(2, 3, 32, 32)
    x_adv = x + 0.031 * (2 * torch.rand(4, *x.shape) - 1)
    score = torch.randn_like(x_adv)
    found = RBF("thesis")(score, x_adv, x)
    assert torch.equal(found.kernel, torch.zeros(2))
    assert torch.equal(found.repulsion, torch.zeros_like(x_adv))
    torch.testing.assert_close(found.drive, score / 4)


def test_one_particle_feels_its_own_score_alone() -> None:
    score, x_adv, x = (t[:1] for t in problem())
    found = RBF()(score, x_adv, x.expand(3, *EVENT))
    torch.testing.assert_close(found.drive, score)
    assert torch.equal(found.repulsion, torch.zeros_like(x_adv))


def test_distances_are_exact_where_raw_images_would_cancel() -> None:
    x = 0.5 + 0.5 * torch.rand(2, 1, 3072, dtype=torch.float64)
    points = x + 1e-4 * torch.randn(2, 4, 3072, dtype=torch.float64)
    expected = torch.cdist(points, points).square()
    torch.testing.assert_close(squared_distances(points.float()).double(), expected, rtol=1e-2, atol=0)
    torch.testing.assert_close(squared_distances(points), expected, rtol=1e-10, atol=1e-15)


def test_distances_below_the_rounding_of_the_gram_matrix_are_zero() -> None:
    points = torch.randn(50, 6, 300)
    points[:, 3:] = points[:, :3] + 1e-6 * torch.randn(50, 3, 300)
    found = squared_distances(points)
    assert torch.equal(found[:, range(3), range(3, 6)], torch.zeros(50, 3))
    assert found[:, 0, 1].min() > 400


@pytest.mark.parametrize("kernel", [RBF(), RBF(0.5), FeatureRBF(nn.Identity(), 0.5)], ids=str)
def test_autocast_does_not_lower_the_precision(kernel: Any) -> None:
    score, x_adv, x = problem(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = kernel(score, x_adv, x)
    for a, b in zip(low, kernel(score, x_adv, x), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make", [RBF, lambda: RBF(scope="batch"), lambda: FeatureRBF(nn.Identity())])
def test_the_type_of_the_images_is_kept(make: Callable[[], Any], dtype: torch.dtype) -> None:
    score, x_adv, x = problem(dtype)
    found = make()(score, x_adv, x)
    assert found.drive.dtype == found.repulsion.dtype == dtype
    exact = make()(score.double(), x_adv.double(), x.double())
    torch.testing.assert_close(found.repulsion.double(), exact.repulsion, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan, math.inf])
def test_a_bandwidth_must_be_positive(bandwidth: float) -> None:
    for make in (RBF, lambda b: FeatureRBF(nn.Identity(), b)):
        with pytest.raises(InputError, match="bandwidth must be positive"):
            make(bandwidth)
