"""Attacks by name, as the command line and the records know them: ``fgsm``, ``pgd-200``, ``pgd-50x2``."""

from __future__ import annotations

import re
from collections.abc import Callable

from aureole.attacks.base import Attack
from aureole.attacks.gradient import BIM, FGSM, MIM, PGD, RFGSM
from aureole.core.balls import Ball
from aureole.core.errors import InputError, unknown_name

_Maker = Callable[[Ball, float, int, int], Attack]

_ATTACKS: dict[str, _Maker] = {
    "fgsm": lambda ball, step, steps, runs: FGSM(ball=ball, num_restarts=runs),
    "rfgsm": lambda ball, step, steps, runs: RFGSM(ball=ball, num_restarts=runs),
    "bim": lambda ball, step, steps, runs: BIM(ball=ball, num_steps=steps, step_size=step, num_restarts=runs),
    "mim": lambda ball, step, steps, runs: MIM(ball=ball, num_steps=steps, step_size=step, num_restarts=runs),
    "pgd": lambda ball, step, steps, runs: PGD(ball=ball, num_steps=steps, step_size=step, num_restarts=runs),
}
_NAME = re.compile(r"([a-z]+)(?:-(\d+))?(?:x(\d+))?")


def named_attack(name: str, ball: Ball, step_size: float) -> Attack:
    """Return the attack of a name ``KIND[-STEPS][xRESTARTS]``.

    Args:
        name: such as ``"fgsm"``, ``"pgd-200"`` (200 steps) or ``"pgd-50x2"`` (50 steps, 2 restarts).
        ball: where the adversarial images lie.
        step_size: length of a step of the iterative attacks.

    Returns:
        The attack.

    Raises:
        InputError: the kind is unknown, with the nearest name; or the name is not of this form.

    Example:
        >>> named_attack("pgd-50x2", Linf(0.3), 0.01).num_restarts
        2
    """
    match = _NAME.fullmatch(name.strip().lower())
    if match is None:
        raise InputError(f"an attack is named KIND[-STEPS][xRESTARTS], such as fgsm, pgd-200 or pgd-50x2; got {name!r}")
    kind, steps, runs = match[1], int(match[2] or 20), int(match[3] or 1)
    if kind not in _ATTACKS:
        raise unknown_name("attack", kind, _ATTACKS)
    return _ATTACKS[kind](ball, step_size, steps, runs)
