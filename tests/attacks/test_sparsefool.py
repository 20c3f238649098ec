"""SparseFool: the linear problem against a solver, and few features on trained models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.sparse import SparseFool
from aureole.attacks.sparse.sparsefool import cross_plane
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError


def least_l1(x: Tensor, normal: Tensor, deficit: float, low: Tensor, high: Tensor) -> float | None:
    """Solve min |z - x|_1 with <normal, z - x> >= deficit in the box, as a linear program; None where infeasible."""
    from scipy.optimize import linprog

    a, count = normal.double().numpy(), len(x)
    up, down = (high - x).double().numpy(), (x - low).double().numpy()
    bounds = [(0.0, float(b)) for b in np.concatenate([up, down])]
    solved = linprog(np.ones(2 * count), A_ub=-np.concatenate([a, -a])[None], b_ub=[-deficit], bounds=bounds)
    return float(solved.fun) if solved.success else None


def problem(rows: int, features: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, normal = torch.rand(rows, features), torch.randn(rows, features)
    normal[torch.rand(rows, features) < 0.2] = 0
    x[torch.rand(rows, features) < 0.2] = 1.0  # no room upwards
    return x, normal, (x - 0.4).clamp(0, 1), (x + 0.4).clamp(0, 1)


@pytest.mark.parametrize("deficit", [0.0, 0.3, 1.5])
def test_the_plane_is_crossed_at_the_least_l1_distance(deficit: float) -> None:
    x, normal, low, high = problem(12, 15)
    found = cross_plane(x, normal, torch.full((12,), deficit), low, high)
    assert ((found >= low) & (found <= high)).all()
    for i in range(12):
        best = least_l1(x[i], normal[i], deficit, low[i], high[i])
        if best is None:
            continue
        move = found[i] - x[i]
        assert (normal[i] * move).sum() >= deficit - 1e-5
        assert abs(move.abs().sum() - best) < 1e-5
        assert ((move != 0) & (found[i] > low[i]) & (found[i] < high[i])).sum() <= 1  # all but the last to a bound


def test_out_of_reach_everything_that_helps_is_moved() -> None:
    x, normal, low, high = problem(6, 15)
    found = cross_plane(x, normal, torch.full((6,), 100.0), low, high)
    expected = torch.where(normal > 0, high, torch.where(normal < 0, low, x))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_linear_model_is_solved_at_once() -> None:
    """Then DeepFool is exact, and what is found is the linear program's answer, a margin beyond the boundary."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 2))
    x = 0.3 + 0.4 * torch.rand(16, 1, 4, 5)
    passes: list[int] = []
    hook = model.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    attack = SparseFool(lambda_=1.0, overshoot=0.0, num_steps=1, num_bisections=0)
    x_adv = attack(model, x)
    hook.remove()
    assert len(passes) == 5  # clean; DeepFool, twice; the normal; the answer
    logits = model(x).detach()
    y = logits.argmax(1)
    assert (model(x_adv).argmax(1) != y).all()
    weight = model[1].weight.detach()
    for i in range(16):
        normal = weight[1 - y[i]] - weight[y[i]]
        gap = float(logits[i, y[i]] - logits[i, 1 - y[i]]) + 1e-3 * float(normal.norm())
        best = least_l1(x[i].flatten(), normal, gap, torch.zeros(20), torch.ones(20))
        assert best is not None
        assert abs(float((x_adv - x)[i].abs().sum()) - best) < 2e-4


def test_it_fools_with_few_features(victim: Any) -> None:
    x_adv = SparseFool(lambda_=2.0)(victim.model, victim.x, victim.y)
    fooled = victim.model(x_adv).argmax(-1) != victim.y
    assert fooled.all()
    assert ((x_adv >= 0) & (x_adv <= 1)).all()
    count = (x_adv != victim.x).flatten(1).sum(1)
    assert count.float().mean() < 16  # of 64
    assert (count[fooled & (victim.model(victim.x).argmax(-1) == victim.y)] >= 1).all()


def test_the_boundary_is_found_where_the_model_saturates(victim: Any) -> None:
    """There DeepFool oversteps, and the normal where it ends is of no use."""
    found = [SparseFool(num_bisections=k)(victim.model, victim.x, victim.y) for k in (0, 10)]
    fooled = [victim.model(x_adv).argmax(-1) != victim.y for x_adv in found]
    assert fooled[0].float().mean() < 0.9
    assert fooled[1].all()
    assert torch.equal(found[0][~fooled[0]], victim.x[~fooled[0]])


def test_a_greater_lambda_moves_more_features_in_fewer_steps(victim: Any) -> None:
    def run(lambda_: float) -> tuple[float, int]:
        passes: list[int] = []
        hook = victim.model.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
        x_adv = SparseFool(lambda_=lambda_)(victim.model, victim.x, victim.y)
        hook.remove()
        return float((x_adv != victim.x).sum()), sum(passes)

    (few, long), (many, short) = run(1.0), run(4.0)
    assert many > 1.3 * few
    assert short < long


def test_the_box_holds(victim: Any) -> None:
    for ball in (Linf(0.1), Linf(0.1, None)):
        x_adv = SparseFool(ball=ball, lambda_=2.0)(victim.model, victim.x, victim.y)
        assert ball.contains(x_adv, victim.x).all()
        assert (victim.model(x_adv).argmax(-1) != victim.y).float().mean() > 0.4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ball": L2(1.0)}, r"SparseFool searches a box, so its ball is Linf\(1.0\) .* got L2"),
        ({"lambda_": 0.0}, "lambda_ must be a positive finite number"),
        ({"num_steps": 0}, "num_steps must be"),
        ({"overshoot": -1.0}, "overshoot must be"),
        ({"max_batch": 0}, "max_batch must be"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SparseFool(**fields)
