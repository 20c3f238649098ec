"""One table over all attacks, balls, kernels, starts and step rules: what a contract says holds for every one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aureole.attacks import BIM, FGSM, MIM, PGD, RFGSM, Attack
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.objectives import DLR, KL, CrossEntropy, Margin, SquaredDifference, Targeted
from aureole.core.random import Streams
from aureole.particles import (
    RBF,
    AtImage,
    FeatureRBF,
    InBall,
    Langevin,
    Momentum,
    Normal,
    ParticleSearch,
    Probe,
    Sign,
    SignedNormal,
    Steepest,
    Uniform,
    UnitL2,
)

BALLS = [
    Linf(0.05),
    L2(0.5),
    L1(3.0),
    Linf(0.05, ((0.0,), (0.9,))),
    L2(0.5, ((0.0,), (0.9,))),
    L1(3.0, None),
    Linf(0.05, None),
]
OBJECTIVES = [CrossEntropy(), KL(), KL("adversarial||clean"), SquaredDifference(), Margin(), DLR(), Targeted()]
KERNELS = [
    None,
    RBF(),
    RBF(0.5, "batch"),
    RBF(0.5, "batch", "image"),
    FeatureRBF(nn.AvgPool2d(2)),
    FeatureRBF(nn.AvgPool2d(2), gradient="others"),
]
STARTS = [AtImage(), InBall(), Uniform(0.02), Normal(0.02), SignedNormal(0.02), Probe(1.0)]
STEPS = [Steepest(), Sign(), UnitL2(), Momentum(0.9), Langevin(0.1), Langevin(0.5, Momentum(0.5, Sign()))]


def attacks(ball: Ball, *, targeted: bool) -> list[Attack]:
    fields: dict[str, Any] = {"ball": ball, "targeted": targeted, "num_restarts": 2}
    steps = {"num_steps": 3, "step_size": ball.radius / 3}
    return [FGSM(**fields), RFGSM(**fields), *(kind(**fields, **steps) for kind in (BIM, MIM, PGD))]


every_ball = pytest.mark.parametrize("ball", BALLS, ids=str)
every_attack = pytest.mark.parametrize("at", range(5), ids=["FGSM", "RFGSM", "BIM", "MIM", "PGD"])
either = pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])


@every_ball
@every_attack
@either
def test_attacks_stay_inside_and_belong_to_the_example(victim: Any, ball: Ball, at: int, targeted: bool) -> None:
    attack = attacks(ball, targeted=targeted)[at]
    x, y = 0.9 * victim.x, victim.y
    x_adv = attack(victim.model, x, y, generator=Streams.of(0, torch.arange(32)))
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert ball.contains(x_adv, x).all()
    reach = 0.05 if isinstance(ball, L1) and ball.bounds else 0.2  # a step in L1 is one pixel, which meets the bounds
    assert (ball.distance(x_adv, x) > reach * ball.radius).all()
    again = attack(victim.model, x, y, generator=Streams.of(0, torch.arange(32)))
    assert torch.equal(again, x_adv)
    order = torch.randperm(32)
    parts = [attack(victim.model, x[i], y[i], generator=Streams.of(0, i)) for i in (order[:1], order[1:])]
    torch.testing.assert_close(torch.cat(parts), x_adv[order], rtol=0, atol=1e-5)


@every_attack
def test_attacks_repeat_under_a_seed_and_the_random_ones_differ_under_another(victim: Any, at: int) -> None:
    attack = attacks(Linf(0.05), targeted=False)[at]
    a, b, c = (
        attack(victim.model, victim.x, victim.y, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert torch.equal(a, c) == (not isinstance(attack, RFGSM | PGD))


@pytest.mark.parametrize("ball", BALLS[:3], ids=str)
@every_attack
@either
def test_attacks_leave_no_trace(stateful: nn.Module, trace: Any, ball: Ball, at: int, targeted: bool) -> None:
    x, y = torch.rand(5, 1, 8, 8), torch.arange(5) % 4
    attack, x_before = attacks(ball, targeted=targeted)[at], x.clone()
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


STARTS_AND_STEPS = [(start, Steepest()) for start in STARTS] + [(InBall(), step) for step in STEPS[1:]]


@pytest.mark.parametrize("ball", BALLS[:3], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize(("start", "step"), STARTS_AND_STEPS, ids=str)
def test_every_search_is_inside_finite_and_repeatable(
    victim: Any, ball: Ball, kernel: Any, start: Any, step: Any
) -> None:
    x, y = victim.x[:5], victim.y[:5]
    search = ParticleSearch(ball, 3, 2, ball.radius / 3, kernel=kernel, start=start, step=step)
    found, again = (search(victim.model, x, y, generator=Streams.of(0, torch.arange(5))) for _ in range(2))
    assert found.x_adv.shape == (3, *x.shape)
    assert found.objective.shape == (3, 5)
    assert found.x_adv.isfinite().all()
    assert ball.contains(found.x_adv, x).all()
    assert torch.equal(found.x_adv, again.x_adv)
    assert (kernel is None) == (found.kernel is None)
    assert (found.x_adv != x).any(0).flatten(1).any(1).all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_a_search_raises_its_objective(victim: Any, objective: Any) -> None:
    y = victim.model(victim.x).argmax(-1) + (1 if isinstance(objective, Targeted) else 0)

    def value(num_steps: int) -> torch.Tensor:
        start = InBall() if num_steps else Normal(1e-4)
        search = ParticleSearch(Linf(0.08), 2, num_steps, 0.02, objective, start=start, keep="best")
        return search(victim.model, victim.x, y % 4).objective

    assert value(6).mean() > value(0).mean() + 1e-3
    assert (value(6).mean(0) > value(0).mean(0)).float().mean() > 0.8


@pytest.mark.parametrize(
    "value", [*OBJECTIVES, *BALLS, *KERNELS[1:4], *STARTS, *STEPS, ParticleSearch(Linf(0.1))], ids=str
)
def test_parts_are_values(value: Any) -> None:
    """Equal, hashable, and frozen."""
    import copy

    twin = copy.deepcopy(value)
    assert twin == value
    assert hash(twin) == hash(value)
    with pytest.raises(AttributeError):
        value.anything = 1
