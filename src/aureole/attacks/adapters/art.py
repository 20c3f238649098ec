"""The Adversarial Robustness Toolbox (Nicolae et al. 2018): its attack objects here, and ours called the way it does.

Such an object holds an estimator, and some hold several. For the length of a call each gets the model of the call, its
device, and the bounds of the ball as clip values; what the estimator's own network is plays no part. The radius cannot
be told, so one that is not the ball's is warned of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Num, Shaped
from torch import Tensor, nn

from aureole.attacks.adapters.shared import (
    ForeignAttack,
    Query,
    changed_call,
    described,
    reachable,
    same_norm,
    swapped,
    translated,
    warn_radius,
)
from aureole.attacks.base import Attack
from aureole.core.balls import Ball
from aureole.core.errors import InputError

_CALL = "attack.generate(x=array, y=array) -> array"
_WANT_TARGETS = {"SaliencyMapMethod", "TargetedUniversalPerturbation", "LowProFool"}
Array = np.ndarray


def _is_estimator(value: object) -> bool:
    return callable(getattr(value, "predict", None)) and hasattr(value, "model")


def _estimators(attack: object) -> list[Any]:
    """Return the estimators of an attack and of the attacks that it is made of."""
    parts = reachable(attack, lambda value: _is_estimator(value) or callable(getattr(value, "generate", None)))
    return [part for part in parts if _is_estimator(part)]


def _check_estimator(estimator: Any) -> None:
    """Check that an estimator is a PyTorch classifier that changes neither images nor predictions."""
    wrapper = getattr(estimator, "_model", None)
    if not isinstance(wrapper, nn.Module) or not isinstance(getattr(wrapper, "_model", None), nn.Module):
        raise InputError(f"the estimator must be a PyTorchClassifier of art; got {described(estimator)}")
    scale = getattr(estimator, "preprocessing", None)
    mean, std = (0, 1) if scale is None else (getattr(scale, name, np.nan) for name in ("mean", "std"))
    plain = bool(np.all(np.asarray(mean) == 0) and np.all(np.asarray(std) == 1))
    defences = ("preprocessing_defences", "postprocessing_defences")
    if not plain or any(getattr(estimator, name, None) for name in defences):
        raise InputError(
            f"the estimator {described(estimator)} changes images or predictions outside the model (preprocessing or"
            " defences): put that into the model, and make the estimator anew"
        )


@dataclass(frozen=True, kw_only=True)
class ARTAttack(ForeignAttack):
    """An attack object of the Adversarial Robustness Toolbox as an attack here.

    Images travel as float32 arrays, whatever their type and device. Attacks whose labels are always targets, such as
    ``SaliencyMapMethod``, get none, and choose the targets themselves. The result depends on the batch, see
    :class:`aureole.attacks.adapters.shared.ForeignAttack`; that of the few attacks which draw from an unseeded
    generator of their own (``HopSkipJump``, ``BoundaryAttack``, ``BrendelBethgeAttack``) does not repeat.

    Example:
        >>> from aureole.attacks.adapters import ARTAttack
        >>> ARTAttack(attack=PGD(), ball=Linf(0.1))  # art.attacks.evasion.FastGradientMethod(classifier, eps=0.1)
        Traceback (most recent call last):
        aureole.core.errors.InputError: expected an attack object with the call attack.generate(x=array, y=array) -> ...
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(getattr(self.attack, "generate", None)):
            raise changed_call(self.attack, _CALL, "has no generate")
        estimators = _estimators(self.attack)
        if not estimators:
            raise changed_call(self.attack, f"{_CALL}, with its classifier as attack.estimator", "holds no estimator")
        for estimator in estimators:
            _check_estimator(estimator)
        _check_norm(self.attack, self.ball)
        warn_radius(self.attack, self.ball)

    def _perturb(self, query: Query) -> object:
        labels = nn.functional.one_hot(query.y, query.num_classes).cpu().numpy().astype(np.float32)
        if any(cls.__name__ in _WANT_TARGETS for cls in type(self.attack).__mro__):
            labels = None
        with self._aimed(query), translated(self.attack, _CALL, query.shell):
            found = self.attack.generate(x=query.x.float().cpu().numpy(), y=labels)
        numeric = isinstance(found, np.ndarray) and np.issubdtype(found.dtype, np.number)
        return torch.from_numpy(np.ascontiguousarray(found)) if numeric else found

    @contextmanager
    def _aimed(self, query: Query) -> Iterator[None]:
        """Aim every estimator at the model of the call."""
        estimators = _estimators(self.attack)
        for estimator in estimators:
            classes, shape = getattr(estimator, "nb_classes", None), getattr(estimator, "input_shape", None)
            if (classes or query.num_classes) != query.num_classes or tuple(
                shape or query.x.shape[1:]
            ) != query.x.shape[1:]:
                raise InputError(
                    f"the estimator of {described(self.attack)} is for {classes} classes and images of shape {shape};"
                    f" the model has {query.num_classes} and the images {tuple(query.x.shape[1:])}: make it for these"
                )
        inside = {"_device": query.x.device, "_clip_values": _clip_values(self.ball), "preprocessing_operations": []}
        changes = [(e, name, value) for e in estimators for name, value in inside.items() if hasattr(e, name)]
        changes += [(e._model, "training", e._model.training) for e in estimators]
        changes += [(e._model, "_model", query.shell) for e in estimators]
        with swapped(changes):
            yield


