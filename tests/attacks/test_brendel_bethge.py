"""Brendel and Bethge: closed forms on linear models, starts, what is never left, and whose result is whose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.brendel_bethge import BrendelBethge
from aureole.attacks.gradient import PGD
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.random import Streams

BALLS = [Linf(0.04), L2(0.3)]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=["Linf", "L2"])


def streams(count: int) -> Streams:
    return Streams.of(0, torch.arange(count))


class Scripted(nn.Module):
    """Two logits: 0, and a function of the image."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        value = self.function(x)
        return torch.stack([torch.zeros_like(value), value], -1)


@every_ball
def test_closed_form_on_a_linear_model(ball: Ball) -> None:
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(64, 3)
    model = nn.Sequential(nn.Flatten(), layer)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 64, generator=generator))
    x = torch.rand(10, 1, 8, 8, generator=generator)
    wide = replace(ball, bounds=(-20.0, 20.0))
    found = BrendelBethge(ball=wide, learning_rate=1e-4).minimize(model, x, generator=streams(10))
    logits, weight = model(x), layer.weight
    y = logits.argmax(-1)
    dual = (weight[:, None] - weight).norm(p=1 if isinstance(ball, Linf) else 2, dim=-1)
    ways = (logits[torch.arange(10), y][:, None] - logits) / dual[y]
    expected = ways.scatter(1, y[:, None], torch.inf).amin(-1)  # to the nearest of the other classes
    distance = ball.distance(found, x)
    assert (model(found).argmax(-1) != y).all()
    assert (distance > 0.999 * expected).all()
    assert (distance < 1.3 * expected).all()  # the nearest class may not be that of the start
    assert (distance < 1.01 * expected).float().mean() >= 0.8


