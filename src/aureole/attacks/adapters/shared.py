"""What the adapters share: the model as a library sees it, randomness that leaves no trace, and clear refusals."""

from __future__ import annotations

import random
import re
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks.base import Attack
from aureole.core import checks
from aureole.core.balls import Ball
from aureole.core.errors import InputError, UntrustedResult, first_line
from aureole.core.model import predict, searched
from aureole.core.random import Streams, mix_seed, streams_for

LIBRARIES = ("foolbox", "torchattacks", "art")
_CHANGED_CALL = re.compile(
    r"unexpected keyword argument|required (positional|keyword-only) argument|positional arguments? but"
)


class Shell(nn.Module):
    """A model as a library sees it: a function from images to logits, in evaluation mode whatever is asked of it.

    The library reaches neither the parameters nor the modes of the model: it cannot train, move or zero anything. One
    empty parameter says on which device the model is.

    Args:
        model: any model, also one that returns an object with ``.logits``.
        x: images as the model wants them; what comes in is cast to their type.
    """

    def __init__(self, model: nn.Module, x: Float[Tensor, "batch *event"]) -> None:
        super().__init__()
        self.mark = nn.Parameter(x.new_empty(0), requires_grad=False)
        self.error: Exception | None = None
        self._logits = lambda rows: predict(model, rows.to(x.dtype))  # a closure: no submodule
        self.eval()

    def forward(self, x: Float[Tensor, "rows *event"]) -> Float[Tensor, "rows classes"]:
        """Return the logits of the images."""
        try:
            return self._logits(x)
        except Exception as error:
            self.error = error
            raise


class Query(NamedTuple):
    """What a foreign attack is asked: the model in its shell, images inside the bounds, labels."""

    shell: Shell
    x: Float[Tensor, "batch *event"]
    y: Int[Tensor, " batch"]
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class ForeignAttack(Attack):
    """An attack object of another library as an attack of this one.

    The model given in the call is attacked, whichever the object holds. The library draws from global generators: they
    are seeded from the first image's stream and put back afterwards, so that a result repeats, but depends on the other
    images of the batch. What the library returns is projected on the ball and the bounds.

    Attributes:
        attack: the library's object.
        ball: where the adversarial images lie.
    """

    attack: Any

    @abstractmethod
    def _perturb(self, query: Query) -> object:
        """Let the library attack; return what it returned."""

    def _targeted(self) -> bool:
        """Say whether the labels of a call are the classes to reach."""
        return bool(getattr(self.attack, "targeted", False))

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images; see :class:`aureole.attacks.base.Attack`."""
        checks.check_call(model, x, y, self.ball)
        checks.check_target(y, targeted=self._targeted())
        streams = streams_for(x, generator)
        with searched(model, x) as images:
            clean = predict(model, images)
            y = clean.argmax(-1) if y is None else y.long()
            checks.check_classes(y, clean.shape[1])
            query = Query(Shell(model, images), self.ball.clip(images).clone(), y.clone(), clean.shape[1])
            with seeded(streams, images.device), torch.enable_grad():
                found = self._perturb(query)
            return moved_inside(self.ball, checked(self.attack, found, images), images)


@contextmanager
def seeded(streams: Streams, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python from the first stream; put them back afterwards."""
    seed = mix_seed(int(streams.keys[0]), streams.draws)
    streams.draws += 1
    generators = [torch.default_generator]
    if device.type != "cpu":
        ours = getattr(torch.get_device_module(device), "default_generators", ())
        generators += ours[device.index or 0 : (device.index or 0) + 1]
    states = [generator.get_state() for generator in generators]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 (what libraries draw from)
    try:
        for generator in generators:
            generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextmanager
