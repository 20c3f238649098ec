"""DeepFool: the closed form on linear models, trained models, limits and dead gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.deepfool import DeepFool
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError

BALLS = [L2(0.5, None), Linf(0.1, None)]


def linear(num_classes: int = 6, features: int = 12) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, num_classes))


def closed_form(model: nn.Module, x: Tensor, ball: Ball, classes: Tensor | None = None) -> Tensor:
    """Step to the nearest of the flat boundaries: |f_k| / dual norm along the steepest direction."""
    weight, logits = model[1].weight.detach(), model(x).detach()
    y = logits.argmax(1)
    best = torch.full_like(x, 1e6)
    for k in range(len(weight)):
        normal = (weight[k] - weight[y]).view_as(x)
        value = logits[:, k] - logits.gather(1, y[:, None])[:, 0]
        size = normal.flatten(1).abs().sum(1) if isinstance(ball, Linf) else normal.flatten(1).norm(dim=1)
        direction = normal.sign() if isinstance(ball, Linf) else normal / size.view(-1, 1, 1, 1)
        step = (value.abs() / size).view(-1, 1, 1, 1) * direction
        allowed = (k != y) if classes is None else (classes == k).any(1)
        nearer = allowed & (ball.norm(step, 3) < ball.norm(best, 3))
        best[nearer] = step[nearer]
    return best


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("candidates", [None, 2])
def test_closed_form_on_a_linear_model(ball: Ball, candidates: int | None) -> None:
    model, x = linear(), torch.randn(30, 3, 2, 2)
    order = model(x).argsort(1, descending=True)
    found = DeepFool(ball=ball, overshoot=0.1, num_candidates=candidates).minimize(model, x)
    expected = closed_form(model, x, ball, None if candidates is None else order[:, 1:candidates])
    torch.testing.assert_close(found - x, 1.1 * expected, rtol=1e-3, atol=1e-5)
    assert (model(found).argmax(1) != order[:, 0]).all()


def test_the_runner_up_is_not_always_nearest() -> None:
    model, x = linear(), torch.randn(30, 3, 2, 2)
    near, far = (DeepFool(ball=BALLS[0], num_candidates=k).minimize(model, x) for k in (None, 2))
    assert (BALLS[0].distance(near, x) < 0.95 * BALLS[0].distance(far, x)).any()


def rough() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(32), nn.ReLU()).append(
        nn.Linear(32, 12)
    )


@pytest.mark.parametrize("ball", [L2(0.3), Linf(0.01)], ids=str)
def test_it_fools_a_network_from_near(ball: Ball) -> None:
    model, x = rough(), torch.rand(24, 3, 10, 7)
    y = model(x).argmax(-1)
    attack = DeepFool(ball=ball)
    x_adv = attack.minimize(model, x, y)
    assert (model(x_adv).argmax(-1) != y).all()
    short = x + 0.9 * (x_adv - x)  # nearly the nearest: a tenth less of the same change does not fool
    assert (model(short).argmax(-1) == y).float().mean() > 0.9
    within, near = attack(model, x, y), ball.contains(x_adv, x)
    assert 0 < near.sum() < 24
    assert ball.contains(within, x).all()
    assert torch.equal(within[near], x_adv[near])


@pytest.mark.parametrize("ball", [L2(0.6), Linf(0.06)], ids=str)
def test_bisection_comes_back_to_the_boundary(victim: Any, ball: Ball) -> None:
    far, near = (DeepFool(ball=ball, num_bisections=k).minimize(victim.model, victim.x, victim.y) for k in (0, 12))
    assert (victim.model(near).argmax(-1) != victim.y).all()
    assert (ball.distance(near, victim.x) <= ball.distance(far, victim.x) + 1e-6).all()
    assert ball.distance(near, victim.x).mean() < 0.6 * ball.distance(far, victim.x).mean()


def test_too_few_steps_return_the_image() -> None:
    model, x = rough(), torch.rand(24, 3, 10, 7)
    y = model(x).argmax(-1)
    x_adv = DeepFool(num_steps=1, overshoot=0.0).minimize(model, x, y)
    fooled = model(x_adv).argmax(-1) != y
    assert 0 < fooled.sum() < 24
    assert torch.equal(x_adv[~fooled], x[~fooled])


def test_a_dead_gradient_is_no_direction() -> None:
    model = linear()
    nn.init.zeros_(model[1].weight)
    x = torch.randn(3, 3, 2, 2)
    assert torch.equal(DeepFool(ball=BALLS[0], num_steps=3).minimize(model, x), x)


def test_an_image_on_the_boundary_crosses_it() -> None:
    model = linear(2)
    model[1].weight.data = torch.stack([torch.ones(12), -torch.ones(12)])
    model[1].bias.data.zero_()
    x = torch.zeros(1, 3, 2, 2)
    assert model(DeepFool(ball=BALLS[0]).minimize(model, x)).argmax() == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ball": L1(1.0)}, "works in L2 and Linf"),
        ({"num_candidates": 1}, "num_candidates must be an integer of at least 2"),
        ({"num_steps": 0}, "num_steps must be"),
        ({"overshoot": -0.1}, "overshoot must be a finite number of at least 0"),
        ({"max_batch": 0}, "max_batch must be"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeepFool(**fields)