@every_ball
def test_closed_form_at_the_bounds(ball: Ball) -> None:
    """The pixels with the greatest weight have no room, and the others make up for it."""
    weight = torch.tensor([8.0, 2.0, 1.0, -1.0])
    model = Scripted(lambda x: x.flatten(1) @ weight - 9.5)
    x = torch.tensor([1.0, 0.5, 0.5, 0.5]).view(1, 1, 2, 2)  # the margin is -0.5
    found = BrendelBethge(ball=ball, learning_rate=0.01).minimize(model, x, generator=streams(1))
    expected = 0.5 / 4 if isinstance(ball, Linf) else 0.5 / 6**0.5
    assert float(ball.distance(found, x)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("ball", [Linf(0.5), L2(4.0)], ids=["Linf", "L2"])
def test_it_is_adversarial_inside_the_bounds_and_much_nearer_than_its_start(victim: Any, ball: Ball) -> None:
    ball = replace(ball, bounds=((0.1,), (0.85,)))
    x = victim.x.clamp(0.1, 0.85)
    y = victim.model(x).argmax(-1)
    few, many = (
        BrendelBethge(ball=ball, num_steps=steps, learning_rate=2e-3).minimize(victim.model, x, generator=streams(32))
        for steps in (1, 60)
    )
    assert (victim.model(many).argmax(-1) != y).all()
    assert many.min() >= 0.1
    assert many.max() <= torch.tensor(0.85)
    assert (ball.distance(many, x) <= ball.distance(few, x) * (1 + 1e-5)).all()
    assert ball.distance(many, x).median() < 0.8 * ball.distance(few, x).median()
    distance = ball.distance(many, x)
    ball = replace(ball, radius=float(distance.median()) * 0.5)
    pgd = PGD(ball=ball, num_steps=20, step_size=ball.radius / 5)
    fooled = victim.model(pgd(victim.model, x, y)).argmax(-1) != y
    assert fooled.any()
    assert (fooled & (distance > 1.25 * ball.radius)).float().mean() < 0.1  # hardly anything nearer was overlooked


@every_ball
def test_the_result_belongs_to_the_example(victim: Any, ball: Ball) -> None:
    attack = BrendelBethge(ball=ball, num_steps=15, learning_rate=0.01)
    together = attack.minimize(victim.model, victim.x, victim.y, generator=streams(32))
    order = torch.randperm(32)
    parts = [
        attack.minimize(victim.model, victim.x[i], victim.y[i], generator=Streams.of(0, i))
        for i in (order[:1], order[1:])
    ]
    split = replace(attack, max_batch=5).minimize(victim.model, victim.x, victim.y, generator=streams(32))
    for other, index in ((torch.cat(parts), order), (split, torch.arange(32))):
        torch.testing.assert_close(
            ball.distance(other, victim.x[index]), ball.distance(together, victim.x)[index], rtol=1e-3, atol=1e-5
        )
        assert (other - together[index]).abs().flatten(1).amax(1).median() < 1e-3


@every_ball
def test_a_call_answers_within_the_radius_and_is_right_about_who_falls(victim: Any, ball: Ball) -> None:
    attack = BrendelBethge(ball=ball, num_steps=25, learning_rate=0.01)
    x, y = victim.x, victim.y
    distance = ball.distance(attack.minimize(victim.model, x, y, generator=streams(32)), x)
    attack = replace(attack, ball=replace(ball, radius=float(distance.median()) * 1.001))
    x_adv = attack(victim.model, x, y, generator=streams(32))
    assert attack.ball.contains(x_adv, x).all()
    fooled, near = victim.model(x_adv).argmax(-1) != y, distance <= attack.ball.radius
    assert ((fooled == near) | ((distance / attack.ball.radius - 1).abs() < 0.02)).all()
    assert 0.3 < fooled.float().mean() < 0.8
    nearest = attack.minimize(victim.model, x, y, generator=streams(32))
    assert (ball.distance(nearest, x)[fooled] <= ball.distance(x_adv, x)[fooled] * (1 + 1e-3)).all()


def test_no_more_gradients_than_steps_and_none_for_images_that_are_done(victim: Any) -> None:
    sizes: list[int] = []
    hook = victim.model.register_forward_hook(lambda *args: sizes.append(len(args[2])))
    attack = BrendelBethge(ball=Linf(0.6), num_steps=40)
    attack(victim.model, victim.x, victim.y)
    early = sum(sizes)
    sizes.clear()
    attack.minimize(victim.model, victim.x, victim.y)
    hook.remove()
    assert early < 0.6 * sum(sizes)
    assert sum(sizes) <= (40 + 1 + 10 + 6 * 12 + 1) * 32


@every_ball
def test_starts_come_from_afar_where_the_ball_is_small(victim: Any, ball: Ball) -> None:
    attack = BrendelBethge(ball=replace(ball, radius=1e-4), num_steps=5)
    found = attack.minimize(victim.model, victim.x, victim.y)
    assert (victim.model(found).argmax(-1) != victim.y).all()


@every_ball
def test_noise_starts_where_gradients_mislead(ball: Ball) -> None:
    """Adversarial where the pixels vary, though the gradient says to level them."""
    spread = Scripted(lambda x: (x.std((1, 2, 3)) > 0.2).float() - 0.5 - (10 * x.std((1, 2, 3))).tanh() / 4)
    x = 0.5 + 0.01 * torch.rand(3, 1, 8, 8)
    found = BrendelBethge(ball=ball, num_steps=5).minimize(spread, x, generator=streams(3))
    assert (spread(found).argmax(-1) == 1).all()
    assert (found.std((1, 2, 3)) < 0.22).all()  # blended: just across the boundary


@pytest.mark.filterwarnings("ignore")
def test_an_image_without_adversarial_ones_comes_back_with_a_warning() -> None:
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    constant = nn.Sequential(nn.Flatten(), layer)
    x = torch.rand(2, 1, 2, 2)
    attack = BrendelBethge(ball=Linf(0.1), num_steps=3)
    with pytest.warns(UntrustedResult, match="no adversarial image to start from was found for 2 of 2 images"):
        found = attack.minimize(constant, x)
    assert torch.equal(found, x)
    beyond = Scripted(lambda x: x.flatten(1).amax(1) - 2)  # a gradient, and yet nothing within the bounds
    with pytest.warns(UntrustedResult, match="their robustness is not shown"):
        found = attack.minimize(beyond, x)
    assert torch.equal(found, x)


def test_no_trace(stateful: nn.Module, trace: Any) -> None:
    x, y = torch.rand(5, 1, 8, 8), torch.arange(5) % 4
    before, kept = trace(stateful), x.clone()
    BrendelBethge(ball=Linf(0.1), num_steps=3)(stateful, x, y)
    before.check()
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ball": L1(1.0)}, "works in the balls Linf and L2; got L1"),
        ({"ball": Linf(0.1, None)}, "needs the bounds of the data"),
        ({"num_steps": 0}, "num_steps must be an integer of at least 1; got 0"),
        ({"num_binary_search_steps": -1}, "num_binary_search_steps must be an integer of at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive finite number"),
        ({"learning_rate_decay": 1.5}, "learning_rate_decay must be at most 1"),
        ({"momentum": 1.0}, "momentum below 1"),
        ({"overshoot": 0.9}, "overshoot from 1 to 2"),
        ({"stop_at": -1.0}, "stop_at must be a finite number of at least 0"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BrendelBethge(**fields)