def swapped(changes: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes of objects, and put the old values back afterwards."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, value in changes:
            old = getattr(owner, name)
            setattr(owner, name, value)
            before.append((owner, name, old))
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def reachable(start: object, wanted: Callable[[object], bool]) -> list[Any]:
    """Return ``start`` and every wanted object that its attributes, or those of another wanted one, hold."""
    found, queue = [start], [start]
    while queue:
        todo = list(getattr(queue.pop(), "__dict__", {}).values())
        while todo:
            value = todo.pop()
            if isinstance(value, list | tuple):
                todo.extend(value)
            elif isinstance(value, dict):
                todo.extend(value.values())
            elif wanted(value) and not any(value is other for other in found):
                found.append(value)
                queue.append(value)
    return found


def library_of(attack: object) -> str | None:
    """Return the name of the library that an object, or a class that it inherits from, comes from; None if none."""
    roots = [cls.__module__.partition(".")[0] for cls in type(attack).__mro__]
    return next((root for root in roots if root in LIBRARIES), None)


def described(attack: object) -> str:
    """Return the class of an object, and its library with the version, for a message.

    Example:
        >>> described(nn.Flatten())
        "Flatten of 'torch'"
    """
    library = library_of(attack)
    if library is None:
        return f"{type(attack).__name__} of {type(attack).__module__.partition('.')[0]!r}"
    version = getattr(sys.modules.get(library), "__version__", "of an unknown version")
    return f"{type(attack).__name__} of {library} {version}"


def changed_call(attack: object, expected: str, came: str) -> InputError:
    """Return the error for an object whose library calls its attacks in another way than the adapter knows."""
    return InputError(
        f"expected an attack object with the call {expected}; {described(attack)} {came}: install a version of the"
        " library with this call, or write a callable (model, x, y, *, generator) -> x_adv with a ball"
    )


@contextmanager
def translated(attack: object, expected: str, shell: Shell) -> Iterator[None]:
    """Turn the TypeError of a changed signature into one clear line; what the model itself raises passes."""
    try:
        yield
    except TypeError as error:
        if error is shell.error or not _CHANGED_CALL.search(str(error)):
            raise
        raise changed_call(attack, expected, f"answered {first_line(error)!r}") from error


def checked(attack: object, found: object, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
    """Return what a library returned as images of the type and on the device of ``x``.

    Raises:
        InputError: it is no floating tensor of the shape of ``x``, or not finite.
    """
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.shape != x.shape:
        kind = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"an attack must return floating images of shape {tuple(x.shape)}; {described(attack)} returned {kind}:"
            " set its options so that it returns images, one for each that came in"
        )
    if not bool(found.isfinite().all()):
        bad = int((~found.isfinite()).flatten(1).any(1).sum())
        raise InputError(
            f"{described(attack)} returned values that are NaN or infinite for {bad} of {len(x)} images: a library that"
            " divides by a zero gradient does so; choose another attack"
        )
    return found.detach().to(x)


def moved_inside(
    ball: Ball, x_adv: Float[Tensor, "batch *event"], x: Float[Tensor, "batch *event"]
) -> Float[Tensor, "batch *event"]:
    """Return the images projected on the ball and the bounds; those inside are kept to the bit."""
    near = (ball.distance(x_adv, x) <= ball.radius) & (ball.clip(x_adv) == x_adv).flatten(1).all(1)
    return torch.where(near.view(-1, *(1,) * (x.ndim - 1)), x_adv, ball.project(x_adv, x))


def warn_radius(attack: object, ball: Ball) -> None:
    """Warn where an object's own ``eps`` is not the radius: it cannot be told another."""
    own = getattr(attack, "eps", None)
    if not isinstance(own, int | float | np.ndarray | np.generic):
        return
    own = float(np.max(own))
    if abs(own - ball.radius) <= 1e-6 * max(own, ball.radius):
        return
    effect = (
        "what it finds outside the ball is moved inside, which weakens it"
        if own > ball.radius
        else "it looks only in a part of the ball, so the radius of the ball is not what is tested"
    )
    warnings.warn(
        f"the eps of {described(attack)} is {own:.6g} and the radius of the ball {ball.radius:.6g}: {effect};"
        " make them equal",
        UntrustedResult,
        stacklevel=4,
    )


def outer_bounds(ball: Ball) -> tuple[float, float] | None:
    """Return the least and the greatest value of the data over all channels; None for unbounded data."""
    return None if ball.bounds is None else (float(np.min(ball.bounds[0])), float(np.max(ball.bounds[1])))


def same_norm(distance: Callable[[Tensor, Tensor], Any], ball: Ball) -> bool:
    """Say whether a distance (reference, perturbed) measures as the ball does, on a vector where norms differ."""
    origin, away = torch.zeros(1, 2), torch.tensor([[0.3, 0.4]])
    return abs(float(distance(origin, away)) - float(ball.distance(away, origin))) < 1e-4
