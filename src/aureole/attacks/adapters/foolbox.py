"""Foolbox (Rauber et al. 2020): its attack objects here, and ours called the way foolbox calls its own.

Foolbox gives an attack its radius at the call: bounded attacks get the radius of the ball, minimisation attacks none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from aureole.attacks.adapters.shared import (
    ForeignAttack,
    Query,
    Shell,
    changed_call,
    checked,
    described,
    moved_inside,
    outer_bounds,
    same_norm,
    seeded,
    translated,
)
from aureole.attacks.base import Attack
from aureole.attacks.minimal import MinimalAttack
from aureole.core.balls import Ball
from aureole.core.errors import InputError
from aureole.core.model import frozen, predict
from aureole.core.random import Streams

_BOUNDED = "run(model, inputs, criterion, *, epsilon)"
_MINIMAL = "run(model, inputs, criterion, *, early_stop)"
_CALL = "attack(model, inputs, criterion, *, epsilons) -> (raw, clipped, success)"


def is_bounded(attack: Any) -> bool:
    """Say whether a foolbox attack takes a radius (True) or minimises the distance (False).

    Raises:
        InputError: its ``run`` does neither.
    """
    while not hasattr(attack, "run") and hasattr(attack, "attack"):  # attack.repeat(times)
        attack = attack.attack
    run = getattr(attack, "run", None)
    names = inspect.signature(run).parameters if callable(run) else {}
    if "epsilon" not in names and "early_stop" not in names:
        came = f"has run({', '.join(names)})" if callable(run) else "has no run"
        raise changed_call(attack, f"{_BOUNDED} or {_MINIMAL}", came)
    return "epsilon" in names


def _check(attack: Any, ball: Ball) -> None:
    """Check that the library's attack can work in the ball."""
    if outer_bounds(ball) is None:
        raise InputError(f"foolbox needs the bounds of the data; got {ball}: give the ball bounds=(low, high)")
    distance = getattr(attack, "distance", None) if is_bounded(attack) else None
    if distance is not None and not same_norm(distance, ball):
        raise InputError(
            f"{described(attack)} measures {distance}, and the ball is {ball}: give a ball of the attack's norm"
        )
    if not callable(attack):
        raise changed_call(attack, _CALL, "cannot be called")


def _ask(attack: Any, query: Query, ball: Ball, epsilon: float | None, *, targeted: bool) -> Tensor:
    """Call a foolbox attack; return its images, which foolbox has not clipped to the radius."""
    from foolbox.criteria import Misclassification, TargetedMisclassification
    from foolbox.models.pytorch import PyTorchModel

    bounds: Any = outer_bounds(ball)
    network = PyTorchModel(query.shell, bounds=bounds, device=query.x.device)
    criterion = (TargetedMisclassification if targeted else Misclassification)(query.y)
    try:
        with translated(attack, _CALL, query.shell):
            answer = attack(network, query.x, criterion, epsilons=epsilon)
    except ValueError as error:
        if str(error) != "unsupported criterion":
            raise
        mend = f"use FoolboxAttack with targeted={not targeted}"
        raise InputError(f"{described(attack)} does not work with targeted={targeted}: {mend}") from error
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        raise changed_call(attack, _CALL, f"returned {type(answer).__name__}")
    return checked(attack, answer[0], query.x)


@dataclass(frozen=True, kw_only=True)
class FoolboxAttack(ForeignAttack):
    """A foolbox attack object, bounded or minimising, as an attack here.

    A bounded attack gets the ball's radius as ``epsilon``; its norm must be the ball's. A minimisation attack may
    have any norm; what it finds is moved into the ball. Bounds that differ by channel reach foolbox as the least and
    the greatest. The result depends on the batch; see :class:`aureole.attacks.adapters.shared.ForeignAttack`.

    Attributes:
        targeted: pull the prediction to ``y`` (foolbox's ``TargetedMisclassification``) instead of away from it.

    Example:
        >>> from aureole.attacks.adapters import FoolboxAttack, as_foolbox
        >>> theirs = as_foolbox(PGD(ball=Linf(0.1)))  # or foolbox.attacks.LinfPGD(steps=20)
        >>> FoolboxAttack(attack=theirs, ball=Linf(0.2)).ball.radius
        0.2
    """

    targeted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.attack, self.ball)

    def _targeted(self) -> bool:
        return self.targeted

    def _perturb(self, query: Query) -> Tensor:
        epsilon = self.ball.radius if is_bounded(self.attack) else None
        return _ask(self.attack, query, self.ball, epsilon, targeted=self.targeted)


@dataclass(frozen=True, kw_only=True)
class FoolboxMinimalAttack(MinimalAttack):
    """A foolbox minimisation attack: the call answers within the radius, :meth:`minimize` at any distance.

    Attributes:
        attack: the library's object.

    Example:
        >>> from aureole.attacks.adapters import FoolboxMinimalAttack, as_foolbox
        >>> FoolboxMinimalAttack(attack=as_foolbox(PGD()), ball=Linf(0.2))  # foolbox.attacks.LinfDeepFoolAttack()
        Traceback (most recent call last):
        aureole.core.errors.InputError: expected a minimisation attack; AsFoolbox of 'aureole' is bounded: use Foolb...
    """

    attack: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.attack, self.ball)
        if is_bounded(self.attack):
            came = described(self.attack)
            raise InputError(f"expected a minimisation attack; {came} is bounded: use FoolboxAttack for it")

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        query = Query(Shell(model, x), self.ball.clip(x).clone(), y.clone(), 0)
        with seeded(streams, x.device), torch.enable_grad():
            x_adv = self.ball.clip(_ask(self.attack, query, self.ball, None, targeted=False))
        fooled = predict(model, x_adv).argmax(-1) != y
        return torch.where(fooled.view(-1, *(1,) * (x.ndim - 1)), x_adv, x)


