"""One table over the attacks beyond the gradient ones: inside the ball, of the example alone, and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aureole.attacks import (
    APGD,
    FAB,
    JSMA,
    Attack,
    AutoAttack,
    BrendelBethge,
    CarliniWagner,
    CornerSearch,
    DeepFool,
    SparseFool,
    Square,
    TargetedAPGD,
)
from aureole.attacks.bss import BSSAttack
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams

BALLS: dict[type[Ball], Ball] = {Linf: Linf(0.06), L2: L2(0.6), L1: L1(3.0)}
ANY, FLAT, BOX = (Linf, L2, L1), (Linf, L2), (Linf,)
KINDS: dict[str, tuple[Callable[[Ball], Attack], tuple[type[Ball], ...]]] = {
    "APGD": (lambda ball: APGD(ball=ball, num_steps=6), ANY),
    "TargetedAPGD": (lambda ball: TargetedAPGD(ball=ball, num_steps=4), ANY),
    "FAB": (lambda ball: FAB(ball=ball, num_steps=6), ANY),
    "FAB, untargeted": (lambda ball: FAB(ball=ball, num_steps=6, targeted=False, num_restarts=2), ANY),
    "Square": (lambda ball: Square(ball=ball, num_queries=30), ANY),
    "AutoAttack": (lambda ball: AutoAttack(ball=ball, members=("apgd-ce", "fab-t")), FLAT),
    "BrendelBethge": (lambda ball: BrendelBethge(ball=ball, num_steps=8), FLAT),
    "DeepFool": (lambda ball: DeepFool(ball=ball), FLAT),
    "BSSAttack": (lambda ball: BSSAttack(ball=ball, step_size=0.05, num_steps=30), ANY),
    "CarliniWagner": (lambda ball: CarliniWagner(ball=ball, num_steps=30, num_searches=3), (L2,)),
    "JSMA": (lambda ball: JSMA(ball=Linf(1.0), gamma=0.2), BOX),
    "SparseFool": (lambda ball: SparseFool(ball=Linf(1.0)), BOX),
    "CornerSearch": (lambda ball: CornerSearch(ball=Linf(1.0), num_samples=20), BOX),
}
CASES = [
    pytest.param(make(BALLS[norm]), id=f"{name}, {norm.__name__}")
    for name, (make, norms) in KINDS.items()
    for norm in norms
]
every_attack = pytest.mark.parametrize("attack", CASES)


@every_attack
def test_inside_the_ball_and_of_the_example_alone(victim: Any, attack: Attack) -> None:
    x, y = victim.x[:12], victim.y[:12]
    x_adv = attack(victim.model, x, y, generator=Streams.of(0, torch.arange(12)))
    assert (x_adv.shape, x_adv.dtype, x_adv.requires_grad) == (x.shape, x.dtype, False)
    assert attack.ball.contains(x_adv, x).all()
    assert attack.ball.distance(x_adv, x).max() <= attack.ball.radius + 1e-6
    assert (victim.model(x_adv).argmax(-1) != y).float().mean() > (victim.model(x).argmax(-1) != y).float().mean()
    order = torch.randperm(12)
    parts = [attack(victim.model, x[i], y[i], generator=Streams.of(0, i)) for i in (order[:1], order[1:])]
    torch.testing.assert_close(torch.cat(parts), x_adv[order], rtol=0, atol=1e-4)


@every_attack
def test_no_trace_is_left(stateful: nn.Module, trace: Any, attack: Attack) -> None:
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    x_before = x.clone()
    stateful.eval()
    before = trace(stateful)
    attack(stateful, x, y)
    before.check()
    assert torch.equal(x, x_before)
    with pytest.raises(InputError, match="labels must be from 0 to 3"):
        attack(stateful, x, y + 1)
    before.check()

    def fail(*_: Any) -> None:
        raise KeyError

    hook = stateful[-1].register_forward_hook(fail)
    with pytest.raises(KeyError):
        attack(stateful, x, y)
    hook.remove()
    before.check()


@every_attack
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.full((2, 1, 8, 8), torch.nan), torch.tensor([0, 1]), "must be finite"),
        (torch.full((2, 1, 8, 8), 255.0), torch.tensor([0, 1]), "scale them"),
        (torch.rand(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), "not be empty"),
    ],
)
def test_what_cannot_be_attacked_is_refused(victim: Any, attack: Attack, x: Any, y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(victim.model, x, y)
