"""Attacks by name."""

from __future__ import annotations

import pytest

from aureole import BIM, FGSM, L1, L2, MIM, PGD, RFGSM, InputError, Linf
from aureole.attacks import (
    APGD,
    FAB,
    JSMA,
    AutoAttack,
    BrendelBethge,
    CarliniWagner,
    CornerSearch,
    DeepFool,
    SparseFool,
    Square,
    TargetedAPGD,
    attack_names,
    named_attack,
)
from aureole.core.objectives import DLR

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
    "autoattack": AutoAttack(ball=BALL),
    "autoattack-plus": AutoAttack(ball=BALL, version="plus"),
    "autoattack-rand": AutoAttack(ball=BALL, version="rand"),
    "apgd-ce-50x2": APGD(ball=BALL, num_steps=50, num_restarts=2),
    "apgd-dlr": APGD(ball=BALL, objective=DLR()),
    "apgd-t-20": TargetedAPGD(ball=BALL, num_steps=20),
    "fab": FAB(ball=BALL, targeted=False),
    "fab-t-10": FAB(ball=BALL, num_steps=10),
    "square-300": Square(ball=BALL, num_queries=300),
    "brendel-bethge-200": BrendelBethge(ball=BALL, num_steps=200),
    "deepfool": DeepFool(ball=BALL),
    "jsma": JSMA(ball=Linf(1.0)),
    "sparsefool-5": SparseFool(ball=Linf(1.0), num_steps=5),
    "cornersearch": CornerSearch(ball=Linf(1.0), max_pixels=0.7),
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


def test_every_kind_has_a_name_and_its_own_ball() -> None:
    assert set(attack_names()) >= {"pgd", "fab-t", "autoattack", "brendel-bethge", "cornersearch"}
    assert named_attack("cw", L2(0.5), 0.1) == CarliniWagner(ball=L2(0.5))
    assert named_attack("apgd-ce", L1(5.0), 0.1) == APGD(ball=L1(5.0), num_restarts=5, large_radius_first=True)
    assert named_attack("jsma", Linf(0.1, (-1.0, 1.0)), 0.1) == JSMA(ball=Linf(2.0, (-1.0, 1.0)))
    with pytest.raises(InputError, match="bound"):
        named_attack("cornersearch", Linf(0.1, None), 0.1)
    with pytest.raises(InputError, match="Linf and L2"):
        named_attack("brendel-bethge", L1(1.0), 0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pgx", "unknown attack 'pgx': did you mean 'pgd'"),
        ("fgms-3", "did you mean 'fgsm'"),
        ("autoatack", "did you mean 'autoattack'"),
        ("pgd-0", "asks for 0 steps; at least 1"),
        ("fgsm-3", "fgsm has no number of steps"),
        ("autoattack-100", "autoattack has no number of steps"),
        ("deepfoolx2", "deepfool has no number of restarts"),
        ("pgd-20-3", "KIND"),
        ("pgd-", "KIND"),
        ("pgd-x2", "KIND"),
        ("pgd-2x", "KIND"),
        ("pgd 20", "KIND"),
        ("20-pgd", "KIND"),
        ("pgd--1", "KIND"),
        ("pgd-1.5", "KIND"),
        ("", "KIND"),
        ("pgd-5x0", "asks for 0 restarts"),
    ],
)
def test_wrong_names_are_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        named_attack(name, BALL, 0.01)
    assert "\n" not in str(caught.value)
