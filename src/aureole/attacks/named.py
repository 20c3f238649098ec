"""Attacks by name, as the command line and the records know them: ``pgd-200``, ``autoattack``, ``square-1000``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace

from aureole.attacks.autoattack import MEMBERS, AutoAttack
from aureole.attacks.base import Attack
from aureole.attacks.brendel_bethge import BrendelBethge
from aureole.attacks.carlini_wagner import CarliniWagner
from aureole.attacks.deepfool import DeepFool
from aureole.attacks.gradient import BIM, FGSM, MIM, PGD, RFGSM
from aureole.attacks.sparse import JSMA, CornerSearch, SparseFool
from aureole.attacks.sparse.box import whole_box
from aureole.core.balls import Ball
from aureole.core.errors import InputError, unknown_name

_ATTACKS: dict[str, Callable[[Ball, float], Attack]] = {
    "fgsm": lambda ball, step: FGSM(ball=ball),
    "rfgsm": lambda ball, step: RFGSM(ball=ball),
    "bim": lambda ball, step: BIM(ball=ball, num_steps=20, step_size=step),
    "mim": lambda ball, step: MIM(ball=ball, num_steps=20, step_size=step),
    "pgd": lambda ball, step: PGD(ball=ball, num_steps=20, step_size=step),
    "autoattack": lambda ball, step: AutoAttack(ball=ball),
    "autoattack-plus": lambda ball, step: AutoAttack(ball=ball, version="plus"),
    "autoattack-rand": lambda ball, step: AutoAttack(ball=ball, version="rand"),
    **{name: lambda ball, step, make=make: make(ball) for name, make in MEMBERS.items()},
    "brendel-bethge": lambda ball, step: BrendelBethge(ball=ball),
    "deepfool": lambda ball, step: DeepFool(ball=ball),
    "cw": lambda ball, step: CarliniWagner(ball=ball),
    "jsma": lambda ball, step: JSMA(ball=whole_box(ball.bounds)),
    "sparsefool": lambda ball, step: SparseFool(ball=whole_box(ball.bounds)),
    "cornersearch": lambda ball, step: CornerSearch(ball=whole_box(ball.bounds), max_pixels=0.7),
}
_NAME = re.compile(r"([a-z]+(?:-[a-z]+)*)(?:-(\d+))?(?:x(\d+))?")
_STEPS = ("num_steps", "num_queries")


def attack_names() -> tuple[str, ...]:
    """Return the kinds of attacks that have a name.

    Example:
        >>> "pgd" in attack_names()
        True
    """
    return tuple(_ATTACKS)


def named_attack(name: str, ball: Ball, step_size: float) -> Attack:
    """Return the attack of a name ``KIND[-STEPS][xRESTARTS]``.

    Args:
        name: such as ``"fgsm"``, ``"pgd-200"`` (200 steps), ``"pgd-50x2"`` (50 steps, 2 restarts), ``"apgd-ce"``,
            ``"autoattack"`` or ``"square-1000"`` (1,000 queries). :func:`attack_names` lists the kinds.
        ball: where the adversarial images lie; sparse attacks (jsma, sparsefool, cornersearch) take the whole box.
        step_size: length of a step of fgsm, bim, mim and pgd; the other attacks find their own.

    Returns:
        The attack.

    Raises:
        InputError: the kind is unknown, with the nearest name; the name is not of this form; or the attack has no such
            number, or works in no such ball.

    Example:
        >>> named_attack("pgd-50x2", Linf(0.3), 0.01).num_restarts
        2
    """
    match = _NAME.fullmatch(name.strip().lower())
    if match is None:
        raise InputError(f"an attack is named KIND[-STEPS][xRESTARTS], such as fgsm, pgd-200 or pgd-50x2; got {name!r}")
    kind, steps, runs = match[1], match[2], match[3]
    if kind not in _ATTACKS:
        raise unknown_name("attack", kind, _ATTACKS)
    attack = _ATTACKS[kind](ball, step_size)
    has = {field.name for field in fields(attack)}
    counted = next((field for field in _STEPS if field in has), None)
    changes: dict[str, int] = {}
    for field, given, what in ((counted, steps, "steps"), ("num_restarts", runs, "restarts")):
        if given is None:
            continue
        if field not in has:
            raise InputError(f"{kind} has no number of {what} to set; got {name!r}: leave it out")
        if int(given) < 1:
            raise InputError(f"{name!r} asks for {given} {what}; at least 1 is needed")
        changes[str(field)] = int(given)
    return replace(attack, **changes)
