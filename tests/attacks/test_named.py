"""Attacks by name."""

from __future__ import annotations

import pytest

from aureole import BIM, FGSM, L2, MIM, PGD, RFGSM, InputError, Linf
from aureole.attacks import named_attack

BALL = Linf(0.3)
NAMES = {
    "fgsm": FGSM(ball=BALL),
    "fgsmx3": FGSM(ball=BALL, num_restarts=3),
    "rfgsm": RFGSM(ball=BALL),
    "rfgsmx2": RFGSM(ball=BALL, num_restarts=2),
    "pgd": PGD(ball=BALL, num_steps=20, step_size=0.01),
    "pgd-200": PGD(ball=BALL, num_steps=200, step_size=0.01),
    "pgd-50x2": PGD(ball=BALL, num_steps=50, step_size=0.01, num_restarts=2),
    "pgdx5": PGD(ball=BALL, num_steps=20, step_size=0.01, num_restarts=5),
    "bim-7": BIM(ball=BALL, num_steps=7, step_size=0.01),
    "mim-40": MIM(ball=BALL, num_steps=40, step_size=0.01),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_kind_steps_and_restarts(name: str) -> None:
    attack = named_attack(name, BALL, 0.01)
    assert type(attack) is type(NAMES[name])
    assert attack == NAMES[name]
    assert named_attack(f" {name.upper()} ", BALL, 0.01) == attack


def test_ball_and_step_are_those_that_were_given() -> None:
    attack = named_attack("pgd-3", L2(2.0), 0.25)
    assert attack == PGD(ball=L2(2.0), num_steps=3, step_size=0.25)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pgx", "unknown attack 'pgx': did you mean 'pgd'"),
        ("fgms-3", "did you mean 'fgsm'"),
        ("autoattack", "unknown attack 'autoattack': "),
        ("pgd-20-3", "KIND"),
        ("pgd-", "KIND"),
        ("pgd-x2", "KIND"),
        ("pgd-2x", "KIND"),
        ("pgd 20", "KIND"),
        ("20-pgd", "KIND"),
        ("pgd--1", "KIND"),
        ("pgd-1.5", "KIND"),
        ("", "KIND"),
        ("pgd-5x0", "num_restarts"),
    ],
)
def test_wrong_names_are_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        named_attack(name, BALL, 0.01)
    assert "\n" not in str(caught.value)