def _check_norm(attack: Any, ball: Ball) -> None:
    """Check that an attack with a radius of its own measures it as the ball does."""
    norm = getattr(attack, "norm", None)
    if norm is None or not hasattr(attack, "eps"):
        return
    try:
        order = float(norm)  # also of the word "inf"
    except ValueError:
        order = np.nan
    if not same_norm(lambda x, x_adv: np.linalg.norm((x_adv - x)[0].numpy(), ord=order), ball):
        raise InputError(
            f"{described(attack)} has the norm {norm}, and the ball is {ball}: give a ball of the attack's norm"
        )


def _clip_values(ball: Ball) -> Array | None:
    """Return the bounds as clip values: two numbers, or two arrays that broadcast over the channels."""
    limits = ball.limits(torch.zeros(1))
    return None if limits is None else np.stack([limit.numpy() for limit in limits]).astype(np.float32)


@dataclass(frozen=True)
class AsART:
    """An attack of this library with the call of an evasion attack of art; made by :func:`as_art`.

    Attributes:
        attack: the attack; the clip values of the estimator, where it has any, replace the bounds of its ball.
        estimator: the ``PyTorchClassifier`` whose model is attacked.
        generator: source of randomness.
    """

    attack: Attack
    estimator: Any
    generator: torch.Generator | None = None

    @property
    def targeted(self) -> bool:
        """Whether the labels of a call are the classes to reach."""
        return bool(getattr(self.attack, "targeted", False))

    def generate(self, x: Num[Array, "batch *event"], y: Shaped[Array, "..."] | None = None) -> Float32[Array, "..."]:
        """Return adversarial images.

        Args:
            x: images of shape (batch, *event) in the clip values of the estimator.
            y: labels (for a targeted attack: the targets), integers of shape (batch,) or (batch, 1), or one-hot of
                shape (batch, classes); None attacks the model's own predictions.

        Returns:
            Images of the shape of ``x``, in float32.

        Raises:
            InputError: as the attack does.
        """
        images = torch.tensor(x, dtype=torch.float32, device=_device(self.estimator))
        ball, clips = self.attack.ball, getattr(self.estimator, "clip_values", None)
        if clips is not None:
            ball = replace(ball, bounds=(float(np.min(clips[0])), float(np.max(clips[1]))))
        attack = replace(self.attack, ball=ball)
        labels = None if y is None else _class_numbers(y).to(images.device)
        return attack(self.estimator.model, images, labels, generator=self.generator).float().cpu().numpy()


def _device(estimator: Any) -> torch.device:
    """Return the device of an estimator's model."""
    return next((p.device for p in estimator.model.parameters()), torch.device("cpu"))


def _class_numbers(y: Shaped[Array, "..."]) -> Tensor:
    """Return labels as class numbers, whether they came so or one-hot."""
    y = np.asarray(y)
    if y.ndim == 2:
        y = y.argmax(1) if y.shape[1] > 1 else y[:, 0]
    return torch.from_numpy(y.astype(np.int64))


def as_art(attack: Attack, estimator: Any, *, generator: torch.Generator | None = None) -> AsART:
    """Return an object with ``generate(x, y) -> array``, as the evasion attacks of art have it.

    Args:
        attack: any attack of this library.
        estimator: the ``art.estimators.classification.PyTorchClassifier`` to attack, without preprocessing.
        generator: source of randomness.

    Raises:
        InputError: the estimator is no PyTorch classifier, or changes images or predictions outside its model.

    Example:
        >>> from aureole.attacks.adapters import as_art
        >>> as_art(PGD(ball=Linf(0.1)), estimator="classifier")
        Traceback (most recent call last):
        aureole.core.errors.InputError: the estimator must be a PyTorchClassifier of art; got str of 'builtins'
    """
    _check_estimator(estimator)
    return AsART(attack, estimator, generator)
