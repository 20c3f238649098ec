"""A model during a search: no gradient for its parameters, in the mode that was asked for, and left as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name

Mode = Literal["eval", "batch_statistics"]


def logits_of(
    output: object, rows: int | None = None, *, positions: bool = False
) -> Float[Tensor, "rows classes *positions"]:
    """Return the logits in what a model returned, in float32 or better.

    Args:
        output: a tensor of shape (rows, classes), or an object with such a tensor as ``.logits`` (as the models of
            ``transformers`` return).
        rows: the number of images that went in.
        positions: the model gives logits of each position, as in segmentation: (rows, classes, *positions).

    Raises:
        InputError: there are no logits in it, or they have another shape.

    Example:
        >>> logits_of(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the model must return logits of shape (batch, classes), or an object with .logits; it returned"
            f" {_described(output)}: wrap it in a module that picks them"
        )
    if (
        (logits.ndim > 2) is not positions
        or logits.ndim < 2
        or logits.shape[1] < 2
        or len(logits) != (rows or len(logits))
    ):
        shape = f"({rows or 'batch'}, classes >= 2{', *positions' if positions else ''})"
        raise InputError(f"expected logits of shape {shape}; got {tuple(logits.shape)}")
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _described(output: object) -> str:
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"an object of type {type(output).__name__}"


def predict(
    model: nn.Module, x: Float[Tensor, "rows *event"], *, positions: bool = False
) -> Float[Tensor, "rows classes *positions"]:
    """Return the model's logits on ``x``, checked and in float32 or better; of each position where that is asked."""
    return logits_of(model(x), len(x), positions=positions)


@contextmanager
def frozen(model: nn.Module, mode: Mode = "eval") -> Iterator[nn.Module]:
    """Freeze a model for a search, and put everything back afterwards, also after an exception.

    Inside, no parameter asks for a gradient, so that a backward pass computes input gradients alone. Afterwards the
    mode of every submodule, ``requires_grad`` and the buffers are as they were; so is the global random state, from
    which dropout in training mode draws.

    Args:
        model: any module.
        mode: ``"eval"`` is evaluation mode. ``"batch_statistics"`` keeps each submodule's mode, so that batch
            normalisation in training mode uses the statistics of the batch, but updates no running statistics.

    Yields:
        The model itself.

    Raises:
        InputError: there is no such mode.
    """
    if mode not in get_args(Mode):
        raise unknown_name("mode", str(mode), get_args(Mode))
    modes = [(module, module.training) for module in model.modules()]
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        if mode == "eval":
            for module, _ in modes:
                module.training = False
            yield model
        else:
            with _without_trace(model):
                yield model
    finally:
        for module, training in modes:
            module.training = training
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def searched(
    model: nn.Module, x: Float[Tensor, "batch *event"], mode: Mode = "eval"
) -> Iterator[Float[Tensor, "batch *event"]]:
    """Freeze a model as :func:`frozen` does, without gradients, and yield images that autograd can follow.

    It works inside ``torch.inference_mode`` too, whose tensors autograd refuses.
    """
    with torch.inference_mode(False), torch.no_grad(), frozen(model, mode):
        yield x.clone() if x.is_inference() else x.detach()


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let batch normalisations in training mode use the batch's statistics, and leave their running ones alone."""
    tracking: list[Any] = [m for m in model.modules() if m.training and getattr(m, "track_running_stats", False)]
    try:
        for module in tracking:
            module.track_running_stats = False
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


@torch.no_grad()
def quiet(
    model: nn.Module, x: Float[Tensor, "rows *event"], *, positions: bool = False
) -> Float[Tensor, "rows classes *positions"]:
    """Return logits without gradient, and without a trace in the running statistics; arguments as :func:`predict`."""
    with statistics_kept(model):
        return predict(model, x, positions=positions)


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Put the global random state back at the end: a model that is random draws from it."""
    on_cpu = device.type == "cpu"
    return torch.random.fork_rng([] if on_cpu else [device.index or 0], device_type="cuda" if on_cpu else device.type)


@contextmanager
def _without_trace(model: nn.Module) -> Iterator[None]:
    """Let a model run in training mode, and put its buffers and the global random state back."""
    tracking = [m for m in model.modules() if m.training and getattr(m, "track_running_stats", False)]
    saved = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type != "cpu"}
    kind = next(iter(devices)).type if devices else "cuda"
    with torch.random.fork_rng([device.index or 0 for device in devices], device_type=kind):
        try:
            _track(tracking, False)
            yield
        finally:
            _track(tracking, True)
            for buffer, value in saved:
                buffer.data.copy_(value)  # not seen by autograd: graphs built before the search stay valid


def _track(modules: list[Any], tracked: bool) -> None:
    """Let normalisations update their running statistics, or not."""
    for module in modules:
        module.track_running_stats = tracked