class _Network(nn.Module):
    """A foolbox model as a module, which knows the network inside so that it can be frozen."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = model if isinstance(model, nn.Module) else _network_of(model)
        self._call = (model,)  # in a tuple, so that it is no submodule

    def forward(self, x: Tensor) -> Any:
        return self._call[0](x)


def _network_of(model: Any) -> nn.Module | None:
    """Return the network that a foolbox model holds in a function, under its wrappers; None where there is none."""
    while model is not None and not inspect.isfunction(model):
        model = getattr(model, "_model", None)
    held = inspect.getclosurevars(model).nonlocals.values() if model is not None else ()
    return next((value for value in held if isinstance(value, nn.Module)), None)


@dataclass(frozen=True)
class AsFoolbox:
    """An attack of this library with the calls of foolbox's; made by :func:`as_foolbox`.

    Attributes:
        attack: the attack; a radius given in a call replaces its ball's, and the model's bounds replace its bounds.
        generator: source of randomness.
    """

    attack: Attack
    generator: torch.Generator | None = None

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float | None = None) -> Any:
        """Return adversarial images, as ``foolbox.attacks.base.FixedEpsilonAttack.run`` does.

        Args:
            model: a foolbox model, or a module.
            inputs: images, a tensor or an eagerpy tensor.
            criterion: labels, ``Misclassification``, or ``TargetedMisclassification`` for a targeted attack.
            epsilon: the radius; None takes the attack's own, and lets an attack that minimises the distance minimise.

        Returns:
            Images of the kind of ``inputs``.

        Raises:
            InputError: the criterion is another, or not that of a targeted or untargeted attack.
        """
        x_adv = self._raw(_Network(model), _raw(inputs), self._labels(criterion), self._ball(model, epsilon), epsilon)
        return _like(inputs, x_adv)

    def __call__(
        self, model: Any, inputs: Any, criterion: Any, *, epsilons: float | Iterable[float | None] | None
    ) -> tuple[Any, Any, Any]:
        """Return (raw, clipped, success), lists where ``epsilons`` is a sequence, as a foolbox attack does."""
        network, x, y = _Network(model), _raw(inputs), self._labels(criterion)
        raws, clips, successes = [], [], []
        for epsilon in epsilons if isinstance(epsilons, Iterable) else [epsilons]:
            ball = self._ball(model, epsilon)
            raw = self._raw(network, x, y, ball, epsilon)
            minimal = epsilon is None and isinstance(self.attack, MinimalAttack)
            clipped = raw if minimal else moved_inside(ball, raw, x)
            raws.append(_like(inputs, raw))
            clips.append(_like(inputs, clipped))
            successes.append(self._success(network, clipped, y))
        if isinstance(epsilons, Iterable):
            return raws, clips, _like(inputs, torch.stack(successes))
        return raws[0], clips[0], _like(inputs, successes[0])

    def _ball(self, model: Any, epsilon: float | None) -> Ball:
        own = self.attack.ball
        low, high = getattr(model, "bounds", None) or (None, None)
        bounds = own.bounds if low is None or high is None else (float(low), float(high))
        return replace(own, radius=own.radius if epsilon is None else float(epsilon), bounds=bounds)

    def _raw(self, network: nn.Module, x: Tensor, y: Tensor, ball: Ball, epsilon: float | None) -> Tensor:
        attack = replace(self.attack, ball=ball)
        call = attack.minimize if isinstance(attack, MinimalAttack) and epsilon is None else attack
        return call(network, x, y, generator=self.generator)

    def _labels(self, criterion: Any) -> Tensor:
        """Return the labels of a criterion: the true ones, or the targets where the attack is targeted."""
        targeted = bool(getattr(self.attack, "targeted", False))
        wanted = "target_classes" if targeted else "labels"
        labels = getattr(criterion, wanted, None)
        if labels is None and not targeted and isinstance(_raw(criterion), Tensor):
            labels = criterion
        if labels is None:
            expected = "TargetedMisclassification" if targeted else "labels or Misclassification"
            raise InputError(
                f"expected {expected} as the criterion of a{' ' if targeted else 'n un'}targeted attack; got"
                f" {type(criterion).__name__}"
            )
        return _raw(labels)

    @torch.no_grad()
    def _success(self, network: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
        with frozen(network):
            hit = predict(network, x_adv).argmax(-1) == y
        return hit if getattr(self.attack, "targeted", False) else ~hit


def _raw(value: Any) -> Any:
    """Return the tensor in an eagerpy tensor, or the value itself."""
    return value if isinstance(value, Tensor) else getattr(value, "raw", value)


def _like(inputs: Any, value: Tensor) -> Any:
    """Return a tensor as the kind of tensor that came in."""
    return value if isinstance(inputs, Tensor) else type(inputs)(value)


def as_foolbox(attack: Attack, *, generator: torch.Generator | None = None) -> AsFoolbox:
    """Return an object with ``run(...)`` and a call that returns (raw, clipped, success), as foolbox's attacks have.

    Args:
        attack: any attack of this library.
        generator: source of its randomness.

    Example:
        >>> from aureole.attacks.adapters import as_foolbox
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))  # or foolbox.PyTorchModel(network, bounds=(0, 1))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> raw, clipped, success = as_foolbox(FGSM())(network, x, y, epsilons=[0.01, 0.1])
        >>> len(raw), success.shape
        (2, torch.Size([2, 2]))
    """
    return AsFoolbox(attack, generator)
