"""Step rules: lengths, directions and memories by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.particles.steps import Langevin, Momentum, Sign, Steepest, StepRule, UnitL2

BALL = L2(1.0)


def take(rule: StepRule, direction: Tensor, state: Tensor | None = None, ball: Ball = BALL) -> tuple:
    return rule(direction, 0.1, ball, Streams.of(0, torch.arange(direction.shape[1])), state)


DIRECTION = torch.tensor([[[3.0, -4.0]], [[0.0, 2.0]], [[0.0, 0.0]]])


@pytest.mark.parametrize(
    ("rule", "ball", "expected"),
    [
        (Steepest(), Linf(1.0), [[0.1, -0.1], [0, 0.1], [0, 0]]),
        (Steepest(), L2(1.0), [[0.06, -0.08], [0, 0.1], [0, 0]]),
        (Steepest(), L1(1.0), [[0, -0.1], [0, 0.1], [0, 0]]),
        (Sign(), L2(1.0), [[0.1, -0.1], [0, 0.1], [0, 0]]),
        (UnitL2(), Linf(1.0), [[0.06, -0.08], [0, 0.1], [0, 0]]),
        (Langevin(noise=0.0), Linf(1.0), [[0.3, -0.4], [0, 0.2], [0, 0]]),
        (Langevin(noise=0.0, rule=Sign()), L2(1.0), [[0.1, -0.1], [0, 0.1], [0, 0]]),
    ],
    ids=str,
)
def test_steps_by_hand(rule: StepRule, ball: Ball, expected: list) -> None:
    move, state = take(rule, DIRECTION, ball=ball)
    torch.testing.assert_close(move, torch.tensor(expected)[:, None])
    assert state is None


def test_momentum_accumulates_normalised_directions() -> None:
    first, second = torch.tensor([[[3.0, -1.0]]]), torch.tensor([[[-1.0, -1.0]]])
    rule = Momentum(0.5, UnitL2())
    _, state = take(rule, first)
    torch.testing.assert_close(state, torch.tensor([[[0.75, -0.25]]]))
    move, state = take(rule, second, state)
    torch.testing.assert_close(state, torch.tensor([[[-0.125, -0.625]]]))
    torch.testing.assert_close(move, 0.1 * state / state.norm())


def test_momentum_survives_a_zero_gradient() -> None:
    _, state = take(Momentum(1.0), torch.zeros(1, 2, 3))
    assert torch.equal(state, torch.zeros(1, 2, 3))
    before = torch.tensor([[[0.5, -0.5, 0.0], [1.0, 0.0, 0.0]]])
    move, state = take(Momentum(1.0, Sign()), torch.zeros(1, 2, 3), before)
    assert torch.equal(state, before)
    torch.testing.assert_close(move, 0.1 * before.sign())


def test_langevin_noise_has_the_scale_of_its_temperature() -> None:
    direction = torch.full((1, 200, 500), 3.0)
    move, _ = take(Langevin(0.5), direction)
    assert move.mean() == pytest.approx(0.3, abs=0.005)
    assert move.std() == pytest.approx(0.5 * math.sqrt(0.2), rel=0.02)
    move, _ = take(Langevin(0.5, Sign()), direction)
    assert move.mean() == pytest.approx(0.1, abs=0.002)
    assert move.std() == pytest.approx(0.05, rel=0.02)


def test_langevin_hands_on_the_memory_of_its_rule() -> None:
    _, state = take(Langevin(0.0, Momentum(1.0)), torch.ones(1, 1, 4))
    torch.testing.assert_close(state, torch.full((1, 1, 4), 0.25))
    _, state = take(Langevin(0.0, Momentum(1.0)), torch.ones(1, 1, 4), state)
    torch.testing.assert_close(state, torch.full((1, 1, 4), 0.5))


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_noise_must_not_be_negative(noise: float) -> None:
    with pytest.raises(InputError, match="noise"):
        Langevin(noise)
