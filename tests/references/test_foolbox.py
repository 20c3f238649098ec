"""Foolbox (Rauber et al. 2020), an independent implementation: the same numbers on the same model."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from aureole.attacks import BIM, FGSM, PGD
from aureole.attacks.base import Attack
from aureole.core.balls import L2, Linf
from aureole.particles.starts import AtImage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    attacks = foolbox.attacks

STEPS = {"steps": 8, "random_start": False}
CASES = {
    "FGSM": (FGSM(ball=Linf(0.08)), attacks.LinfFastGradientAttack(random_start=False)),
    "FGM": (FGSM(ball=L2(0.4)), attacks.L2FastGradientAttack(random_start=False)),
    "LinfPGD": (
        PGD(ball=Linf(0.08), num_steps=8, step_size=0.015, start=AtImage()),
        attacks.LinfPGD(abs_stepsize=0.015, **STEPS),
    ),
    "LinfBIM": (
        BIM(ball=Linf(0.08), num_steps=8, step_size=0.02),
        attacks.LinfBasicIterativeAttack(abs_stepsize=0.02, **STEPS),
    ),
    "L2PGD": (
        PGD(ball=L2(0.4, None), num_steps=8, step_size=0.09, start=AtImage()),
        attacks.L2PGD(abs_stepsize=0.09, **STEPS),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_equal_to_foolbox(victim: Any, name: str) -> None:
    attack: Attack = CASES[name][0]
    x, y = 0.25 + 0.5 * victim.x, victim.y  # away from the bounds, where foolbox scales and then clips in L2
    theirs = foolbox.PyTorchModel(victim.model, bounds=(0, 1), device="cpu")
    _, expected, fooled = CASES[name][1](theirs, x, y, epsilons=attack.ball.radius)
    found = attack(victim.model, x, y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - x).abs().amax() > 0.02
    assert torch.equal(victim.model(found).argmax(-1) != y, fooled)


@pytest.mark.filterwarnings("ignore")
def test_our_projection_is_never_weaker_at_the_bounds(victim: Any) -> None:
    """In L2 foolbox scales and then clips; we project on both together, and use the room that is left."""
    ball = L2(0.4)
    theirs = foolbox.PyTorchModel(victim.model, bounds=(0, 1), device="cpu")
    x = (2 * victim.x - 0.5).clamp(0, 1)  # many pixels at the bounds
    _, expected, _ = attacks.L2PGD(abs_stepsize=0.09, **STEPS)(theirs, x, victim.y, epsilons=0.4)
    found = PGD(ball=ball, num_steps=8, step_size=0.09, start=AtImage())(victim.model, x, victim.y)
    assert ball.contains(found, x).all()
    assert ball.distance(found, x).mean() >= ball.distance(expected, x).mean() - 1e-6
