"""Attacks of other libraries here, and ours there: foolbox, torchattacks and the Adversarial Robustness Toolbox.

No library is imported before one of its objects is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from aureole.attacks.adapters.art import ARTAttack, as_art
from aureole.attacks.adapters.foolbox import FoolboxAttack, FoolboxMinimalAttack, as_foolbox, is_bounded
from aureole.attacks.adapters.shared import described, library_of
from aureole.attacks.adapters.torchattacks import TorchattacksAttack, as_torchattacks
from aureole.attacks.base import Attack
from aureole.core.balls import Ball
from aureole.core.errors import InputError

__all__ = [
    "ARTAttack",
    "FoolboxAttack",
    "FoolboxMinimalAttack",
    "TorchattacksAttack",
    "as_art",
    "as_foolbox",
    "as_torchattacks",
    "wrap_attack",
]


def _wrap_foolbox(attack: Any, ball: Ball) -> Attack:
    kind = FoolboxAttack if is_bounded(attack) else FoolboxMinimalAttack
    return kind(attack=attack, ball=ball)


_WRAP: dict[str, Callable[[Any, Ball], Attack]] = {
    "foolbox": _wrap_foolbox,
    "torchattacks": lambda attack, ball: TorchattacksAttack(attack=attack, ball=ball),
    "art": lambda attack, ball: ARTAttack(attack=attack, ball=ball),
}


def _library_like(attack: object) -> str | None:
    """Return the library whose attacks an object is shaped like; None where it is like none."""
    if isinstance(attack, nn.Module):
        return None
    if callable(getattr(attack, "generate", None)):
        return "art"
    if callable(getattr(attack, "run", None)) and callable(attack):
        return "foolbox"
    return "torchattacks" if callable(attack) and isinstance(getattr(attack, "model", None), nn.Module) else None


def wrap_attack(attack: object, ball: Ball) -> Attack:
    """Return an attack object of foolbox, torchattacks or art as an attack of this library.

    The library is told by where the object's class comes from, or else by its shape: ``generate`` (art), ``run``
    (foolbox), or a callable that holds its network as ``model`` (torchattacks).

    Args:
        attack: the object; an attack of this library gets the ball.
        ball: where the adversarial images lie. Foolbox is told the radius; the objects of the others have their own,
            and one that differs is warned of.

    Returns:
        An attack: a callable (model, x, y) -> x_adv that attacks the model of the call.

    Raises:
        InputError: the object is of no known kind, or of a version whose call is another.

    Example:
        >>> from aureole.attacks.adapters import wrap_attack
        >>> wrap_attack("pgd", Linf(0.1))
        Traceback (most recent call last):
        aureole.core.errors.InputError: expected an attack object of foolbox, torchattacks or art; got str of 'built...
    """
    if isinstance(attack, Attack):
        return replace(attack, ball=ball)
    if isinstance(attack, type):
        raise InputError(
            f"expected an attack object; got the class {attack.__name__}: make one, {attack.__name__}(...)"
        )
    library = library_of(attack) or _library_like(attack)
    if library is None or isinstance(attack, nn.Module):
        raise InputError(
            f"expected an attack object of foolbox, torchattacks or art; got {described(attack)}: for any other, write"
            " a callable (model, x, y, *, generator) -> x_adv with a ball"
        )
    return _WRAP[library](attack, ball)
