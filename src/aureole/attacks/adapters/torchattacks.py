"""Torchattacks (Kim 2020): its attack objects here, and ours called the way torchattacks calls its own.

Such an object holds its network and its radius: the network is exchanged for the length of a call, also in the attacks
that it is made of; the radius cannot be told, so one that is not the ball's is warned of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks.adapters.shared import (
    ForeignAttack,
    Query,
    changed_call,
    described,
    outer_bounds,
    reachable,
    swapped,
    translated,
    warn_radius,
)
from aureole.attacks.base import Attack
from aureole.core.errors import InputError

_CALL = "attack(images, labels) -> images, with its network as attack.model"


def _is_attack(value: object) -> bool:
    """Say whether a part of an attack is itself one, with a network to exchange."""
    held = getattr(value, "__dict__", {}).get("model")  # not a property, which could not be exchanged
    return callable(value) and isinstance(held, nn.Module)


@dataclass(frozen=True, kw_only=True)
class TorchattacksAttack(ForeignAttack):
    """A torchattacks attack object as an attack here.

    Torchattacks takes images in [0, 1]; normalisation belongs into the model, so an object that normalises itself
    (``set_normalization_used``) is refused. The result depends on the batch; see
    :class:`aureole.attacks.adapters.shared.ForeignAttack`.

    Example:
        >>> from aureole.attacks.adapters import TorchattacksAttack, as_torchattacks
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> theirs = as_torchattacks(PGD(ball=Linf(0.1)), model)  # or torchattacks.PGD(model, eps=0.1)
        >>> attack = TorchattacksAttack(attack=theirs, ball=Linf(0.1))
        >>> attack(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_attack(self.attack):
            raise changed_call(self.attack, _CALL, "has no network as .model, or cannot be called")
        low, high = outer_bounds(self.ball) or (-1, 2)
        if low < 0 or high > 1:
            raise InputError(
                f"torchattacks works on images in [0, 1]; got {self.ball}: scale the images, and normalise in the model"
            )
        if any(getattr(part, "normalization_used", None) for part in self._parts()):
            raise InputError(
                f"{described(self.attack)} normalises images itself (set_normalization_used), but the model of a call"
                " takes them in the bounds of the ball: put the normalisation into the model, and make the attack anew"
            )
        warn_radius(self.attack, self.ball)

    def _parts(self) -> list[Any]:
        return reachable(self.attack, _is_attack)

    def _targeted(self) -> bool:
        mode = getattr(self.attack, "attack_mode", "targeted(label)")  # other modes choose the targets themselves
        return super()._targeted() and mode == "targeted(label)"

    def _perturb(self, query: Query) -> object:
        exchange = {"model": query.shell, "device": query.x.device}
        changes = [
            (part, name, value) for part in self._parts() for name, value in exchange.items() if name in vars(part)
        ]
        with swapped(changes), translated(self.attack, _CALL, query.shell):
            return self.attack(query.x, query.y)


@dataclass(eq=False)
class AsTorchattacks:
    """An attack of this library with the call of torchattacks's; made by :func:`as_torchattacks`.

    Attributes:
        source: the attack.
        model: the network that is attacked.
        generator: source of randomness.
    """

    source: Attack
    model: nn.Module
    generator: torch.Generator | None = None

    @property
    def eps(self) -> float:
        """The radius of the ball."""
        return self.source.ball.radius

    @property
    def targeted(self) -> bool:
        """Whether the labels of a call are the classes to reach."""
        return bool(getattr(self.source, "targeted", False))

    @property
    def device(self) -> torch.device | None:
        """Where the network is; None where it has no parameters."""
        return next((parameter.device for parameter in self.model.parameters()), None)

    def forward(
        self, images: Float[Tensor, "batch *event"], labels: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images on the device of the network, wherever the images come from."""
        device = self.device or images.device
        labels = None if labels is None else labels.to(device)
        return self.source(self.model, images.to(device), labels, generator=self.generator)

    def __call__(
        self, images: Float[Tensor, "batch *event"], labels: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images."""
        return self.forward(images, labels)


def as_torchattacks(attack: Attack, model: nn.Module, *, generator: torch.Generator | None = None) -> AsTorchattacks:
    """Return a callable ``(images, labels) -> images`` that holds its network, as a torchattacks attack does.

    Args:
        attack: any attack of this library; where it is targeted, the labels of a call are the targets.
        model: the network to attack.
        generator: source of randomness.

    Example:
        >>> from aureole.attacks.adapters import as_torchattacks
        >>> attack = as_torchattacks(PGD(ball=Linf(0.1)), nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
        >>> attack(torch.rand(2, 1, 2, 2), torch.tensor([0, 2])).shape, attack.eps
        (torch.Size([2, 1, 2, 2]), 0.1)
    """
    return AsTorchattacks(attack, model, generator)
