"""Carlini and Wagner: the closed form on a linear model, Adam by hand, confidence, and the early stop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aureole.attacks import carlini_wagner
from aureole.attacks.carlini_wagner import CarliniWagner
from aureole.attacks.deepfool import DeepFool
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError

FEW = {"num_steps": 80, "num_searches": 4, "initial_constant": 0.05}


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 5.0), ((0.0, -1.0), (1.0, 2.0))], ids=str)
def test_the_distance_to_a_flat_boundary(bounds: Any) -> None:
    model, ball = nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), L2(0.5, bounds)
    low, high = (torch.tensor(b).view(-1, 1, 1) for b in bounds)
    centre = torch.ones(2, 2, 2) * (low + high) / 2
    model[1].bias.data = -model[1].weight.detach() @ centre.flatten()  # the boundary cuts the middle of the box
    x = centre + 0.3 * (high - low) * (torch.rand(8, 2, 2, 2) - 0.5)
    x_adv = CarliniWagner(ball=ball, num_steps=150, num_searches=7, step_size=0.02).minimize(model, x)
    logits, weight = model(x).detach(), model[1].weight.detach()
    exact = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).norm()
    assert (model(x_adv).argmax(1) != logits.argmax(1)).all()
    distance = ball.distance(x_adv, x)
    assert (distance > 0.999 * exact).all()
    assert (distance / exact).median() < 1.02
    assert (distance < 1.02 * exact + 0.01 * float((high - low).max())).all()


def test_it_is_nearer_than_deepfool(victim: Any) -> None:
    ours = CarliniWagner(**FEW).minimize(victim.model, victim.x, victim.y)
    theirs = DeepFool().minimize(victim.model, victim.x, victim.y)
    assert (victim.model(ours).argmax(-1) != victim.y).all()
    ball = L2(1.0)
    assert ((ours >= 0) & (ours <= 1)).all()
    assert (ball.distance(ours, victim.x) <= 1.02 * ball.distance(theirs, victim.x)).float().mean() > 0.9
    assert ball.distance(ours, victim.x).mean() < 0.7 * ball.distance(theirs, victim.x).mean()


def test_confidence_is_a_margin(victim: Any) -> None:
    x_adv = CarliniWagner(**FEW, confidence=2.0).minimize(victim.model, victim.x, victim.y)
    logits = victim.model(x_adv).detach()
    right = victim.model(victim.x).argmax(-1) == victim.y
    others = logits.scatter(1, victim.y[:, None], -torch.inf).amax(1)
    margin = others - logits.gather(1, victim.y[:, None])[:, 0]
    found = right & (x_adv != victim.x).flatten(1).any(1)
    assert found.float().mean() > 0.8
    assert (margin[found] >= 2 - 1e-4).all()
    assert margin[found].median() < 2.5


def test_adam_is_adam() -> None:
    start, gradients = torch.randn(3, 5), torch.randn(4, 3, 5)
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.03)
    unused = torch.zeros(3)
    zero = torch.zeros(3, 5)
    state = carlini_wagner._Descent(unused.long(), zero, unused.long(), unused, start, zero, zero, unused, unused)
    for count, gradient in enumerate(gradients, 1):
        parameter.grad = gradient
        optimizer.step()
        state = carlini_wagner._adam(state, gradient, count, 0.03)
    torch.testing.assert_close(state.w, parameter.detach(), rtol=1e-5, atol=1e-6)


def test_the_early_stop_saves_work_and_costs_little(victim: Any) -> None:
    def run(abort_early: bool) -> tuple[float, int]:
        sizes: list[int] = []
        hook = victim.model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
        attack = CarliniWagner(num_steps=200, num_searches=3, initial_constant=0.03, abort_early=abort_early)
        x_adv = attack.minimize(victim.model, victim.x[:12], victim.y[:12])
        hook.remove()
        return float(L2(1.0).distance(x_adv, victim.x[:12]).mean()), sum(sizes)

    (short, few), (long, many) = run(True), run(False)
    assert few < 0.8 * many
    assert abs(short - long) < 0.2 * long


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ball": Linf(0.1)}, "needs an L2 ball with bounds"),
        ({"ball": L2(0.5, None)}, "needs an L2 ball with bounds"),
        ({"num_steps": 0}, "num_steps must be"),
        ({"num_searches": 0}, "num_searches must be"),
        ({"initial_constant": 0.0}, "initial_constant must be a positive"),
        ({"confidence": -1.0}, "confidence must be a finite number of at least 0"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CarliniWagner(**fields)
