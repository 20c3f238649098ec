"""Whether an evaluation can be believed: the checks of AutoAttack, as warnings in plain words.

Each says what was seen, why it makes the result doubtful, and what to do. They stop nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import UntrustedResult
from aureole.core.model import predict


def _warn(message: str) -> None:
    warnings.warn(message, UntrustedResult, stacklevel=5)


@torch.no_grad()
def warn_randomised(model: nn.Module, x: Float[Tensor, "batch *event"], num_passes: int = 5) -> None:
    """Warn where the same images give different logits: directions differ by more than 1e-4, or a prediction does."""
    logits = [predict(model, x) for _ in range(num_passes)]
    units = [z / (z.norm(dim=-1, keepdim=True) + 1e-10) for z in logits]
    apart = max(float((u - units[0]).norm(dim=-1).max()) for u in units)
    if apart > 1e-4 or any(not torch.equal(z.argmax(-1), logits[0].argmax(-1)) for z in logits):
        _warn(
            "the model is random: the same images gave different logits (up to"
            f" {apart:.2g} apart), so that one gradient tells little; use AutoAttack(version='rand')"
        )


def warn_dynamic(model: nn.Module, x: Float[Tensor, "batch *event"]) -> None:
    """Warn where a forward pass computes gradients of its own: such a defence adapts to its input."""
    with _gradients_counted() as calls, torch.enable_grad():
        model(x)
    if calls:
        _warn(
            "the model computes gradients inside its forward pass: a defence that adapts to its input may look robust"
            " to AutoAttack and not be; an attack made for it is needed"
        )


@contextmanager
def _gradients_counted() -> Iterator[list[str]]:
    """Note every call of ``torch.autograd.grad`` and of ``backward``."""
    calls: list[str] = []
    places: list[tuple[Any, str]] = [(torch.autograd, "grad"), (torch.autograd, "backward"), (torch.Tensor, "backward")]
    kept = [getattr(owner, name) for owner, name in places]

    def noted(function: Any, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return function(*args, **kwargs)

        return call

    try:
        for (owner, name), function in zip(places, kept, strict=True):
            setattr(owner, name, noted(function, name))
        yield calls
    finally:
        for (owner, name), function in zip(places, kept, strict=True):
            setattr(owner, name, function)


def warn_square(standing: dict[str, int], num_points: int) -> None:
    """Warn where Square, which sees no gradient, fooled more than 0.2 % of the points that gradient attacks left.

    Args:
        standing: points that stood after each attack, in order, ``"clean"`` first.
        num_points: all points.
    """
    names = list(standing)
    if "square" not in names or len(names) < 3:
        return
    fell = standing[names[names.index("square") - 1]] - standing["square"]
    if fell > 0.002 * num_points:
        _warn(
            f"Square, which sees no gradient, fooled {fell} of {num_points} images that the gradient attacks left"
            " standing: gradients of this model mislead, so its robustness is overstated; run Square with more queries"
            " and restarts, or an attack made for this model"
        )


def warn_few_classes(name: str, needed: int, num_classes: int) -> None:
    """Warn that a member's loss needs more classes than the model has, and what runs in its place."""
    _warn(
        f"{name} needs {needed} classes and the model has {num_classes}: APGD on the margin runs in its place, so this"
        " is not the standard ensemble"
    )
