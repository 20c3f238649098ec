"""What comes in at the door of a search or an attack: checked once, with one clear line for each misuse."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.core.balls import Ball
from aureole.core.errors import InputError, UntrustedResult


def check_images(x: Tensor, ball: Ball) -> None:
    """Check that ``x`` is a non-empty batch of finite floating images inside the bounds of the data.

    Raises:
        InputError: it is not; the message says what was expected, what came and the mend.

    Example:
        >>> from aureole.core.balls import Linf
        >>> check_images(torch.full((1, 1, 2, 2), 255.0), Linf(0.1))
        Traceback (most recent call last):
        aureole.core.errors.InputError: images must lie in the bounds (0.0, 1.0); they range from 255 to 255: scale ...
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"images must be a floating-point tensor; got {kind}: convert with x.float() / 255")
    if x.ndim < 2 or x.numel() == 0:
        raise InputError(f"images must have the shape (batch, *event) and not be empty; got {tuple(x.shape)}")
    limits = ball.limits(x)
    if limits is not None and limits[0].ndim and (x.ndim < 4 or x.shape[-3] != len(limits[0])):
        raise InputError(f"the bounds name {len(limits[0])} channels; the images have the shape {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise InputError(f"images must be finite; {int((~x.isfinite()).sum())} values are NaN or infinite")
    slack = 1e-6
    if limits is not None and not bool(((x >= limits[0] - slack) & (x <= limits[1] + slack)).all()):
        raise InputError(
            f"images must lie in the bounds {ball.bounds}; they range from {x.min():.6g} to {x.max():.6g}: scale them,"
            " and normalise inside the model"
        )


def check_labels(y: Tensor, x: Float[Tensor, "batch *event"]) -> None:
    """Check that ``y`` holds one integer class an image, on the same device.

    Raises:
        InputError: it does not.
    """
    if not isinstance(y, Tensor) or y.dtype not in (torch.int64, torch.int32):
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"labels must be an int64 tensor of class numbers; got {kind}")
    if y.shape != x.shape[:1]:
        raise InputError(f"expected one label an image, shape ({len(x)},); got {tuple(y.shape)}")
    if y.device != x.device:
        raise InputError(f"images are on {x.device} and labels on {y.device}: move them to one device")


def check_device(model: nn.Module, x: Float[Tensor, "batch *event"]) -> None:
    """Check that the model is a module whose parameters lie on the device of the images.

    Raises:
        InputError: it is not.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module; got {type(model).__name__}: wrap it in one")
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device != x.device:
        raise InputError(f"the model is on {parameter.device} and the images on {x.device}: move one of them")


def check_call(model: nn.Module, x: Tensor, y: Tensor | None, ball: Ball) -> None:
    """Check what an attack or a search is called with: images, the model's device, and labels where there are any.

    Raises:
        InputError: one is not as :func:`check_images`, :func:`check_device` and :func:`check_labels` want it.
    """
    check_images(x, ball)
    check_device(model, x)
    if y is not None:
        check_labels(y, x)


def check_target(y: Tensor | None, *, targeted: bool) -> None:
    """Check that a targeted attack is told the classes to reach.

    Raises:
        InputError: it is not.
    """
    if targeted and y is None:
        raise InputError("a targeted attack needs y, the class to reach for each image; none was given")


def check_classes(y: Int[Tensor, "batch *positions"], num_classes: int) -> None:
    """Check that every label is a class of the model.

    Raises:
        InputError: one is not.
    """
    if not bool(((y >= 0) & (y < num_classes)).all()):
        raise InputError(f"labels must be from 0 to {num_classes - 1}; they range from {y.min()} to {y.max()}")


def check_batch_classes(y: Int[Tensor, " batch"], num_classes: int, step: int) -> None:
    """Check as :func:`check_classes` does; off the CPU, where a look at values stalls, in the first step of an epoch.

    Raises:
        InputError: a label is not a class of the model.
    """
    if y.device.type == "cpu" or step == 0:
        check_classes(y, num_classes)


def check_weight(name: str, weight: float | int) -> None:
    """Check the weight of a term.

    Raises:
        InputError: it is negative or not finite.
    """
    if not 0 <= weight < math.inf:
        raise InputError(f"{name} must be at least 0 and finite; got {weight}")


def check_positive(name: str, value: float | int) -> None:
    """Check a temperature, or the parameter of a Beta distribution.

    Raises:
        InputError: it is not positive and finite.
    """
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be positive and finite; got {value}")


def check_share(name: str, value: float | int) -> None:
    """Check a probability.

    Raises:
        InputError: it is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be in [0, 1]; got {value}")


def warn_training(model: nn.Module) -> None:
    """Warn that a model is in training mode, where its batch normalisation and dropout differ from what is deployed."""
    warnings.warn(
        f"the model ({type(model).__name__}) was in training mode; it is attacked in evaluation mode: call model.eval()"
        " to say that this is meant",
        UntrustedResult,
        stacklevel=4,
    )


def warn_softmax(logits: Float[Tensor, "batch classes *positions"]) -> None:
    """Warn where a model's output looks like probabilities: attacks on a second softmax are weak."""
    sums = logits.sum(1)
    if bool((logits.min() > -1e-5) & ((sums - 1).abs() < 1e-5).all()):
        warnings.warn(
            "the model's outputs look like probabilities (non-negative, each row sums to 1); attacks need logits:"
            " remove the softmax from the model",
            UntrustedResult,
            stacklevel=3,
        )


def warn_zero_gradient(gradient: Float[Tensor, "rows *event"], standing: Bool[Tensor, " rows"]) -> None:
    """Warn where images that still stand get no gradient at all: the model hides its gradients, or saturates."""
    warn_zero_gradient_count(int(((gradient.flatten(1).abs().amax(-1) == 0) & standing).sum()), len(gradient))


def warn_zero_gradient_count(zero: int, total: int) -> None:
    """Warn that so many of the images got no gradient; silent where none did."""
    if zero:
        warnings.warn(
            f"the gradient is zero for {zero} of {total} images: gradient attacks cannot move them, so their robustness"
            " is not shown (try DLR or Margin as the objective, or an attack without gradients)",
            UntrustedResult,
            stacklevel=4,
        )
